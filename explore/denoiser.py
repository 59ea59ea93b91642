"""A network, its schedule and what it predicts, as one object that gives x0_hat, eps_hat and the ODE's drift.

Each prediction type is one line of algebra between the network's output and (x0, eps); see arXiv 2202.00512 for ``v``
and arXiv 2210.02747 for ``velocity``. Depends on schedules and values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explore.schedules import FlowSchedule, Schedule
from explore.values import real_number

# eps_hat of an x0 prediction divides by sigma; below this (t = 0) the division is held finite.
SIGMA_FLOOR = 1e-4
# Where sampling from an eps prediction starts at the latest, on any schedule; on `flow` alpha is 0 at t = 1.
EPS_START = 0.991


@dataclass(frozen=True)
class Prediction:
    """How a network's output relates to data and noise. All arguments are tensors that broadcast.

    Attributes:
        target: (x0, eps, alpha, sigma) -> what the network is trained to output.
        x0: (output, xt, alpha, sigma) -> estimate of x0.
        eps: (output, xt, alpha, sigma) -> estimate of eps.
        drift: (output, x0_hat, eps_hat, dalpha, dsigma) -> d xt / d t; only where the output says it more directly than
            dalpha x0_hat + dsigma eps_hat.
        flow_only: Whether it is defined on the straight path of flow matching alone.
    """

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    eps: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    drift: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = lambda output, x0_hat, eps_hat, dalpha, dsigma: (
        dalpha * x0_hat + dsigma * eps_hat
    )
    flow_only: bool = False


@dataclass(frozen=True)
class Estimate:
    """What one evaluation of a network says about (xt, t).

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
    """Wraps ``network`` so that samplers and instruments need not know what it predicts.

    Args:
        network: Module called as ``network(xt, t)`` with xt (B, C, H, W) and t (B,).
        schedule: The noise path it was trained on.
        prediction: A key of ``PREDICTIONS``.
        shape: Shape (C, H, W) of one image.
        name: Shown in messages and pictures.
        source: Where the weights were read: the checkpoint folder of the zoo, or a folder of diffusers; empty if nowhere.
        sha256: Of the weights' file; empty without one. A model is known by these two, not by its name.

    Raises:
        ValueError: For an unknown prediction, or one that the schedule does not have.
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
        """The same model with ``network``, a copy of its own or a wrapper around it, in the place of its own."""
        return Denoiser(network, self.schedule, self.prediction, self.shape, self.name, source=self.source, sha256=self.sha256)

    @property
    def start(self) -> float:
        """The t at which samplers begin: the schedule's, but for eps never where alpha vanishes and x0_hat divides by it."""
        return min(self.schedule.start, EPS_START) if self.prediction == "eps" else self.schedule.start

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the network computes in."""
        return next((parameter.dtype for parameter in self.network.parameters()), torch.float32)

    @property
    def device(self) -> torch.device:
        """Where the network is; a network without parameters counts as being on the CPU."""
        return next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))

    def output(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """The network's own output, in the dtype of ``xt``.

        The network is handed tensors of its own: what it does to them in place changes neither ``xt`` nor ``t``.
        """
        told = torch.as_tensor(t, dtype=torch.float32, device=xt.device).expand(len(xt)).clone()
        # The network sees channels-last images: several times faster on CPUs and never slower on GPUs.
        images = xt.to(self.dtype).contiguous(memory_format=torch.channels_last)
        if images.untyped_storage().data_ptr() == xt.untyped_storage().data_ptr():  # nothing had to be copied
            images = images.clone(memory_format=torch.channels_last)
        output = self.network(images, told)
        # Nor is the output one that the network writes to again in its next evaluation.
        return output.to(xt.dtype) if output.dtype != xt.dtype else output.clone()

    def estimate(self, xt: Tensor, t: Tensor | float) -> Estimate:
        """Everything one evaluation says.

        Args:
            xt: (B, C, H, W), float32 (float64 is kept by networks that compute in it).
            t: In [0, 1], a number or (B,).

        Returns:
            Estimate of tensors (B, C, H, W) in the dtype of ``xt``; finite also at t = 0.
        """
        output = self.output(xt, t)
        # Coefficients in float64: near t = 1 alpha is small and eps_hat / alpha should not also lose digits.
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
    """``network``, told t + ``offset`` (held in [0, 1]) in the place of t."""

    def __init__(self, network: nn.Module, offset: float) -> None:
        super().__init__()
        self.network, self.offset = network, offset

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """As ``network``."""
        return self.network(xt, (t + self.offset).clamp(0, 1))


def shifted(denoiser: Denoiser, offset: float) -> Denoiser:
    """``denoiser`` with a given clock that runs ``offset`` ahead of the true one.

    Only what the network is told changes: the output combination and the samplers keep the true t.

    Args:
        denoiser: The model.
        offset: From -1 to 1; 0 gives ``denoiser`` back.

    Raises:
        ValueError: For an offset out of range.
    """
    offset = real_number("the clock's offset", offset, -1, 1)
    if offset == 0:
        return denoiser
    return denoiser.around(ShiftedTime(denoiser.network, offset))


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
    ),
}
