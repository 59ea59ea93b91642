"""Noise schedules: continuous time t in [0, 1] <-> (alpha, sigma) <-> logsnr.

``xt = alpha(t) * x0 + sigma(t) * eps``; t = 0 is data, t = 1 is noise. Two variance-preserving schedules interpolate
the 1000-step tables of DDPM (Ho et al., 2020, arXiv 2006.11239, linear betas) and of improved DDPM (Nichol and Dhariwal,
2021, arXiv 2102.09672, cosine); ``flow`` is the straight path of flow matching (Lipman et al., 2022, arXiv 2210.02747).
Depends on torch only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

TIMESTEPS = 1000  # length of the discrete tables that the DDPM schedules interpolate

# dsigma/dt of a variance-preserving schedule is infinite at t = 0; derivatives are evaluated no closer to it than this.
T_FLOOR = 1e-5


class Schedule(ABC):
    """A noise path. Every method is elementwise, keeps the dtype of its input and broadcasts.

    Attributes:
        start: Default first t of samplers.
    """

    start: float

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Coefficient of the data at ``t`` in [0, 1]; in [0, 1]."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Coefficient of the unit Gaussian noise at ``t`` in [0, 1]; in [0, 1]."""

    @abstractmethod
    def logsnr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2) at ``t``; +inf at t = 0."""

    @abstractmethod
    def t_from_logsnr(self, logsnr: Tensor) -> Tensor:
        """Inverse of :meth:`logsnr`; values beyond the schedule's ends give the end, in [0, 1]."""

    @abstractmethod
    def dalpha(self, t: Tensor) -> Tensor:
        """d alpha / d t at ``t`` (one-sided from the right at the knots of a table)."""

    @abstractmethod
    def dsigma(self, t: Tensor) -> Tensor:
        """d sigma / d t at ``t``; the DDPM schedules evaluate it no closer to 0 than ``T_FLOOR``."""

    def t_from_alpha(self, alpha: Tensor) -> Tensor:
        """Inverse of :meth:`alpha`, ``alpha`` in [0, 1]."""
        raise NotImplementedError

    def t_from_sigma(self, sigma: Tensor) -> Tensor:
        """Inverse of :meth:`sigma`, ``sigma`` in [0, 1]."""
        raise NotImplementedError


class DDPMSchedule(Schedule):
    """A variance-preserving schedule through a table of betas, log-linear in alpha^2 between its knots.

    ``alpha((k + 1) / 1000) ** 2 == alphas_cumprod[k]`` and alpha(0) = 1. Everything is computed in float64 from
    log(alpha^2), which keeps sigma accurate near the data, and returned in the dtype of the input.
    """

    # k = 990 of the table. Nearer to pure noise alpha vanishes (4.9e-5 at the cosine schedule's end) and an eps
    # prediction's error is divided by it.
    start = 0.991

    def __init__(self, betas: Tensor) -> None:
        """Takes ``betas`` (1000,), each in (0, 1)."""
        if betas.shape != (TIMESTEPS,):
            raise ValueError(f"betas must have shape ({TIMESTEPS},), got {tuple(betas.shape)}")
        log_abar = torch.log1p(-betas.double()).cumsum(0)
        self._log_abar = torch.cat([torch.zeros(1, dtype=torch.float64), log_abar])  # (1001,), at t = k / 1000

    def _segment(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Left knot's log(alpha^2), slope of log(alpha^2) in t, and distance to the left knot, all float64."""
        knots = self._log_abar.to(t.device)
        position = t.double().clamp(0, 1) * TIMESTEPS
        index = position.floor().long().clamp(max=TIMESTEPS - 1)
        return knots[index], (knots[index + 1] - knots[index]) * TIMESTEPS, (position - index) / TIMESTEPS

    def _log_alpha2(self, t: Tensor) -> Tensor:
        left, slope, distance = self._segment(t)
        return left + slope * distance

    def _t_from_log_alpha2(self, value: Tensor) -> Tensor:
        knots = self._log_abar.to(value.device).flip(0)  # increasing, from t = 1 to t = 0
        value = value.clamp(knots[0], knots[-1])
        right = torch.searchsorted(knots, value.contiguous()).clamp(1, TIMESTEPS)
        fraction = (value - knots[right - 1]) / (knots[right] - knots[right - 1])
        return 1 - (right - 1 + fraction) / TIMESTEPS

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(0.5 * self._log_alpha2(t)).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(self._log_alpha2(t))).to(t.dtype)

    def logsnr(self, t: Tensor) -> Tensor:
        log_alpha2 = self._log_alpha2(t)
        return (log_alpha2 - torch.log(-torch.expm1(log_alpha2))).to(t.dtype)

    def t_from_logsnr(self, logsnr: Tensor) -> Tensor:
        return self._t_from_log_alpha2(torch.nn.functional.logsigmoid(logsnr.double())).to(logsnr.dtype)

    def t_from_alpha(self, alpha: Tensor) -> Tensor:
        return self._t_from_log_alpha2(2 * torch.log(alpha.double())).to(alpha.dtype)

    def t_from_sigma(self, sigma: Tensor) -> Tensor:
        return self._t_from_log_alpha2(torch.log1p(-sigma.double().square())).to(sigma.dtype)

    def dalpha(self, t: Tensor) -> Tensor:
        left, slope, distance = self._segment(t)
        return (0.5 * slope * torch.exp(0.5 * (left + slope * distance))).to(t.dtype)

    def dsigma(self, t: Tensor) -> Tensor:
        left, slope, distance = self._segment(t.clamp_min(T_FLOOR))
        log_alpha2 = left + slope * distance
        return (-0.5 * slope * torch.exp(log_alpha2) / torch.sqrt(-torch.expm1(log_alpha2))).to(t.dtype)


class FlowSchedule(Schedule):
    """The straight path of flow matching: alpha = 1 - t, sigma = t."""

    start = 1.0

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t.clone()

    def logsnr(self, t: Tensor) -> Tensor:
        return 2 * (torch.log1p(-t) - torch.log(t))

    def t_from_logsnr(self, logsnr: Tensor) -> Tensor:
        return torch.sigmoid(-0.5 * logsnr)

    def t_from_alpha(self, alpha: Tensor) -> Tensor:
        return 1 - alpha

    def t_from_sigma(self, sigma: Tensor) -> Tensor:
        return sigma.clone()

    def dalpha(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -1.0)

    def dsigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


def linear_betas(start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Betas (1000,) float64 evenly spaced; by default DDPM's. Source: arXiv 2006.11239, section 4."""
    return torch.linspace(start, end, TIMESTEPS, dtype=torch.float64)


def cosine_betas() -> Tensor:
    """Improved DDPM's betas (1000,), float64, s = 0.008, capped at 0.999. Source: arXiv 2102.09672, equation 17."""
    t = torch.arange(TIMESTEPS + 1, dtype=torch.float64) / TIMESTEPS
    abar = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)


SCHEDULES: dict[str, Schedule] = {
    "ddpm-linear": DDPMSchedule(linear_betas()),
    "ddpm-cosine": DDPMSchedule(cosine_betas()),
    "flow": FlowSchedule(),
}
