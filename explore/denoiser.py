"""A network with its schedule and prediction type, as one object that gives x0_hat, eps_hat and the ODE's drift.

Each prediction type is one line of algebra between the network's output and (x0, eps); see arXiv 2202.00512 for ``v``,
2210.02747 for ``velocity``, 2206.00364 for ``edm``, 2502.13129 for ``uedm`` and 2510.02300 for ``eqm``. Depends on schedules
and values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explore.schedules import SIGMA_DATA, FlowSchedule, Schedule
from explore.values import real_number

# eps_hat of x0, uedm and eqm predictions divides by sigma; this keeps it finite at t = 0.
SIGMA_FLOOR = 1e-4
# Largest t at which sampling from an eps prediction starts, on any schedule; on `flow` alpha is 0 at t = 1.
EPS_START = 0.991


@dataclass(frozen=True)
class Prediction:
    """How a network's output relates to data and noise. All arguments are tensors that broadcast.

    Attributes:
        target: (x0, eps, alpha, sigma) -> training target.
        x0: (output, xt, alpha, sigma) -> estimate of x0.
        eps: (output, xt, alpha, sigma) -> estimate of eps.
        drift: (output, x0_hat, eps_hat, dalpha, dsigma) -> d xt / d t; by default dalpha x0_hat + dsigma eps_hat.
        flow_only: Whether it is defined on the straight path of flow matching only.
        leads: Whether the output is a direction that leads from noise to data by itself, so that it can be followed without t.
    """

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    eps: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    drift: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = lambda output, x0_hat, eps_hat, dalpha, dsigma: (
        dalpha * x0_hat + dsigma * eps_hat
    )
    flow_only: bool = False
    leads: bool = False


@dataclass(frozen=True)
class Estimate:
    """Estimates from one evaluation of a network at (xt, t).

    Attributes:
        output: The network's raw output (B, C, H, W), float32.
        x0_hat: Estimate of the clean image.
        eps_hat: Estimate of the noise.
        drift: d xt / d t of the probability-flow ODE, alpha'(t) x0_hat + sigma'(t) eps_hat.
    """

    output: Tensor
    x0_hat: Tensor
    eps_hat: Tensor
    drift: Tensor = field(repr=False)


class Denoiser(nn.Module):
    """A network behind an interface that does not depend on its prediction type.

    Args:
        network: Module called as ``network(xt, t)`` with xt (B, C, H, W) and t (B,).
        schedule: The noise path of its training.
        prediction: A key of ``PREDICTIONS``.
        shape: Shape (C, H, W) of one image.
        name: Shown in messages and pictures.
        source: Folder of the weights (the zoo's checkpoints or a diffusers folder); empty if there is none.
        sha256: Of the weights' file; empty if there is none. These two identify a model, its name does not.

    Raises:
        ValueError: For an unknown prediction, or one that is not defined on the schedule.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: str,
        shape: tuple[int, int, int],
        name: str = "",
        *,
        source: str = "",
        sha256: str = "",
    ) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(f"unknown prediction {prediction!r}; choose from {', '.join(PREDICTIONS)}")
        if PREDICTIONS[prediction].flow_only and not isinstance(schedule, FlowSchedule):
            raise ValueError(f"prediction {prediction!r} is defined on the schedule 'flow' only")
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.shape = (shape[0], shape[1], shape[2])
        self.name, self.source, self.sha256 = name, source, sha256

    def around(self, network: nn.Module) -> Denoiser:
        """The same model with another ``network``, such as a wrapper of its own."""
        return Denoiser(network, self.schedule, self.prediction, self.shape, self.name, source=self.source, sha256=self.sha256)

    @property
    def start(self) -> float:
        """First t of samplers: the schedule's; at most ``EPS_START`` for eps, as x0_hat divides by alpha."""
        return min(self.schedule.start, EPS_START) if self.prediction == "eps" else self.schedule.start

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the network computes in."""
        return next((parameter.dtype for parameter in self.network.parameters()), torch.float32)

    @property
    def device(self) -> torch.device:
        """The network's device; the CPU for a network without parameters."""
        return next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))

    def output(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """The network's own output, in the dtype of ``xt``.

        The network gets copies, so that in-place changes affect neither ``xt`` nor ``t``.
        """
        time = torch.as_tensor(t, dtype=torch.float32, device=xt.device).expand(len(xt)).clone()
        # The network sees channels-last images: several times faster on CPUs and never slower on GPUs.
        images = xt.to(self.dtype).contiguous(memory_format=torch.channels_last)
        if images.untyped_storage().data_ptr() == xt.untyped_storage().data_ptr():  # nothing had to be copied
            images = images.clone(memory_format=torch.channels_last)
        output = self.network(images, time)
        # A copy: the network may write to this tensor again in its next evaluation.
        return output.to(xt.dtype) if output.dtype != xt.dtype else output.clone()

    def estimate(self, xt: Tensor, t: Tensor | float) -> Estimate:
        """Evaluates the network once.

        Args:
            xt: (B, C, H, W), float32 (float64 is kept by networks that compute in it).
            t: In [0, 1], a number or (B,).

        Returns:
            Estimate of tensors (B, C, H, W) in the dtype of ``xt``; finite also at t = 0.
        """
        return self.read(self.output(xt, t), xt, t)

    def read(self, output: Tensor, xt: Tensor, t: Tensor | float) -> Estimate:
        """The estimates that an ``output`` of the network at (xt, t) stands for; arguments and result as :meth:`estimate`."""
        # Coefficients in float64: near t = 1 alpha is small, and a division by it loses digits.
        time = torch.as_tensor(t, dtype=torch.float64, device=xt.device).reshape(-1, 1, 1, 1)
        alpha, sigma, dalpha, dsigma = (
            f(time).to(xt.dtype) for f in (self.schedule.alpha, self.schedule.sigma, self.schedule.dalpha, self.schedule.dsigma)
        )
        rule = PREDICTIONS[self.prediction]
        x0_hat, eps_hat = rule.x0(output, xt, alpha, sigma), rule.eps(output, xt, alpha, sigma)
        drift = rule.drift(output, x0_hat, eps_hat, dalpha, dsigma)
        return Estimate(output, x0_hat, eps_hat, drift)

    def forward(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """x0_hat (B, C, H, W) for ``xt`` at ``t``; see :meth:`estimate`."""
        return self.estimate(xt, t).x0_hat

    def eps_hat(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """Estimate of the noise, (B, C, H, W)."""
        return self.estimate(xt, t).eps_hat

    def drift(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """d xt / d t of the probability-flow ODE, (B, C, H, W)."""
        return self.estimate(xt, t).drift


class ShiftedTime(nn.Module):
    """``network`` with t + ``offset``, clipped to [0, 1], as its time input."""

    def __init__(self, network: nn.Module, offset: float) -> None:
        super().__init__()
        self.network, self.offset = network, offset

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """As ``network``."""
        return self.network(xt, (t + self.offset).clamp(0, 1))


def shifted(denoiser: Denoiser, offset: float) -> Denoiser:
    """``denoiser`` whose network gets t + ``offset``; the output combination and the samplers keep the true t.

    Args:
        denoiser: The model.
        offset: From -1 to 1; 0 returns ``denoiser`` itself.

    Raises:
        ValueError: For an offset out of range.
    """
    offset = real_number("the clock's offset", offset, -1, 1)
    if offset == 0:
        return denoiser
    return denoiser.around(ShiftedTime(denoiser.network, offset))


def _energy(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Mean square of xt for data of standard deviation ``SIGMA_DATA``."""
    return SIGMA_DATA**2 * alpha**2 + sigma**2


PREDICTIONS: dict[str, Prediction] = {
    "eps": Prediction(
        target=lambda x0, eps, alpha, sigma: eps,
        x0=lambda output, xt, alpha, sigma: (xt - sigma * output) / alpha,
        eps=lambda output, xt, alpha, sigma: output,
    ),
    "x0": Prediction(
        target=lambda x0, eps, alpha, sigma: x0,
        x0=lambda output, xt, alpha, sigma: output,
        eps=lambda output, xt, alpha, sigma: (xt - alpha * output) / sigma.clamp_min(SIGMA_FLOOR),
    ),
    # On a path that is not variance-preserving alpha^2 + sigma^2 is not 1; dividing by it keeps both rules exact.
    "v": Prediction(
        target=lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
        x0=lambda output, xt, alpha, sigma: (alpha * xt - sigma * output) / (alpha**2 + sigma**2),
        eps=lambda output, xt, alpha, sigma: (sigma * xt + alpha * output) / (alpha**2 + sigma**2),
    ),
    "velocity": Prediction(
        target=lambda x0, eps, alpha, sigma: eps - x0,
        x0=lambda output, xt, alpha, sigma: xt - sigma * output,
        eps=lambda output, xt, alpha, sigma: xt + alpha * output,
        drift=lambda output, x0_hat, eps_hat, dalpha, dsigma: output,  # the step alone knows t
        flow_only=True,
        leads=True,
    ),
    # EDM: x0_hat = c_skip y + c_out output, y = xt / alpha, s = sigma / alpha, c_skip = 0.5^2 / (0.5^2 + s^2) and
    # c_out = 0.5 s / sqrt(0.5^2 + s^2), written without a division by alpha. EDM's loss weight is 1 / c_out^2, so that the
    # loss of the output itself has weight 1. Its c_in is the schedule "edm". A conditioned network gets t, a function of s,
    # where EDM's gets c_noise = ln(s) / 4; a time-agnostic one gets neither, but c_in, c_skip and c_out still know s.
    "edm": Prediction(
        target=lambda x0, eps, alpha, sigma: (
            (sigma * x0 - SIGMA_DATA**2 * alpha * eps) / (SIGMA_DATA * _energy(alpha, sigma) ** 0.5)
        ),
        x0=lambda output, xt, alpha, sigma: (
            SIGMA_DATA**2 * alpha * xt / _energy(alpha, sigma) + SIGMA_DATA * sigma * output / _energy(alpha, sigma) ** 0.5
        ),
        eps=lambda output, xt, alpha, sigma: (
            sigma * xt / _energy(alpha, sigma) - SIGMA_DATA * alpha * output / _energy(alpha, sigma) ** 0.5
        ),
    ),
    # uEDM: as EDM with c_out = 1, so no s scales what the network says, and c_in = 1 / sqrt(1 + s^2), the schedule "uedm". In
    # c_in and c_skip s remains. The paper's c_skip is taken to be EDM's, and the loss of the output to have weight 1.
    "uedm": Prediction(
        target=lambda x0, eps, alpha, sigma: sigma * (sigma * x0 - SIGMA_DATA**2 * alpha * eps) / _energy(alpha, sigma),
        x0=lambda output, xt, alpha, sigma: SIGMA_DATA**2 * alpha * xt / _energy(alpha, sigma) + output,
        eps=lambda output, xt, alpha, sigma: sigma * xt / _energy(alpha, sigma) - alpha * output / sigma.clamp_min(SIGMA_FLOOR),
    ),
    # Equilibrium Matching: t times the velocity, which vanishes at the data (the paper's linear decay c = t; its network is
    # given no t). x0_hat does not use t at all.
    "eqm": Prediction(
        target=lambda x0, eps, alpha, sigma: sigma * (eps - x0),
        x0=lambda output, xt, alpha, sigma: xt - output,
        eps=lambda output, xt, alpha, sigma: xt + alpha * output / sigma.clamp_min(SIGMA_FLOOR),
        flow_only=True,
        leads=True,
    ),
}
