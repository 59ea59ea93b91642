"""What hiding t adds to a sampler's direction, by t: the exact networks' difference, and the gain with which it counts.

The drift d xt / d t of a sampler is linear in the network's output. Its slope, the gain, depends on prediction and path: 1
for a velocity; unbounded near the data for eps on a variance-preserving path, as sigma' is, and for x0, uedm and eqm, whose
eps_hat divides by sigma. Sahraee-Ardakan et al., arXiv 2602.18428, compare targets in this way near the data. An error there
is added late: what the rest of the path does with an error is another question. Depends on denoiser, estimates, levels,
posteriors, priors, results, statistics, values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explore.bayes.estimates import bayes_denoiser
from explore.bayes.levels import Levels
from explore.bayes.posteriors import noised
from explore.bayes.priors import Prior
from explore.denoiser import Denoiser
from explore.results import Stored
from explore.statistics import Interval, bootstrap_mean
from explore.values import real_numbers, whole_number

GAIN_TIMES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95)


@dataclass(frozen=True)
class GainRow(Stored):
    """Errors of the exact time-agnostic network against the exact conditioned one, at one t.

    Attributes:
        t: Noise level.
        gain: Change of the drift for a change of the output by 1, its size.
        output_error: Root mean square of the difference of the outputs over the values of an image; mean over images.
        drift_error: The same of the drifts: gain times output_error. A step of width h in t adds h times it to the state.
    """

    t: float
    gain: float
    output_error: Interval
    drift_error: Interval


def drift_gain(denoiser: Denoiser, t: float) -> float:
    """Size of the change of the drift at ``t`` for a change of the network's output by 1."""
    zero = torch.zeros(1, *denoiser.shape, dtype=torch.float64)
    one, none = (denoiser.read(output, zero, t).drift for output in (torch.ones_like(zero), zero))
    return (one - none).abs().max().item()


def error_gains(
    prior: Prior,
    levels: Levels,
    prediction: str,
    shape: tuple[int, int, int],
    times: Sequence[float] = GAIN_TIMES,
    *,
    count: int = 32,
    seed: int = 0,
) -> tuple[GainRow, ...]:
    """Rows by t, over ``count`` >= 2 draws of the prior; the same draws and noise at every t.

    Other arguments and errors as :func:`explore.bayes.bayes_denoiser`; intervals are over the draws.
    """
    times, count = real_numbers("each of times", times, 0, 1), whole_number("count", count, 2)
    seed = whole_number("seed", seed, 0)
    conditioned, agnostic = (bayes_denoiser(prior, levels, prediction, shape, hidden=hidden) for hidden in (None, (0.0, 1.0)))
    rows = []
    for t in times:
        generator = torch.Generator().manual_seed(seed)
        x0 = prior.draw(count, generator)
        z = noised(x0, torch.full((count,), t, dtype=torch.float64), levels.schedule, generator)
        xt = prior.to_images(z, shape)
        told, blind = conditioned.estimate(xt, t), agnostic.estimate(xt, t)
        errors = [_size(blind.output - told.output), _size(blind.drift - told.drift)]
        rows.append(GainRow(t, drift_gain(agnostic, t), *(bootstrap_mean(error.numpy()) for error in errors)))
    return tuple(rows)


def _size(difference: Tensor) -> Tensor:
    """Root mean square over the values of each image, (B,)."""
    return difference.square().flatten(1).mean(1).sqrt()
