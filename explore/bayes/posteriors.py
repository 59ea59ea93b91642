"""The exact posterior of t given a noisy image, and its width. Depends on gaussians, levels, priors, values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explore.bayes.gaussians import DiagonalGaussian, information_given_x0
from explore.bayes.levels import Function, Levels, checked
from explore.bayes.priors import Prior
from explore.schedules import Schedule
from explore.values import real_number, whole_number

TAIL = 30.0  # levels less likely than the best by a factor of e^30 do not count
CHUNK = 2**23  # values of an intermediate (images, levels, components)


@dataclass(frozen=True, eq=False)
class Posterior:
    """p(t | xt), or p_w(t | xt) with a loss weight, of B images.

    Attributes:
        levels: The T levels, refined where the posterior of any image needs it.
        log_probability: (B, T), float64.
        weight: (B,) mean loss weight W = E[w | xt]; 1 without one.
        prior: A description of the priors of the image and of t.
    """

    levels: Levels
    log_probability: Tensor
    weight: Tensor
    prior: str

    def mean(self, values: Tensor | None = None) -> Tensor:
        """(B,) posterior mean of ``values`` (T,), by default t."""
        return self.log_probability.exp() @ (self.levels.t if values is None else values)

    def std(self, values: Tensor | None = None) -> Tensor:
        """(B,) posterior standard deviation of ``values`` (T,), by default t."""
        values = self.levels.t if values is None else values
        return (self.log_probability.exp() * (values - self.mean(values)[:, None]).square()).sum(1).sqrt()


def posterior(prior: Prior, xt: Tensor, levels: Levels, weight: Function | None = None) -> Posterior:
    """The exact posterior of t given noisy images ``xt`` (B, C, H, W), weighted by w(t) >= 0 if given.

    Raises:
        ValueError: For images of another size, or a weight that is negative, infinite or zero everywhere.
    """
    return posterior_and_shared(prior, prior.coordinates(xt), levels, weight)[0]


def posterior_and_shared(prior: Prior, z: Tensor, levels: Levels, weight: Function | None) -> tuple[Posterior, Any]:
    """The posterior of ``z`` (B, D), and ``prior.shared``."""
    shared = prior.shared(z, levels.alpha)
    likelihood = _log_likelihood(prior, z, shared, levels.alpha, levels.sigma)  # (B, T)
    if levels.split > 1:
        score = likelihood + levels.log_mass
        needed = (score > score.amax(1, keepdim=True) - TAIL).any(0)
        levels, parts = levels.refined(needed), torch.where(needed, levels.split, 1)
        likelihood, fresh = likelihood.repeat_interleave(parts, 1), needed.repeat_interleave(parts)
        likelihood[:, fresh] = _log_likelihood(prior, z, shared, levels.alpha[fresh], levels.sigma[fresh])
    score = likelihood + levels.log_mass
    words, plain = f"{prior.prior}; {levels.prior}", score.log_softmax(1)
    if weight is None:
        return Posterior(levels, plain, torch.ones(len(z), dtype=torch.float64), words), shared
    tilted = plain + checked(weight(levels.t), "loss weight").log()
    total = tilted.logsumexp(1)
    return Posterior(levels, tilted - total[:, None], total.exp(), f"{words}; tilted by a loss weight"), shared


def slices(prior: Prior, images: int, levels: int) -> Iterator[slice]:
    """Slices of the levels, short enough to hold (images, slice, components)."""
    run = max(1, CHUNK // (images * prior.components))
    return (slice(first, first + run) for first in range(0, levels, run))


def _log_likelihood(prior: Prior, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
    """log p(z | t) up to a constant, (B, T)."""
    parts = slices(prior, len(z), len(alpha))
    return torch.cat([prior.log_components(z, shared, alpha[part], sigma[part]).logsumexp(2) for part in parts], 1)


@dataclass(frozen=True)
class Width:
    """Width of the posterior of t at one true t.

    Attributes:
        t: The true t.
        std: Root mean square over images of the posterior's standard deviation.
        bound: Cramer-Rao bound under the prior; None where no closed form exists.
        bound_given_x0: Cramer-Rao bound given x0, at the images' mean |x0|^2.
        prior: A description of the priors of the image and of t.
    """

    t: float
    std: float
    bound: float | None
    bound_given_x0: float
    prior: str


def posterior_width(prior: Prior, levels: Levels, t: float, *, count: int = 64, seed: int = 0) -> Width:
    """Width of the exact posterior of t over ``count`` samples of the prior noised to ``t`` in (0, 1), and its bounds."""
    t, count = real_number("t", t, 0, 1), whole_number("count", count, 1)
    generator = torch.Generator().manual_seed(whole_number("seed", seed, 0))
    x0 = prior.draw(count, generator)
    xt = noised(x0, torch.full((count,), t, dtype=torch.float64), levels.schedule, generator)
    found, _ = posterior_and_shared(prior, xt, levels, None)
    energy = x0.square().sum(1).mean().item()
    given_x0 = information_given_x0(levels.schedule, t, prior.dimension, energy) ** -0.5
    bound = prior.information(levels.schedule, t) ** -0.5 if isinstance(prior, DiagonalGaussian) else None
    return Width(t, found.std().square().mean().sqrt().item(), bound, given_x0, found.prior)


def noised(x0: Tensor, t: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """``x0`` (B, D) at ``t`` (B,)."""
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    return schedule.alpha(t)[:, None] * x0 + schedule.sigma(t)[:, None] * eps
