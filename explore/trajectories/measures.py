"""How long, how curved and how far apart paths are: lengths, turning, and the distance between both members at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PARTED = 0.1  # of the distance between unrelated pictures
DEFINITIONS = {
    "distance unit": "root mean square per value; images have values in [-1, 1], activations their own unit",
    "length": "sum of the distances between consecutive steps, over all steps of the sampler",
    "detour": "length over the distance from the first state to the last; 1 is a straight line",
    "turning": "sum of the angles between consecutive steps, in radians",
    "curvature": "turning over the length that it is spread over (half of the first and last step left out), in radians per "
    "unit of length; a circle of radius r has 1 / r",
    "between": "distance between the members at a step, for each image",
    "relative": "distance between the members over sqrt(|a|^2 + |b|^2): 0 where equal, 1 where unrelated (orthogonal)",
    "strangers": "distance between two different images of one member at that step, the yardstick for `between`",
    "parting": f"first step from which on `relative` stays at {PARTED} or above to the end; null for images that never part",
}


@dataclass(frozen=True)
class Geometry:
    """Paths of N images by both members, measured in one space at every step of the sampler; see ``DEFINITIONS``.

    Attributes:
        length: float64 (2, N), root mean square per value, as all distances here.
        chord: float64 (2, N), from the first point to the last.
        turning: float64 (2, N), radians, the sum over all inner points.
        arc: float64 (2, N), the length that the turning is spread over: ``length`` without half of its first and last step.
        between: float64 (S, N), distance between the members at each of the S points of the path.
        relative: float64 (S, N), the same from 0 (equal) over 1 (orthogonal) to sqrt(2) (opposite), free of scale.
        strangers: float64 (S,), distance between two images of one member; nan for a single image.
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
        """(2, N), radians per unit of length; 0 where nothing moves."""
        return torch.where(self.arc > 0, self.turning / self.arc.clamp(min=1e-300), 0.0)

    @property
    def detour(self) -> Tensor:
        """(2, N), length over chord, at least 1; nan where the path ends where it began."""
        return self.length / self.chord

    def parting(self, threshold: float = PARTED) -> Tensor:
        """int64 (N,): the first step from which on ``relative`` stays at ``threshold`` or above; -1 if there is none."""
        stays = (self.relative >= threshold).long().flip(0).cumprod(0).sum(0)  # how many points at the end
        return torch.where(stays > 0, len(self.relative) - stays, -1)


class Surveyor:
    """Measures paths while they pass: only the first and the last two points are held."""

    def __init__(self) -> None:
        self.first: Tensor | None = None
        self.last: Tensor | None = None
        self.segment: Tensor | None = None  # of the last step, (2, N, D)
        self.length, self.turning, self.arc = (torch.zeros(()) for _ in range(3))
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, points: Tensor) -> None:
        """Takes the next point (2, N, D) of every path."""
        points = points.double()
        told, untold = points
        gap = (told - untold).square().mean(-1)
        size = told.square().mean(-1) + untold.square().mean(-1)
        apart = (2 * points.var(1).mean()).sqrt() if points.shape[1] > 1 else torch.tensor(math.nan, dtype=torch.float64)
        self.rows.append((gap.sqrt(), (gap / size.clamp(min=1e-300)).sqrt(), apart))
        if self.last is not None:
            segment = points - self.last
            width = _size(segment)
            self.length = self.length + width
            if self.segment is not None:
                before = _size(self.segment)
                # Kahan's angle: accurate for the small ones, where the arc cosine of a scalar product is not.
                a, b = self.segment * width[..., None], segment * before[..., None]
                self.turning = self.turning + 2 * torch.atan2(_size(a - b), _size(a + b))
                self.arc = self.arc + (before + width) / 2
            self.segment = segment
        self.first = points if self.first is None else self.first
        self.last = points

    def result(self) -> Geometry:
        """Of the points so far."""
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
    """Measures paths that are at hand as a whole.

    Args:
        points: (2, N, S, D): for two members N paths of S points each.

    Raises:
        ValueError: For another shape, or no points.
    """
    if points.ndim != 4 or points.shape[0] != 2 or min(points.shape) < 1:
        raise ValueError(f"points must have the shape (2, images, steps, values), got {tuple(points.shape)}")
    surveyor = Surveyor()
    for step in points.unbind(2):
        surveyor.add(step)
    return surveyor.result()
