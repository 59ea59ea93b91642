"""Geometry of paths: length, curvature, and the distance between both members of a pair at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PARTED = 0.1  # threshold for the divergence step, as a share of the distance between unrelated images
DEFINITIONS = {
    "distance unit": "root mean square per value; images have values in [-1, 1], activations their own unit",
    "length": "sum of the distances between consecutive states, over all steps of the sampler",
    "detour": "length divided by the distance from the first state to the last; 1 is a straight line",
    "turning": "sum of the angles between consecutive steps, in radians",
    "curvature": "turning divided by the length without half of the first and half of the last step, in radians per unit of "
    "length; a circle of radius r has 1 / r",
    "between": "distance between the members at a step, for each image",
    "relative": "distance between the members divided by sqrt(|a|^2 + |b|^2): 0 if equal, 1 if unrelated (orthogonal)",
    "strangers": "root mean square distance between different images of one member at a step; the reference for `between`",
    "parting": f"first step (divergence step) from which `relative` stays at {PARTED} or above to the end; null if none",
}


@dataclass(frozen=True)
class Geometry:
    """Measures of the paths of N images by both members, in one space; see ``DEFINITIONS``.

    Attributes:
        length: float64 (2, N). All distances are root mean square per value.
        chord: float64 (2, N), from the first point to the last.
        turning: float64 (2, N), radians, the sum over all inner points.
        arc: float64 (2, N), ``length`` without half of the first and half of the last step: the denominator of ``curvature``.
        between: float64 (S, N), distance between the members at each of the S states of the path.
        relative: float64 (S, N), scale-free distance: 0 if equal, 1 if orthogonal, sqrt(2) if opposite.
        strangers: float64 (S,), root mean square distance between different images of one member; nan for a single image.
    """

    length: Tensor
    chord: Tensor
    turning: Tensor
    arc: Tensor
    between: Tensor
    relative: Tensor
    strangers: Tensor

    @property
    def curvature(self) -> Tensor:
        """(2, N), curvature in radians per unit of length; 0 for a path of length 0."""
        return torch.where(self.arc > 0, self.turning / self.arc.clamp(min=1e-300), 0.0)

    @property
    def detour(self) -> Tensor:
        """(2, N), length divided by chord, at least 1; nan if chord and length are 0, inf if only the chord is."""
        return self.length / self.chord

    def divergence_step(self, threshold: float = PARTED) -> Tensor:
        """Divergence step, int64 (N,): the first from which ``relative`` stays at ``threshold`` or above; -1 if none."""
        stays = (self.relative >= threshold).long().flip(0).cumprod(0).sum(0)  # length of the run at the end
        return torch.where(stays > 0, len(self.relative) - stays, -1)


class Surveyor:
    """Measures paths incrementally; only the first and the last two points are kept in memory."""

    def __init__(self) -> None:
        self.first: Tensor | None = None
        self.last: Tensor | None = None
        self.segment: Tensor | None = None  # of the last step, (2, N, D)
        self.length, self.turning, self.arc = (torch.zeros(()) for _ in range(3))
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, points: Tensor) -> None:
        """Adds the next point of every path, (2, N, D)."""
        points = points.double()
        conditioned, agnostic = points
        gap = (conditioned - agnostic).square().mean(-1)
        size = conditioned.square().mean(-1) + agnostic.square().mean(-1)
        apart = (2 * points.var(1).mean()).sqrt() if points.shape[1] > 1 else torch.tensor(math.nan, dtype=torch.float64)
        self.rows.append((gap.sqrt(), (gap / size.clamp(min=1e-300)).sqrt(), apart))
        if self.last is not None:
            segment = points - self.last
            width = _size(segment)
            self.length = self.length + width
            if self.segment is not None:
                before = _size(self.segment)
                # Kahan's formula is accurate for small angles; the arc cosine of a dot product is not.
                a, b = self.segment * width[..., None], segment * before[..., None]
                self.turning = self.turning + 2 * torch.atan2(_size(a - b), _size(a + b))
                self.arc = self.arc + (before + width) / 2
            self.segment = segment
        self.first = points if self.first is None else self.first
        self.last = points

    def result(self) -> Geometry:
        """Returns the geometry of the points so far."""
        assert self.first is not None and self.last is not None  # at least one point was added
        nothing = torch.zeros(self.first.shape[:2], dtype=torch.float64)
        between, relative, strangers = (torch.stack(column) for column in zip(*self.rows))
        return Geometry(
            length=nothing + self.length, chord=_size(self.last - self.first), turning=nothing + self.turning,
            arc=nothing + self.arc, between=between, relative=relative, strangers=strangers,
        )  # fmt: skip


def _size(vectors: Tensor) -> Tensor:
    """Root mean square over the last axis."""
    return vectors.square().mean(-1).sqrt()


def geometry(points: Tensor) -> Geometry:
    """Measures complete paths.

    Args:
        points: (2, N, S, D): N paths of S points for each of two members; any unit.

    Raises:
        ValueError: For another shape, or no points.
    """
    if points.ndim != 4 or points.shape[0] != 2 or min(points.shape) < 1:
        raise ValueError(f"points must have the shape (2, images, steps, values), got {tuple(points.shape)}")
    surveyor = Surveyor()
    for step in points.unbind(2):
        surveyor.add(step)
    return surveyor.result()
