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
from explore.probes import ProbeSet, RidgeProbe
from explore.seeds import keyed_noise, seed_range
from explore.values import choose, real_number, real_numbers, whole_number

EVALUATED = 64  # images in one pass of the network
STD_FLOOR = 1e-12  # least variance: the square root has no gradient at 0


@dataclass(frozen=True)
class Seen:
    """The outputs of one evaluation: x0_hat and eps_hat (B, C, H, W), and the known x0, or (B, 0) if there is none."""

    x0_hat: Tensor
    eps_hat: Tensor
    x0: Tensor


@dataclass(frozen=True)
class Target:
    """A scalar of one evaluation.

    Attributes:
        what: Description with the unit.
        value: (subject, outputs) -> (B,); None for a probe prediction, which needs no output of the network.
        needs: Required settings.
    """

    what: str
    value: Callable[[Subject, Seen], Tensor] | None = None
    needs: tuple[str, ...] = ()


class _Enough(Exception):  # noqa: N818  ends an evaluation early; not an error
    pass


def _features(activation: Tensor, view: str) -> Tensor:
    """``VIEWS[view]`` with a gradient everywhere, also for the standard deviation of a constant channel."""
    if view not in ("mean_std", "log_std"):
        return ACTIVATION_VIEWS[view](activation)
    rows = rows_of(activation).float()
    std = rows.var(1).clamp_min(STD_FLOOR).sqrt()
    return torch.cat([rows.mean(1), std.log() if view == "log_std" else std], 1)


class Subject:
    """One target of one model at one noise level: a function of the image, of the given t, and of x0.

    It uses a copy of the network in float32, so its hooks affect nothing else.

    Args:
        denoiser: The model.
        t: The true t, that of the noise in the image; the output combination uses it.
        target: A key of ``TARGETS``.
        probe_set: Probes of the model, for ``implied-clock``.
        layer: The probed layer; by default that of the best probe.
        view: A key of ``VIEWS``, but not ``position``; as for :meth:`explore.probes.ProbeSet.probe`.
        condition: Which probes, ``independent`` or ``true``; the same ones for a time-agnostic network.
        box: (top, left, height, width) in x0_hat, for ``x0-region``; by default all of it.
        channel: Channel of x0_hat; by default all.

    Raises:
        ValueError: If a setting is out of range or missing.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        t: float,
        target: str = "implied-clock",
        *,
        probe_set: ProbeSet | None = None,
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
        if denoiser.dtype in (torch.bfloat16, torch.float16):  # their rounding errors would hide gaps in completeness
            network = network.float()
        self.denoiser = denoiser.around(network)
        self.t, self.target = float(t), target
        self.points = hook_points(self.denoiser)
        self.probe: RidgeProbe | None = None
        self.layer: str | None = None
        self.view = ""
        if TARGETS[target].value is None:
            if probe_set is None:
                raise ValueError(f"the target {target} needs the model's probes; `python -m explore probe` fits them")
            self.probe = probe_set.probe(layer, view, condition)
            self.layer, self.view = (probe_set.best[0], view or probe_set.best[1]) if layer is None else (layer, view or "mean")
            if self.layer not in self.points or self.view == "position":
                raise ValueError(
                    f"the implied noise level needs a probe of a block, in the view mean or mean_std, not of {self.layer}"
                )
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
        """The copy of the network."""
        return self.denoiser.network

    def __call__(self, xt: Tensor, t_given: Tensor, x0: Tensor) -> Tensor:
        """The target (B,), float64, for images (B, C, H, W), the given t (B,), and x0, or (B, 0)."""
        if self.probe is not None:
            shown: list[Tensor] = []

            def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
                shown.append(output)
                if len(shown) == calls:
                    raise _Enough

            assert self.layer is not None
            calls = self.points[self.layer].calls
            with hooks(self.network, {self.layer: keep}), contextlib.suppress(_Enough):
                self.denoiser.output(xt, t_given)
            return self.probe.predict(_features(shown[-1], self.view))
        with uncompiled():  # captum's methods set their own hooks
            output = self.denoiser.output(xt, t_given)
        # As in Denoiser.estimate, but with the true t instead of the given one.
        time = torch.tensor(self.t, dtype=torch.float64)
        alpha, sigma = (f(time).to(xt) for f in (self.denoiser.schedule.alpha, self.denoiser.schedule.sigma))
        rule = PREDICTIONS[self.denoiser.prediction]
        value = TARGETS[self.target].value
        assert value is not None
        return value(self, Seen(rule.x0(output, xt, alpha, sigma), rule.eps(output, xt, alpha, sigma), x0))

    @torch.no_grad()
    def values(self, xt: Tensor, t_given: Tensor, x0: Tensor) -> Tensor:
        """The target (B,) without gradients, in batches."""
        parts = zip(xt.split(EVALUATED), t_given.split(EVALUATED), x0.split(EVALUATED))
        return torch.cat([self(*part).double().cpu() for part in parts])


def _region_mean(subject: Subject, seen: Seen) -> Tensor:
    top, left, tall, wide = subject.box
    part = seen.x0_hat[:, :, top : top + tall, left : left + wide]
    part = part if subject.channel is None else part[:, subject.channel : subject.channel + 1]
    return part.double().flatten(1).mean(1)


_REFILL_STEP = 2**31  # step of the keyed noise that no sampler or sweep reaches


def matched_noise(xt: Tensor, sigma: float, seed: int) -> Tensor:
    """The mean color of each image with another draw of noise of the same level."""
    seeds = seed_range(seed, len(xt))
    return xt.mean((2, 3), keepdim=True) + sigma * keyed_noise(seeds, xt.shape[1:], step=_REFILL_STEP).to(xt)


def _blurred(xt: Tensor, sigma: float, seed: int) -> Tensor:
    """A Gaussian blur; standard deviation 1/16 of the side, at least one pixel; edges are repeated."""
    width = max(1.0, xt.shape[-1] / 16)
    reach = min(math.ceil(3 * width), min(xt.shape[-2:]) - 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width).square()).to(xt)
    kernel = (kernel / kernel.sum()).expand(xt.shape[1], 1, -1)
    padded = nn.functional.pad(xt, (reach,) * 4, mode="replicate")
    rows = nn.functional.conv2d(padded, kernel[:, :, None], groups=xt.shape[1])
    return nn.functional.conv2d(rows, kernel[..., None], groups=xt.shape[1])


TARGETS: dict[str, Target] = {
    "implied-clock": Target("noise level that a layer's probe predicts, in the probe's unit", None, ("probe_set",)),
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
# name -> function of (xt (B, C, H, W), sigma(t), seed) that returns a baseline of the same shape
BASELINES: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    # Uniform gray without noise: unlike any input of a network at a high noise level.
    "zero": lambda xt, sigma, seed: torch.zeros_like(xt),
    "blurred": _blurred,
    "matched-noise": matched_noise,
}
