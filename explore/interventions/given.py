"""Dependence of each layer on the true and on the given noise level, which vary independently.

Depends on activations, data, denoiser, probes, results, seeds, statistics, values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explore.activations import VIEWS, capture, level_times
from explore.data import add_noise, to_float
from explore.denoiser import Denoiser
from explore.probes import ProbeSet, target_values
from explore.results import Rounded, Stored
from explore.seeds import keyed_noise, seed_range
from explore.statistics import Interval, image_mean, note_few_images, poisson_weights
from explore.values import real_numbers


@dataclass(frozen=True)
class FollowedRow(Stored):
    """Slopes of one layer's implied noise level on the true and on the given level, over images.

    ``grid`` is the mean probe prediction by true (rows) and given level; None in metrics.json.
    """

    name: str
    true: Interval
    given: Interval
    grid: list[list[float]] | None = None


@dataclass(frozen=True)
class GivenVsTrueResult(Rounded):
    """How much each layer depends on the true and on the given noise level; attributes as in ``InterventionResult``."""

    model: str
    target: str
    levels: list[float]
    images: int
    seed: int
    layers: tuple[FollowedRow, ...]
    sha256: str | None = None
    data: str | None = None


LIE_LEVELS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)


@torch.no_grad()
def given_vs_true(
    denoiser: Denoiser,
    probe_set: ProbeSet,
    images: Tensor,
    *,
    levels: Sequence[float] = LIE_LEVELS,
    seed: int = 0,
    progress: Callable[[Any], Any] = lambda jobs: jobs,
) -> GivenVsTrueResult:
    """Evaluates a network at every pair of a true and a given noise level: which one does each layer follow?

    The probes are those fitted with the true t as input, so they use every source of the noise level, the image or the given
    t. The slopes of the implied noise level on the true and on the given level say how much a layer depends on each.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        images: Held-out images, uint8 or float (N, C, H, W).
        levels: True and given levels, values of logsnr.
        seed: Seed of the noise.
        progress: Wraps the list of true levels, as tqdm does.
    """
    levels = real_numbers("each of levels", levels)
    note_few_images(len(images))
    x0 = to_float(images) if images.dtype == torch.uint8 else images.float()
    seeds, names = seed_range(seed, len(images)), probe_set.layers("mean")
    weights = poisson_weights(range(len(images)))
    times = level_times(denoiser.schedule, levels).tolist()
    # Slopes on centered levels, per image. Every pair of levels occurs, so the two slopes are independent.
    values = target_values(probe_set.target, denoiser.schedule, levels)
    centered = (values - values.mean()) / (values - values.mean()).square().sum() / len(values)
    slopes = {name: {"true": torch.zeros(len(images)).double(), "given": torch.zeros(len(images)).double()} for name in names}
    grids = {name: torch.zeros(len(levels), len(levels), dtype=torch.float64) for name in names}
    with capture(denoiser, names) as cache:
        for row, t in enumerate(progress(times)):
            xt = add_noise(x0, keyed_noise(seeds, denoiser.shape), t, denoiser.schedule)
            for column, given in enumerate(times):
                denoiser.output(xt, given)
                for name in names:
                    reading = probe_set.probe(name, "mean", "true").predict(VIEWS["mean"](cache[name]).cpu())
                    slopes[name]["true"] += centered[row] * reading
                    slopes[name]["given"] += centered[column] * reading
                    grids[name][row, column] = reading.mean()
    rows = (
        FollowedRow(name, image_mean(slope["true"], weights), image_mean(slope["given"], weights), grids[name].tolist())
        for name, slope in slopes.items()
    )
    settings = (denoiser.name, probe_set.target, list(levels), len(images), seed)
    return GivenVsTrueResult(*settings, tuple(rows), denoiser.sha256 or None)
