"""Noise schedules: continuous time t in [0, 1] <-> (alpha, sigma) <-> logsnr.

``xt = alpha(t) * x0 + sigma(t) * eps``; t = 0 is data, t = 1 is noise. Two variance-preserving schedules interpolate
the 1000-step tables of DDPM (Ho et al., 2020, arXiv 2006.11239, linear betas) and of improved DDPM (Nichol and Dhariwal,
2021, arXiv 2102.09672, cosine); ``flow`` is the straight path of flow matching (Lipman et al., 2022, arXiv 2210.02747);
``edm`` and ``uedm`` are the variance-exploding path after the input scaling of EDM (Karras et al., 2022, arXiv 2206.00364)
and of uEDM (Sun et al., 2025, arXiv 2502.13129). ``T_DISTRIBUTIONS`` holds the distributions of t in training. Depends on
torch only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TIMESTEPS = 1000  # length of the discrete tables that the DDPM schedules interpolate

# dsigma/dt of a variance-preserving schedule is infinite at t = 0; derivatives are evaluated no closer to it than this.
T_FLOOR = 1e-5

# EDM, arXiv 2206.00364, table 1: the range of its noise levels, the exponent of its steps, its standard deviation of the data,
# and location and scale of ln s in training.
LEVEL_MIN, LEVEL_MAX, RHO, SIGMA_DATA = 0.002, 80.0, 7.0, 0.5
LOG_LEVEL_MEAN, LOG_LEVEL_STD = -1.2, 1.2


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


class ScaledVESchedule(Schedule):
    """The variance-exploding path ``y = x0 + s eps``, s from 0 to 80, as the network sees it: scaled by a function of s.

    ``xt = y * scale / sqrt(scale^2 + s^2)``, so alpha = scale / sqrt(scale^2 + s^2), sigma = s * alpha, and logsnr = -2 ln s.
    With data of standard deviation ``scale``, that of xt is ``scale`` at every t. EDM scales its input by
    c_in = 1 / sqrt(0.5^2 + s^2): ``scale`` 0.5, up to the constant factor 0.5 that makes alpha(0) = 1. uEDM's c_in is
    1 / sqrt(1 + s^2): ``scale`` 1. This scaling uses s for a time-agnostic network too: it belongs to the path.

    t is uniform in s^(1/7) up to a shift: even steps of t are EDM's steps (rho = 7), here down to s(0) = 0.
    """

    start = 1.0
    _ratio = (LEVEL_MAX / LEVEL_MIN) ** (1 / RHO) - 1

    def __init__(self, scale: float) -> None:
        """Takes ``scale`` above 0."""
        self.scale = scale

    def level(self, t: Tensor) -> Tensor:
        """s at ``t``, float64."""
        return LEVEL_MAX * torch.expm1(RHO * torch.log1p(self._ratio * t.double())) / math.expm1(RHO * math.log1p(self._ratio))

    def _dlevel(self, t: Tensor) -> Tensor:
        slope = LEVEL_MAX * RHO * self._ratio / math.expm1(RHO * math.log1p(self._ratio))
        return slope * (1 + self._ratio * t.double()) ** (RHO - 1)

    def t_from_level(self, level: Tensor) -> Tensor:
        """Inverse of :meth:`level`; beyond the ends it gives the end, in [0, 1]; float64."""
        grown = torch.log1p(level.double() / LEVEL_MAX * math.expm1(RHO * math.log1p(self._ratio)))
        return (torch.expm1(grown / RHO) / self._ratio).clamp(0, 1)

    def alpha(self, t: Tensor) -> Tensor:
        return (self.scale / (self.scale**2 + self.level(t).square()).sqrt()).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        level = self.level(t)
        return (self.scale * level / (self.scale**2 + level.square()).sqrt()).to(t.dtype)

    def logsnr(self, t: Tensor) -> Tensor:
        return (-2 * self.level(t).log()).to(t.dtype)

    def t_from_logsnr(self, logsnr: Tensor) -> Tensor:
        return self.t_from_level(torch.exp(-0.5 * logsnr.double())).to(logsnr.dtype)

    def t_from_alpha(self, alpha: Tensor) -> Tensor:
        return self.t_from_level(self.scale * (alpha.double() ** -2 - 1).clamp_min(0).sqrt()).to(alpha.dtype)

    def t_from_sigma(self, sigma: Tensor) -> Tensor:
        part = (sigma.double() / self.scale).clamp(max=1)
        return self.t_from_level(sigma.double() / (1 - part.square()).sqrt()).to(sigma.dtype)

    def dalpha(self, t: Tensor) -> Tensor:
        level = self.level(t)
        return (-self.scale * level * (self.scale**2 + level.square()) ** -1.5 * self._dlevel(t)).to(t.dtype)

    def dsigma(self, t: Tensor) -> Tensor:
        return (self.scale**3 * (self.scale**2 + self.level(t).square()) ** -1.5 * self._dlevel(t)).to(t.dtype)


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
    "edm": ScaledVESchedule(SIGMA_DATA),
    "uedm": ScaledVESchedule(1.0),
}


@dataclass(frozen=True)
class TDistribution:
    """A distribution of t in training, as a function of one standard variable.

    Attributes:
        t: (schedule, value) -> t in [0, 1].
        normal: Whether ``value`` is standard normal; else it is uniform on (0, 1).
    """

    t: Callable[[Schedule, Tensor], Tensor]
    normal: bool = True

    def draw(self, schedule: Schedule, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """``count`` values of t, (count,) float32."""
        drawn = torch.randn if self.normal else torch.rand
        return self.t(schedule, drawn(count, generator=generator, device=device))

    def quantile(self, schedule: Schedule, part: Tensor) -> Tensor:
        """The values of t at the quantiles ``part`` in (0, 1) of the standard variable."""
        return self.t(schedule, math.sqrt(2) * torch.erfinv(2 * part - 1) if self.normal else part)


T_DISTRIBUTIONS: dict[str, TDistribution] = {
    "uniform": TDistribution(lambda schedule, value: value, normal=False),
    "logit-normal": TDistribution(lambda schedule, value: torch.sigmoid(value)),
    # EDM's: the noise-to-signal ratio s = sigma / alpha is log-normal.
    "log-normal": TDistribution(lambda schedule, value: schedule.t_from_logsnr(-2 * (LOG_LEVEL_MEAN + LOG_LEVEL_STD * value))),
}
