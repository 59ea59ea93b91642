"""Targets, one scalar per image that is attributed, and baselines, the images that contributions are measured from.

Depends on activations, denoiser, probes, seeds, values.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explore.activations import VIEWS as ACTIVATION_VIEWS
from explore.activations import (
    check_hookable,
    hook_points,
    hooks,
    inner,
    rows_of,
    uncompiled,
)  # fmt: skip
from explore.denoiser import PREDICTIONS, Denoiser
from explore.probes import Clock, RidgeProbe
from explore.seeds import keyed_noise, seed_range
from explore.values import choose, real_number, real_numbers, whole_number

EVALUATED = 64  # pictures in one pass of the network
STD_FLOOR = 1e-12  # of a variance, whose root has no slope at 0


@dataclass(frozen=True)
class Seen:
    """What one evaluation shows a target: x0_hat and eps_hat (B, C, H, W), and the known x0, or (B, 0) without one."""

    x0_hat: Tensor
    eps_hat: Tensor
    x0: Tensor


@dataclass(frozen=True)
class Target:
    """A scalar of one evaluation.

    Attributes:
        what: In words, with the unit.
        value: (subject, what was seen) -> (B,); None for the readout of a probe, which needs no output of the network.
        needs: Settings without which it cannot be asked for.
    """

    what: str
    value: Callable[[Subject, Seen], Tensor] | None = None
    needs: tuple[str, ...] = ()


class _Enough(Exception):  # noqa: N818  it ends an evaluation that has shown what was asked for, and is no error
    pass


def _features(activation: Tensor, view: str) -> Tensor:
    """``VIEWS[view]`` with a slope everywhere: the standard deviation of a channel that is constant has none."""
    if view != "mean_std":
        return ACTIVATION_VIEWS[view](activation)
    rows = rows_of(activation).float()
    return torch.cat([rows.mean(1), rows.var(1).clamp_min(STD_FLOOR).sqrt()], 1)


class Subject:
    """One target of one model at one noise level: a function of the picture, of what the network is told, and of x0.

    It works on a copy of the network in float32, so that nothing it hooks into is what others use.

    Args:
        denoiser: The model.
        t: The true t, that of the noise in the picture; the output combination uses it.
        target: A key of ``TARGETS``.
        clock: Probes of the model, for ``implied-clock``.
        layer: Whose probe is read; by default the best one's.
        view: A key of ``VIEWS``, but not ``position``; as for :meth:`explore.probes.Clock.probe`.
        condition: Which probes, ``independent`` or ``true``; alike for a network that does not hear the time.
        box: (top, left, height, width) of x0_hat, for ``x0-region``; by default all of it.
        channel: Of x0_hat; by default all.

    Raises:
        ValueError: For a setting out of range, or a target without what it needs.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        t: float,
        target: str = "implied-clock",
        *,
        clock: Clock | None = None,
        layer: str | None = None,
        view: str | None = None,
        condition: str = "independent",
        box: Sequence[int] | None = None,
        channel: int | None = None,
    ) -> None:
        choose("target", target, TARGETS)
        t = real_number("t", t, 0, 1)
        check_hookable(inner(denoiser))
        network = copy.deepcopy(inner(denoiser)).eval().requires_grad_(False)
        if denoiser.dtype in (torch.bfloat16, torch.float16):  # their rounding would drown completeness
            network = network.float()
        self.denoiser = denoiser.around(network)
        self.t, self.target = float(t), target
        self.points = hook_points(self.denoiser)
        self.probe: RidgeProbe | None = None
        self.layer: str | None = None
        self.view = ""
        if TARGETS[target].value is None:
            if clock is None:
                raise ValueError(f"the target {target} needs the model's probes: they are made by `python -m explore probe`")
            self.probe = clock.probe(layer, view, condition)
            self.layer, self.view = (clock.best[0], view or clock.best[1]) if layer is None else (layer, view or "mean")
            if self.layer not in self.points or self.view == "position":
                raise ValueError(f"the implied clock is read from a block in the view mean or mean_std, not from {self.layer}")
        self.box, self.channel = self._region(box, channel)

    def _region(self, box: Sequence[int] | None, channel: int | None) -> tuple[tuple[int, ...], int | None]:
        channels, height, width = self.denoiser.shape
        sides = real_numbers("each of box", box) if box is not None else (0, 0, height, width)
        if len(sides) != 4 or not all(side == int(side) for side in sides):
            raise ValueError(f"box must be four whole numbers (top, left, height, width), got {tuple(box or ())}")
        top, left, tall, wide = map(int, sides)
        if not (0 <= top < top + tall <= height and 0 <= left < left + wide <= width):
            raise ValueError(f"box must be (top, left, height, width) within {height} x {width} pixels, got {tuple(box or ())}")
        channel = None if channel is None else whole_number("channel", channel, 0, channels - 1)
        return (top, left, tall, wide), channel

    @property
    def network(self) -> nn.Module:
        """The copy."""
        return self.denoiser.network

    def __call__(self, xt: Tensor, told: Tensor, x0: Tensor) -> Tensor:
        """The target (B,), float64, for pictures (B, C, H, W), what the network is told (B,), and x0, or (B, 0)."""
        if self.probe is not None:
            shown: list[Tensor] = []

            def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
                shown.append(output)
                if len(shown) == calls:
                    raise _Enough

            assert self.layer is not None
            calls = self.points[self.layer].calls
            with hooks(self.network, {self.layer: keep}), contextlib.suppress(_Enough):
                self.denoiser.output(xt, told)
            return self.probe.predict(_features(shown[-1], self.view))
        with uncompiled():  # the methods of captum have hooks of their own
            output = self.denoiser.output(xt, told)
        # As in Denoiser.estimate, but for the true t in the place of what the network is told.
        time = torch.tensor(self.t, dtype=torch.float64)
        alpha, sigma = (f(time).to(xt) for f in (self.denoiser.schedule.alpha, self.denoiser.schedule.sigma))
        rule = PREDICTIONS[self.denoiser.prediction]
        value = TARGETS[self.target].value
        assert value is not None
        return value(self, Seen(rule.x0(output, xt, alpha, sigma), rule.eps(output, xt, alpha, sigma), x0))

    @torch.no_grad()
    def values(self, xt: Tensor, told: Tensor, x0: Tensor) -> Tensor:
        """The target (B,) without gradients, a few pictures at a time."""
        parts = zip(xt.split(EVALUATED), told.split(EVALUATED), x0.split(EVALUATED))
        return torch.cat([self(*part).double().cpu() for part in parts])


