"""The best block of a network without selection bias, and an error whose interval includes refits of the probe.

The smallest of many errors is too small on average, and more so the more blocks there are. Here a block is chosen on one half
of the images and scored on the other. As images of either half are in the fits that predict the other, a score at chance level
can be slightly too large, but not too small. Depends on activations, results, statistics, and errors of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explore.activations import FOLDS, Statistics
from explore.probes.errors import Errors
from explore.results import Stored
from explore.statistics import Interval, of_draws, poisson_weights

BLOCKS = 50  # groups of images that the bootstrap with refits resamples; a multiple of FOLDS
CHUNK = 10  # replicates at a time


@dataclass(frozen=True)
class Scored(Stored):
    """A block and view chosen on one half of the images and scored on the other.

    Attributes:
        name, view: The smallest error on the half that chose.
        chosen: Its error over the yardstick there, too small on average.
        scored: Its error over the yardstick on the other half.
    """

    name: str
    view: str
    chosen: float
    scored: Interval


@dataclass(frozen=True)
class BestBlock(Stored):
    """The best block of a network beside the best blocks of reinitialized networks, each at its own best block.

    Attributes:
        region: Where the error counts, a key of ``REGIONS``; ``all`` without a level in any of them.
        halves: The block chosen on the first half of the images, then that chosen on the second.
        error_over_yardstick: Root mean square of both scores.
        refitted: Error over the yardstick of the layer ``best`` of the atlas, chosen on all images. The bootstrap resamples
            images together with their noise, as data of the fit and of the test, and fits the probe in every replicate; the
            block and the penalty stay.
        random_networks: ``error_over_yardstick`` of each reinitialized network.
        gains: Each of ``random_networks`` over the own error: the spread is over initializations.
    """

    region: str
    halves: tuple[Scored, ...]
    error_over_yardstick: Interval
    refitted: Interval
    random_networks: tuple[float, ...]
    gains: tuple[float, ...]


def choose_and_score(
    errors: Mapping[tuple[str, str], Errors], chosen: Tensor, yardstick: float = 1.0
) -> tuple[tuple[Scored, ...], Interval]:
    """The best block on each half of the images with its error on the other half, and the root mean square of the two scores.

    Args:
        errors: (layer, view) -> Errors; baselines, whose layer is ``input``, are left out.
        chosen: Which levels count, (L,).
        yardstick: What errors are divided by.
    """
    found, squares = [], []
    for half in (0, 1):
        own = {key: error.rms(chosen, half)[0].item() for key, error in errors.items() if key[0] != "input"}
        best = min(own, key=own.__getitem__)
        draws = errors[best].rms(chosen, 1 - half) / yardstick
        found.append(Scored(*best, own[best] / yardstick, of_draws(draws)))
        squares.append(draws.square())
    return tuple(found), of_draws(((squares[0] + squares[1]) / 2).sqrt())


def refitted_rms(every: Statistics, scored: Statistics, values: Tensor, penalty: float) -> Tensor:
    """Cross-validated root mean square error of a ridge probe, with bootstrap replicates that each fit the probe again.

    A replicate gives each block of images a Poisson(1) weight, in the fits and in the test alike; the folds stay apart.

    Args:
        every: Sums over all rows, by block of images: those of block b are in fold b mod ``FOLDS``.
        scored: The same of the levels that count.
        values: The target at every level, (L,).
        penalty: Of the ridge regression, per row.

    Returns:
        The estimate, then its replicates, (1 + draws,).
    """
    weights = poisson_weights(range(len(every.count)))  # (blocks, 1 + draws)
    found = []
    for part in weights.T.split(CHUNK):
        folds = [[_weighted(sums, part, k) for k in range(FOLDS)] for sums in (every, scored)]
        whole = [sum(parts[1:], parts[0]) for parts in zip(*folds[0])]
        squares = torch.zeros(len(part), dtype=torch.float64)
        for own, test in zip(*folds):
            squares += _squares(test, values, *_ridge([a - b for a, b in zip(whole, own)], values, penalty))
        found.append((squares / sum(count.sum(1) for count, *_ in folds[1])).sqrt())
    return torch.cat(found)


def _weighted(sums: Statistics, weights: Tensor, fold: int) -> list[Tensor]:
    """Sums over the blocks of a fold with each replicate's weights: count (R, L), total (R, L, D), gram (R, D, D)."""
    own = [(weights[:, fold::FOLDS] @ part[fold::FOLDS].flatten(1)) for part in (sums.count, sums.total, sums.gram)]
    return [part.unflatten(1, whole.shape[1:]) for part, whole in zip(own, (sums.count, sums.total, sums.gram))]


def _ridge(sums: list[Tensor], values: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Coefficients (R, D) and intercepts (R,) as those of :class:`explore.probes.RidgeProbe`, for R fits at once."""
    count, total, gram = sums
    rows = count.sum(1)
    mean, target = total.sum(1) / rows[:, None], count @ values / rows
    covariance = gram / rows[:, None, None] - mean[:, :, None] * mean[:, None]
    diagonal = covariance.diagonal(dim1=1, dim2=2).clamp(min=0)
    alive = diagonal > 1e-12 * gram.diagonal(dim1=1, dim2=2) / rows[:, None]
    scale = torch.where(alive, diagonal.sqrt(), torch.inf)
    cross = torch.einsum("rld,l->rd", total, values) / rows[:, None] - mean * target[:, None]
    system = covariance / (scale[:, :, None] * scale[:, None]) + penalty * torch.eye(mean.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve_ex(system, cross / scale)[0] / scale
    return weights, target - (mean * weights).sum(1)


def _squares(sums: list[Tensor], values: Tensor, coefficients: Tensor, intercept: Tensor) -> Tensor:
    """Sums of squared errors, (R,), as :func:`explore.probes.linear.squared_error`, for R fits at once."""
    count, total, gram = sums
    rest = values - intercept[:, None]  # (R, L)
    mixed = (rest * torch.einsum("rld,rd->rl", total, coefficients)).sum(1)
    return (count * rest.square()).sum(1) - 2 * mixed + torch.einsum("rd,rde,re->r", coefficients, gram, coefficients)
