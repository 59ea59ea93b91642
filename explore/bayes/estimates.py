"""Bayes estimates of a training target, given t and without t: the gap between their losses, and both as denoisers.

A network trained with the loss ``w(t) |f - r|^2`` on the target ``r = c x0 + d eps`` tends to
``R(z|t) = c E[x0|z,t] + d E[eps|z,t]`` if it is conditioned on t, and to ``f*(z) = sum_t p_w(t|z) R(z|t)`` if it is
time-agnostic, with ``p_w(t|z)`` proportional to ``p(z|t) p(t) w(t)``. Their losses differ by
``E_z[W(z) Var_{p_w(t|z)} R(z|t)]`` with ``W = E[w|z]``. Source: Sun et al., arXiv 2502.13129, for f*.
Depends on denoiser, levels, posteriors, priors, schedules, values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explore.bayes.levels import SIGMA_LEAST, Function, Levels
from explore.bayes.posteriors import TAIL, Posterior, noised, posterior_and_shared, slices
from explore.bayes.priors import Prior
from explore.denoiser import PREDICTIONS, Denoiser
from explore.schedules import Schedule
from explore.values import choose, image_shape, whole_number

Target = str | Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # a key of PREDICTIONS, or linear, like Prediction.target


def conditional_mean(prior: Prior, xt: Tensor, t: float, schedule: Schedule, target: Target = "x0") -> Tensor:
    """R(xt | t), the optimal output of a time-conditioned network; E[x0 | xt, t] by default.

    Args:
        prior: Of the images.
        xt: (B, C, H, W).
        t: In [0, 1].
        schedule: The noise path.
        target: A key of ``PREDICTIONS``, or a function (x0, eps, alpha, sigma) -> target, linear in x0 and eps.

    Returns:
        float64, shape of ``xt``.

    Raises:
        ValueError: For an unknown target or images of another size.
    """
    z, time = prior.coordinates(xt), torch.tensor([t], dtype=torch.float64)
    alpha, sigma = schedule.alpha(time), schedule.sigma(time).clamp_min(SIGMA_LEAST)
    certain = torch.ones(len(z), 1, dtype=torch.float64)
    return prior.to_images(_average(prior, z, prior.shared(z, alpha), certain, alpha, sigma, target), xt.shape[1:])


def marginal_mean(prior: Prior, xt: Tensor, levels: Levels, target: Target = "x0", weight: Function | None = None) -> Tensor:
    """f*(xt) = sum_t p_w(t | xt) R(xt | t), the optimal output of a time-agnostic network; E[x0 | xt] by default.

    Arguments, result and errors as :func:`conditional_mean` and :func:`posterior`.
    """
    z = prior.coordinates(xt)
    found, shared = posterior_and_shared(prior, z, levels, weight)
    return prior.to_images(_average(prior, z, shared, *_active(found), target), xt.shape[1:])


@dataclass(frozen=True, eq=False)
class TimeGap:
    """Loss of the best time-agnostic network minus that of the best conditioned one, summed over the values of an image.

    Attributes:
        value: Mean of ``gap``.
        error: Its standard error over the draws.
        t: (N,) of the draws.
        gap: (N,) W(z) Var_{p_w(t|z)} R(z|t) of the draws z.
        prior: A description of the priors of the image and of t.
    """

    value: float
    error: float
    t: Tensor
    gap: Tensor
    prior: str


def time_gap(
    prior: Prior, levels: Levels, target: Target, *, weight: Function | None = None, count: int = 256, seed: int = 0
) -> TimeGap:
    """The gap E_z[W(z) Var_{p_w(t|z)} R(z|t)], over ``count`` >= 2 draws of (t, x0, eps).

    t is uniform within cells that can be split, and the midpoint of other cells. Arguments and errors as
    :func:`conditional_mean` and :func:`posterior`.
    """
    count = whole_number("count of draws", count, 2)
    generator = torch.Generator().manual_seed(whole_number("seed", seed, 0))
    cell = torch.multinomial(levels.log_mass.exp(), count, True, generator=generator)
    place = torch.rand(count, dtype=torch.float64, generator=generator) if levels.split > 1 else 0.5
    t = levels.edges[cell] + place * levels.edges.diff()[cell]
    noisy = noised(prior.draw(count, generator), t, levels.schedule, generator)
    gaps = []
    for z in noisy.split(256):
        found, shared = posterior_and_shared(prior, z, levels, weight)
        p, alpha, sigma = _active(found)
        mean = _average(prior, z, shared, p, alpha, sigma, target)
        variance, certain = torch.zeros(len(z), dtype=torch.float64), torch.ones(len(z), 1, dtype=torch.float64)
        for level in range(len(alpha)):  # about the mean: a difference of second moments would lose its digits
            here = slice(level, level + 1)
            value = _average(prior, z, shared, certain, alpha[here], sigma[here], target)  # R(z|t), (B, D)
            variance += p[:, level] * (value - mean).square().sum(1)
        gaps.append(found.weight * variance)
    gap = torch.cat(gaps)
    return TimeGap(gap.mean().item(), gap.std().item() / count**0.5, t, gap, found.prior)


def _average(prior: Prior, z: Tensor, shared: Any, p: Tensor, alpha: Tensor, sigma: Tensor, target: Target) -> Tensor:
    """sum_t p_t R(z|t), (B, D), of ``p`` (B, T)."""
    rule = PREDICTIONS[choose("prediction", target, PREDICTIONS)].target if isinstance(target, str) else target
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    c, d = rule(one, zero, alpha, sigma), rule(zero, one, alpha, sigma)  # every target is linear in x0 and eps
    total = torch.zeros_like(z)
    for part in slices(prior, len(z), len(alpha)):
        levels = alpha[part], sigma[part]
        weights = p[:, part, None]  # (B, t, K)
        if prior.components > 1:
            weights = weights * prior.log_components(z, shared, *levels).softmax(2)
        total = total + prior.combine(z, weights, *levels, c[part], d[part])
    return total


def _active(found: Posterior) -> tuple[Tensor, Tensor, Tensor]:
    """Probability (B, t), alpha and sigma (t,) of the levels that are likely for any of the images."""
    active = (found.log_probability > -TAIL - math.log(len(found.levels.t))).any(0)
    return found.log_probability.exp()[:, active], found.levels.alpha[active], found.levels.sigma[active]


class BayesNetwork(nn.Module):
    """The optimal network as a module; see :func:`bayes_denoiser`."""

    def __init__(
        self, prior: Prior, levels: Levels, prediction: str, hidden: tuple[float, float] | None, weight: Function | None
    ) -> None:
        super().__init__()
        self.prior, self.levels, self.prediction, self.hidden, self.weight = prior, levels, prediction, hidden, weight
        # A parameter, so that the module has a dtype and a device.
        self.t = nn.Parameter(levels.t.clone(), requires_grad=False)

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """``xt`` (B, C, H, W) and ``t`` (B,) -> the output, in the shape and dtype of ``xt``."""
        output = torch.empty_like(xt)
        low, high = self.hidden or (2.0, 2.0)
        given = torch.where((t >= low) & (t <= high), -1.0, t)  # -1: t is hidden
        values = given.unique().tolist()
        for value in values:
            rows = given == value if len(values) > 1 else slice(None)
            if value < 0:
                output[rows] = marginal_mean(self.prior, xt[rows], self.levels, self.prediction, self.weight).to(xt)
            else:
                output[rows] = conditional_mean(self.prior, xt[rows], value, self.levels.schedule, self.prediction).to(xt)
        return output


def bayes_denoiser(
    prior: Prior, levels: Levels, prediction: str, shape: tuple[int, int, int], *,
    hidden: tuple[float, float] | None = None, weight: Function | None = None,
) -> Denoiser:  # fmt: skip
    """The exact denoiser of ``prior``, for samplers and instruments; its name states the prior.

    Only the network's output depends on ``hidden``. x0_hat and eps_hat follow from it as for a trained network, by rules
    that use t.

    Args:
        prior: Of the images.
        levels: Of t, with its prior and the noise path.
        prediction: A key of ``PREDICTIONS``.
        shape: (C, H, W) of one image.
        hidden: Closed range of t in which the output does not depend on t: (0, 1) is time-agnostic, (0, 0.5) conditioned
            above 0.5 only, None conditioned everywhere.
        weight: Loss weight w(t) >= 0 of the time-agnostic regression.

    Raises:
        ValueError: For a shape that does not fit the prior, an invalid range, or as ``Denoiser``.
    """
    shape = image_shape(shape)
    if math.prod(shape) != prior.dimension:
        raise ValueError(f"shape {tuple(shape)} does not have the {prior.dimension} values of the prior ({prior.prior})")
    if hidden is not None and not 0 <= hidden[0] <= hidden[1] <= 1:
        raise ValueError(f"the range in which t is hidden must be (low, high) within [0, 1], got {hidden}")
    words = "conditioned" if hidden is None else "time-agnostic"
    if hidden is not None and hidden != (0, 1):
        words += f" from t = {hidden[0]} to {hidden[1]}"
    network = BayesNetwork(prior, levels, prediction, hidden, weight).eval()
    return Denoiser(network, levels.schedule, prediction, shape, f"exact, {words}; {prior.prior}; {levels.prior}")