def _region_mean(subject: Subject, seen: Seen) -> Tensor:
    top, left, tall, wide = subject.box
    part = seen.x0_hat[:, :, top : top + tall, left : left + wide]
    part = part if subject.channel is None else part[:, subject.channel : subject.channel + 1]
    return part.double().flatten(1).mean(1)


_REFILL_STEP = 2**31  # of the keyed noise: no sampler or sweep draws so late a step


def matched_noise(xt: Tensor, sigma: float, seed: int) -> Tensor:
    """The mean colour of each picture with noise of the same level, another draw."""
    seeds = seed_range(seed, len(xt))
    return xt.mean((2, 3), keepdim=True) + sigma * keyed_noise(seeds, xt.shape[1:], step=_REFILL_STEP).to(xt)


def _blurred(xt: Tensor, sigma: float, seed: int) -> Tensor:
    """A Gaussian blur over a sixteenth of the side, at least a pixel, edges repeated."""
    width = max(1.0, xt.shape[-1] / 16)
    reach = min(math.ceil(3 * width), min(xt.shape[-2:]) - 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width).square()).to(xt)
    kernel = (kernel / kernel.sum()).expand(xt.shape[1], 1, -1)
    padded = nn.functional.pad(xt, (reach,) * 4, mode="replicate")
    rows = nn.functional.conv2d(padded, kernel[:, :, None], groups=xt.shape[1])
    return nn.functional.conv2d(rows, kernel[..., None], groups=xt.shape[1])


TARGETS: dict[str, Target] = {
    "implied-clock": Target("noise level that a layer's probe reads, in the probe's unit", None, ("clock",)),
    "noise-norm": Target(
        "root mean square of the predicted noise, 1 for unit noise",
        lambda subject, seen: seen.eps_hat.double().flatten(1).square().mean(1).sqrt(),
    ),
    "x0-region": Target("mean of x0_hat over a box or a channel, images in [-1, 1]", _region_mean),
    "loss": Target(
        "mean squared error of x0_hat against the known x0, images in [-1, 1]",
        lambda subject, seen: (seen.x0_hat - seen.x0).double().flatten(1).square().mean(1),
        ("x0",),
    ),
}
# name -> (xt (B, C, H, W), sigma(t), seed) -> baseline of the same shape
BASELINES: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    # Mid-grey without any noise: far from anything a network is shown at a high noise level.
    "zero": lambda xt, sigma, seed: torch.zeros_like(xt),
    "blurred": _blurred,
    "matched-noise": matched_noise,
}
