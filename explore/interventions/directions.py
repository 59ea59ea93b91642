"""Directions along which a layer is changed: those of its probe, and controls of the same length.

A control shows what a direction does that was not fitted to the noise level. Isotropic directions are a weak one: most of them
leave the subspace in which the layer varies, and the network after it hardly reacts. The other kinds stay inside it.
Depends on activations, denoiser, probes, values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from explore.activations import Statistics, sweep
from explore.denoiser import Denoiser
from explore.probes import ProbeSet, RidgeProbe, target_values
from explore.values import choose, listed

# Directions (C,) that move a layer's own probe prediction, in the view ``mean``, by 1 --------------------------------------


def readout(probe: RidgeProbe) -> Tensor:
    """The shortest vector that moves the probe prediction by 1: the coefficients over their squared norm."""
    return probe.coef_ / probe.coef_.square().sum()


def pattern(probe: RidgeProbe) -> Tensor:
    """The direction in which the layer changes with the noise level, scaled to move the probe prediction by 1."""
    return probe.pattern_ / (probe.pattern_ @ probe.coef_)


DIRECTIONS: dict[str, Callable[[RidgeProbe], Tensor]] = {"pattern": pattern, "readout": readout}


# Controls ------------------------------------------------------------------------------------------------------------------

FITTED_IMAGES = 64  # at most, for the covariance of a layer and the probes of shuffled targets


class ControlSource:
    """Where the control directions of one layer come from.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        images: Held-out images; the first ``FITTED_IMAGES`` of them are used.
        layer: A hook point with a probe.
        direction: A key of ``DIRECTIONS``.
        seed: Seed of the noise and of the directions.
    """

    def __init__(
        self, denoiser: Denoiser, probe_set: ProbeSet, images: Tensor, layer: str, direction: str = "pattern", seed: int = 0
    ) -> None:
        self.denoiser, self.probe_set, self.images = denoiser, probe_set, images[:FITTED_IMAGES]
        self.layer, self.direction, self.seed = layer, direction, seed

    @cached_property
    def features(self) -> Tensor:
        """The layer in the view ``mean`` by image and noise level of the probes, float64 (N, L, C); t is the true one."""
        levels = self.probe_set.levels
        batches = sweep(self.denoiser, self.images, [self.layer], ("mean",), levels=levels, seed=self.seed)
        parts = {(int(batch.image[0]), batch.level): batch.features[self.layer, "mean"].cpu().double() for batch in batches}
        starts = sorted({start for start, _ in parts})
        return torch.cat([torch.stack([parts[start, level] for level in range(len(levels))], 1) for start in starts])


def random_direction(vector: Tensor, seed: int) -> Tensor:
    """A random direction (C,) of the same length as ``vector``, uniform on the sphere."""
    draw = torch.from_numpy(np.random.default_rng([3, seed]).standard_normal(len(vector)))
    return draw / draw.norm() * vector.norm()


def _isotropic(source: ControlSource, vector: Tensor, count: int) -> Tensor:
    return torch.stack([random_direction(vector, source.seed + k) for k in range(count)])


def _covariance(source: ControlSource, vector: Tensor, count: int) -> Tensor:
    """Draws from N(0, covariance of the layer over images and noise levels)."""
    rows = source.features.flatten(0, 1)
    eigenvalues, vectors = torch.linalg.eigh(torch.cov(rows.T, correction=0).reshape(len(vector), -1))
    root = vectors * eigenvalues.clamp(min=0).sqrt() @ vectors.T  # symmetric, so the signs of the eigenvectors do not matter
    return torch.from_numpy(np.random.default_rng([4, source.seed]).standard_normal((count, len(vector)))) @ root


def _shuffled(source: ControlSource, vector: Tensor, count: int) -> Tensor:
    """Directions of probes for which the levels of each image are permuted; all else is as in the fit of the probe."""
    features = source.features
    (images, levels, width), probe_set = features.shape, source.probe_set
    values = target_values(probe_set.target, probe_set.schedule, probe_set.levels)
    true = Statistics(width, levels)
    for level in range(levels):
        true.add(features[:, level], torch.arange(images), level)
    fold, found = torch.arange(images) % len(true.count), []
    for k in range(count):
        draws = np.random.default_rng([5, source.seed + k]).random((images, levels))
        order = torch.from_numpy(draws.argsort(1))
        statistics = copy.copy(true)
        shuffled = features.gather(1, order[:, :, None].expand_as(features))
        statistics.total = torch.zeros_like(true.total).index_add_(0, fold, shuffled)
        found.append(DIRECTIONS[source.direction](RidgeProbe().fit(statistics, values)))
    return torch.stack(found)


# Kind -> (source, the direction of the probe (C,), how many) -> control directions (K, C) of any length.
CONTROLS: dict[str, Callable[[ControlSource, Tensor, int], Tensor]] = {
    "isotropic": _isotropic,
    "covariance": _covariance,
    "shuffled": _shuffled,
}
DECISIVE = ("covariance", "shuffled")  # kinds that a direction must exceed to count as used


def control_directions(source: ControlSource, vector: Tensor, kinds: Sequence[str], count: int) -> dict[str, Tensor]:
    """Kind -> ``count`` control directions (K, C), each as long as ``vector`` (C,).

    Raises:
        ValueError: For an unknown kind, or if there are too few images to fit a probe.
    """
    found = {choose("control", kind, CONTROLS): CONTROLS[kind](source, vector, count) for kind in listed(kinds)}
    return {kind: drawn / drawn.norm(dim=1, keepdim=True) * vector.norm() for kind, drawn in found.items()}
