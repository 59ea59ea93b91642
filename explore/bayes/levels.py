"""Grids of t over which posteriors are computed. Depends on schedules and values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from explore.schedules import Schedule
from explore.values import whole_number

Function = Callable[[Tensor], Tensor]  # of t, elementwise

SIGMA_LEAST = 1e-6  # at t = 0 sigma is 0, and a point mass would divide by it


class Levels:
    """Cells of t and their prior probabilities; every sum over t runs over them.

    Attributes:
        t, alpha, sigma: (T,) float64, at the cells' midpoints; sigma is above 0.
        log_mass: (T,) log of the cells' prior probabilities.
        prior: A description of p(t).
    """

    def __init__(
        self, schedule: Schedule, edges: Tensor, density: Function | None = None, words: str = "uniform", split: int = 1
    ) -> None:
        """Checks the cells and their density.

        Args:
            schedule: The noise path.
            edges: (T + 1,) in [0, 1], increasing.
            density: p(t) up to a factor; uniform by default.
            words: A description of ``density``.
            split: Cells near the mode of a posterior are split into so many parts; 1 for none.

        Raises:
            ValueError: For edges out of order or range, or a density that is invalid or has no description.
        """
        if edges.ndim != 1 or len(edges) < 2 or edges[0] < 0 or edges[-1] > 1 or not (edges.diff() > 0).all():
            raise ValueError("edges of t must be at least 2 numbers in [0, 1], increasing")
        if (density is None) != (words == "uniform"):
            raise ValueError("a density of t needs a description (words)")
        self.schedule, self.edges, self.density, self.words, self.split = schedule, edges.double(), density, words, split
        self.t = (self.edges[1:] + self.edges[:-1]) / 2
        self.alpha, self.sigma = schedule.alpha(self.t), schedule.sigma(self.t).clamp_min(SIGMA_LEAST)
        mass = self.edges.diff() * (1.0 if density is None else checked(density(self.t), "density of t"))
        self.log_mass = (mass / mass.sum()).log()
        self.prior = f"t {words} on ({edges[0]:.3g}, {edges[-1]:.3g})"

    @classmethod
    def midpoints(cls, schedule: Schedule, count: int = 300, density: Function | None = None, words: str = "uniform") -> Levels:
        """``count`` equal cells of (0, 1), each represented by its midpoint."""
        count = whole_number("count", count, 1)
        return cls(schedule, torch.linspace(0, 1, count + 1, dtype=torch.float64), density, words)

    @classmethod
    def points(cls, schedule: Schedule, t: Tensor) -> Levels:
        """Exactly the values ``t`` (T,) in (0, 1), each equally likely, in their given order.

        Raises:
            ValueError: For values out of range.
        """
        if t.ndim != 1 or len(t) == 0 or not ((t > 0) & (t < 1)).all():
            raise ValueError("points of t must be at least one number in (0, 1)")
        levels = cls(schedule, torch.tensor([0.0, 1.0]))
        levels.t = t.double()
        levels.alpha, levels.sigma = schedule.alpha(levels.t), schedule.sigma(levels.t).clamp_min(SIGMA_LEAST)
        levels.log_mass = torch.full((len(t),), -math.log(len(t)), dtype=torch.float64)
        levels.prior = f"t one of {len(t)} values from {t.min():.3g} to {t.max():.3g}, each equally likely"
        return levels

    @classmethod
    def spaced(
        cls, schedule: Schedule, dimension: int, energy: float = 0.0, density: Function | None = None, words: str = "uniform",
        *, spacing: float = 0.5, split: int = 8, lowest: float = 1e-3,
    ) -> Levels:  # fmt: skip
        """Cells no wider, once split, than ``spacing`` posterior standard deviations, and than 1/300.

        The standard deviation is the bound given x0, the least of any prior. Near the data, cells are even in log sigma: 0.6 %
        for 3072 values.

        Args:
            schedule: The noise path.
            dimension: Values d of one image, at least 1.
            energy: Largest |x0|^2 that occurs.
            density: p(t) up to a factor; uniform by default.
            words: A description of ``density``.
            spacing: In posterior standard deviations, at most 1.
            split: Cells start so many times wider, enough to locate the posterior.
            lowest: Least sigma, in (0, 1); smaller t are left out.

        Raises:
            ValueError: For numbers out of range.
        """
        if dimension < 1 or energy < 0 or not 0 < spacing <= 1 or split < 1 or not 0 < lowest < 1:
            given = f"{dimension}, {energy}, {spacing}, {split}, {lowest}"
            raise ValueError(f"dimension, energy, spacing, split or lowest sigma out of range: {given}")
        even = torch.linspace(0, 1, 4001, dtype=torch.float64)[1:]
        t = torch.cat([10 ** (10 * (even - 1)), even]).unique()  # fine near 0, and near 1
        t = t[schedule.sigma(t) >= lowest]
        a, b = schedule.alpha(t), schedule.sigma(t)
        # Arc length in the metric of Fisher information counts posterior widths, and needs no derivative.
        widths = (2 * dimension * b.log().diff() ** 2 + energy * (a.diff() / b[1:]) ** 2).sqrt()
        cells = torch.cat([torch.zeros(1), torch.maximum(widths / spacing, 300 * t.diff()).cumsum(0)]) / split
        total = cells[-1].item()
        edges = np.interp(np.linspace(0, total, math.ceil(total) + 1), cells.numpy(), t.numpy())
        return cls(schedule, torch.from_numpy(edges), density, words, split)

    def refined(self, needed: Tensor) -> Levels:
        """The same levels, with the cells where ``needed`` (T,) is true split."""
        parts = torch.where(needed, self.split, 1)
        within = torch.cat([torch.arange(count, dtype=torch.float64) / count for count in parts.tolist()])
        starts = self.edges[:-1].repeat_interleave(parts) + within * self.edges.diff().repeat_interleave(parts)
        return Levels(self.schedule, torch.cat([starts, self.edges[-1:]]), self.density, self.words)


def checked(values: Tensor, name: str) -> Tensor:
    if not values.isfinite().all() or (values < 0).any() or not (values > 0).any():
        raise ValueError(f"the {name} must be finite and not negative, and somewhere above 0")
    return values
