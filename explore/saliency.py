"""Which pixels, frequencies and blocks one number of a model depends on: captum's methods on scalar targets with a name.

``attribute`` is the one verb. Beside every map stands what makes it believable: completeness (where it holds), deletion and
insertion curves in which removed pixels are refilled with noise of the same level, so that the noise level stays, and the
comparison with a network whose parameters were drawn anew. ``routes`` says how much comes through what the network is told of
t, with the t of the output combination held fixed. ``reading`` asks where the clock is read: flat or textured patches, which
frequencies, the norm or the high-pass content, and whether two noise levels in one picture are told apart.

Sources: saliency (Simonyan, arXiv 1312.6034), Integrated Gradients (arXiv 1703.01365), SmoothGrad (arXiv 1706.03825), occlusion
(arXiv 1311.2901), GradCAM (arXiv 1610.02391), conductance (arXiv 1805.12233), randomised parameters (arXiv 1810.03292),
deletion and insertion (arXiv 1806.07421). Depends on activations, data, denoiser, models, probes, schedules, zoo; captum is
imported where it is used.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explore.activations import VIEWS as ACTIVATION_VIEWS
from explore.activations import (
    HookPoint,
    check_hookable,
    first_tensor,
    hook_points,
    hooks,
    independent_clock,
    inner,
    level_times,
    rows_of,
    statistics,
    uncompiled,
    with_first_tensor,
)  # fmt: skip
from explore.data import add_noise, to_float
from explore.denoiser import PREDICTIONS, Denoiser
from explore.models.layers import Modulation
from explore.probes import DRAWS, Clock, RidgeProbe, hears, poisson_weights, redrawn, target_values
from explore.seeds import MAX_SEED, check_seeds, keyed_noise, seed_range
from explore.values import choose, real_number, real_numbers, whole_number

STEPS = 32  # of a path from the baseline, unless told otherwise
MAX_STEPS = 512  # to which steps are doubled by themselves
COMPLETE = 0.01  # a sum this near to the difference it should make, relative, counts as complete
EVALUATED = 64  # pictures in one pass of the network
SMOOTHED, SMOOTHING = 16, 0.1  # draws of SmoothGrad, and their standard deviation over sigma(t)
RINGS = 8  # bands of spatial frequency, as wide as each other; the last holds the corners too
HIGH_PASS = RINGS // 2  # the first ring of the high-pass content: a quarter of a cycle a pixel
FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of pixels deleted or inserted
REFILLS = 3  # draws of the noise that removed pixels are refilled with
REDRAWS = (0, 1, 2)  # seeds of the networks drawn anew
UNCHANGED = 0.3  # a rank correlation with their maps that is larger fails the check
SEEN = 0.05  # of a layer's gradient; GradCAM sees its mean over positions and is refused below this share
CONDUCTANCE_ENDS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0)  # of the stretches of a path
STD_FLOOR = 1e-12  # of a variance, whose root has no slope at 0

# Bands of spatial frequency --------------------------------------------------------------------------------------------


def rings(height: int, width: int) -> Tensor:
    """Band of every coefficient of ``rfft2``: int64 (H, W // 2 + 1), 0 the lowest, ``RINGS - 1`` the highest."""
    radius = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width)[None].square()).sqrt()
    return (radius / 0.5 * RINGS).long().clamp(max=RINGS - 1)


def ring_edges() -> list[tuple[float, float]]:
    """Lower and upper end of every band in cycles a pixel; the last goes on into the corners."""
    return [(0.5 * k / RINGS, 0.5 * (k + 1) / RINGS) for k in range(RINGS)]


def _multiplicity(width: int) -> Tensor:
    """How many coefficients of ``fft2`` each column of ``rfft2`` stands for, (W // 2 + 1,)."""
    count = torch.full((width // 2 + 1,), 2.0)
    count[0] = 1.0
    if width % 2 == 0:
        count[-1] = 1.0
    return count


def by_ring(coefficients: Tensor, width: int) -> Tensor:
    """Sums a quantity (B, C, H, W // 2 + 1) of ``rfft2`` over channels and over the coefficients of each band, (B, RINGS)."""
    height = coefficients.shape[-2]
    weighted = (coefficients * _multiplicity(width).to(coefficients)).sum(1).flatten(1)  # (B, F)
    member = nn.functional.one_hot(rings(height, width).flatten(), RINGS).to(weighted)
    return weighted @ member


def swap_rings(xt: Tensor, other: Tensor, chosen: Sequence[int]) -> Tensor:
    """``xt`` with the bands ``chosen`` of ``other``, both (B, C, H, W)."""
    member = torch.isin(rings(*xt.shape[-2:]), torch.tensor(list(chosen)))
    mixed = torch.where(member.to(xt.device), torch.fft.rfft2(other), torch.fft.rfft2(xt))
    return torch.fft.irfft2(mixed, s=xt.shape[-2:])


# Targets: one number for each picture -----------------------------------------------------------------------------------


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


# Baselines: the picture that a contribution is counted from ---------------------------------------------------------------


def matched_noise(xt: Tensor, sigma: float, seed: int) -> Tensor:
    """The mean colour of each picture with noise of the same level, another draw."""
    seeds = seed_range(seed, len(xt))
    return xt.mean((2, 3), keepdim=True) + sigma * keyed_noise(seeds, xt.shape[1:], step=_REFILL_STEP).to(xt)


_REFILL_STEP = 2**31  # of the keyed noise: no sampler or sweep draws so late a step


def _blurred(xt: Tensor, sigma: float, seed: int) -> Tensor:
    """A Gaussian blur over a sixteenth of the side, at least a pixel, edges repeated."""
    width = max(1.0, xt.shape[-1] / 16)
    reach = min(math.ceil(3 * width), min(xt.shape[-2:]) - 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width).square()).to(xt)
    kernel = (kernel / kernel.sum()).expand(xt.shape[1], 1, -1)
    padded = nn.functional.pad(xt, (reach,) * 4, mode="replicate")
    rows = nn.functional.conv2d(padded, kernel[:, :, None], groups=xt.shape[1])
    return nn.functional.conv2d(rows, kernel[..., None], groups=xt.shape[1])


# Methods ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What a method is given.

    Attributes:
        subject: The target.
        xt: Pictures (B, C, H, W).
        told: What the network is told, (B,).
        x0: The clean pictures, or (B, 0).
        reference: The baseline, like ``xt``.
        steps: Of a path from it.
        at: Hook point that layer methods look at.
        window: Side of an occluding square in pixels.
        seed: Of SmoothGrad's noise.
    """

    subject: Subject
    xt: Tensor
    told: Tensor
    x0: Tensor
    reference: Tensor
    steps: int
    at: str | None
    window: int
    seed: int

    @property
    def more(self) -> tuple[Tensor, Tensor]:
        """What captum hands on to the target, repeated as it repeats the pictures."""
        return self.told, self.x0


@dataclass(frozen=True)
class Found:
    """What a method gives.

    Attributes:
        values: (B, C, H, W) of the picture, (B, C, h, w) of a layer, or (B, RINGS).
        gradient, factor: (B, C, H, W) of which the values are the product (or the first alone): a sum over pixels of a
            product is a sum over frequencies too, so these methods also say how much each frequency contributes.
        figures: Further figures, each (B,).
    """

    values: Tensor
    gradient: Tensor | None = None
    factor: Tensor | None = None
    figures: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A way of sharing out a target.

    Attributes:
        what: In words.
        run: Does it.
        domain: ``pixels``, ``layer`` (a layer's positions, shown on the picture) or ``frequencies``.
        signed: Whether the values are contributions with a sign, in the target's unit; else sensitivities, shown by size.
        complete: Whether the values should sum to the target's difference from the baseline.
        uses: Of ``baseline``, ``steps``, ``at`` and ``window`` those that matter.
        gradients: Whether it needs the network's gradient.
        tells_bands: Whether it says how much each band of frequencies contributes.
    """

    what: str
    run: Callable[[Case], Found]
    domain: str = "pixels"
    signed: bool = True
    complete: bool = False
    uses: tuple[str, ...] = ()
    gradients: bool = True
    tells_bands: bool = False


def _saliency(case: Case) -> Found:
    from captum.attr import Saliency

    values = Saliency(case.subject).attribute(_leaf(case.xt), abs=False, additional_forward_args=case.more)
    return Found(values.detach(), values.detach())


def _input_x_gradient(case: Case) -> Found:
    from captum.attr import Saliency

    # captum's InputXGradient is this product; the gradient itself is wanted too.
    gradient = Saliency(case.subject).attribute(_leaf(case.xt), abs=False, additional_forward_args=case.more).detach()
    return Found(gradient * case.xt, gradient, case.xt)


def _smoothgrad(case: Case) -> Found:
    from captum.attr import NoiseTunnel, Saliency

    sigma = float(case.subject.denoiser.schedule.sigma(torch.tensor(case.subject.t, dtype=torch.float64)))
    with torch.random.fork_rng(devices=[]):  # captum draws from the global generator
        torch.manual_seed(case.seed)
        values = NoiseTunnel(Saliency(case.subject)).attribute(
            _leaf(case.xt), nt_type="smoothgrad", nt_samples=SMOOTHED, nt_samples_batch_size=max(1, EVALUATED // len(case.xt)),
            stdevs=max(SMOOTHING * sigma, 1e-4), abs=False, additional_forward_args=case.more,
        )  # fmt: skip
    return Found(values.detach(), values.detach())


def _integrated_gradients(case: Case) -> Found:
    from captum.attr import IntegratedGradients

    gradient = IntegratedGradients(case.subject, multiply_by_inputs=False).attribute(
        case.xt, case.reference, n_steps=case.steps, internal_batch_size=max(EVALUATED, len(case.xt)),
        additional_forward_args=case.more,
    )  # fmt: skip
    gradient, factor = gradient.detach().to(case.xt), case.xt - case.reference
    return Found(gradient * factor, gradient, factor)


def _occlusion(case: Case) -> Found:
    from captum.attr import Occlusion

    channels = case.xt.shape[1]
    values = Occlusion(case.subject).attribute(
        case.xt, (channels, case.window, case.window), strides=(channels, *[(case.window + 1) // 2] * 2),
        baselines=case.reference, perturbations_per_eval=max(1, EVALUATED // len(case.xt)), additional_forward_args=case.more,
    )  # fmt: skip
    # captum gives every channel of a window the whole change; shared out among them, channels add up to it.
    return Found(values.detach() / channels)


def _frequency_ablation(case: Case) -> Found:
    from captum.attr import FeatureAblation

    height, width = case.xt.shape[-2:]
    ring = rings(height, width).to(case.xt.device)

    def ablated(parts: Tensor, told: Tensor, x0: Tensor) -> Tensor:
        return case.subject(torch.fft.irfft2(torch.view_as_complex(parts), s=(height, width)), told, x0)

    parts, other = (torch.view_as_real(torch.fft.rfft2(picture)).contiguous() for picture in (case.xt, case.reference))
    values = FeatureAblation(ablated).attribute(
        parts, other, feature_mask=ring[None, None, :, :, None].expand(1, *parts.shape[1:]),
        perturbations_per_eval=RINGS, additional_forward_args=case.more,
    ).detach()  # fmt: skip
    empty = torch.zeros(len(values), RINGS, dtype=values.dtype, device=values.device)
    # Every coefficient of a band has the change that the whole band makes.
    member = ring.flatten()
    return Found(empty.index_copy(1, member, values[:, 0, :, :, 0].flatten(1)))


class _Gridded(nn.Module):
    """A block that also shows its tensor as a picture, through ``picture``: captum takes one tensor, with the channels second.

    The block may return tokens, and the tensor may be one of several values.
    """

    def __init__(self, block: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.block, self.size, self.picture = block, size, nn.Identity()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = self.block(*inputs, **named)
        tensor = first_tensor(output)
        assert tensor is not None  # it is a hook point
        if tensor.ndim == 4:
            return with_first_tensor(output, self.picture(tensor))
        picture = self.picture(tensor.transpose(1, 2).unflatten(2, self.size))
        return with_first_tensor(output, picture.flatten(2).transpose(1, 2))


@contextlib.contextmanager
def _as_picture(subject: Subject, name: str) -> Iterator[nn.Module]:
    """The module whose output is that of the hook point ``name`` as (B, C, h, w)."""
    module = subject.network.get_submodule(name)
    size = grid(subject.points[name], subject.denoiser.shape)
    assert size is not None
    parent = subject.network.get_submodule(name.rpartition(".")[0])
    gridded = _Gridded(module, size)
    setattr(parent, name.rpartition(".")[2], gridded)
    try:
        yield gridded.picture
    finally:
        setattr(parent, name.rpartition(".")[2], module)


def _layer_gradient(case: Case, layer: nn.Module) -> Tensor:
    """Of the target by the layer's output (B, C, h, w)."""
    held: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        held.append(output if output.requires_grad else output.detach().requires_grad_())
        return held[0].clone()

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            value = case.subject(_leaf(case.xt), *case.more)
            [gradient] = torch.autograd.grad(value.sum(), held[0])
    finally:
        handle.remove()
    return gradient


def _layer_gradcam(case: Case) -> Found:
    from captum.attr import LayerGradCam

    assert case.at is not None
    with _as_picture(case.subject, case.at) as layer:
        gradient = _layer_gradient(case, layer)
        mean = gradient.mean((2, 3), keepdim=True)
        squares = gradient.flatten(1).square().sum(1)
        seen = mean.flatten(1).square().sum(1) * gradient[0, 0].numel() / squares.clamp_min(torch.finfo(gradient.dtype).tiny)
        if seen.mean() < SEEN:
            raise ValueError(
                f"layer-gradcam is not on offer at {case.at}: it sees the gradient's mean over positions, {seen.mean():.1%} of "
                f"the gradient here (at least {SEEN:.0%} are asked for); its map would be of something else"
            )
        values = LayerGradCam(case.subject, layer).attribute(_leaf(case.xt), additional_forward_args=case.more)
    return Found(values.detach(), figures={"gradient_seen": seen.detach()})


def _layer_conductance(case: Case) -> Found:
    from captum.attr import LayerConductance

    assert case.at is not None
    # Most happens near the baseline, where a picture first outweighs a network's biases: short stretches of the path there.
    stretches = list(itertools.pairwise(CONDUCTANCE_ENDS))
    steps = max(2, case.steps // len(stretches))
    parts = []
    with _as_picture(case.subject, case.at) as layer:
        method = LayerConductance(case.subject, layer)
        # Picture by picture: captum holds the layer at every step of the path at once.
        for one, reference, told, x0 in zip(*(part.split(1) for part in (case.xt, case.reference, *case.more))):
            total = torch.zeros(())
            for ends in stretches:
                start, end = (reference + share * (one - reference) for share in ends)
                # captum takes the gradient at the beginning of each step; there and back again, that is the trapezium rule.
                there, back = (
                    method.attribute(b, a, n_steps=steps, method="riemann_trapezoid", additional_forward_args=(told, x0))
                    for a, b in ((start, end), (end, start))
                )
                total = total + (there - back).detach() / 2
            parts.append(total)
    return Found(torch.cat(parts))


def _leaf(xt: Tensor) -> Tensor:
    return xt.detach().clone().requires_grad_()


def grid(point: HookPoint, shape: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of a hook point's positions; for tokens, those of square patches in rows, None where they are none.

    Args:
        point: A hook point.
        shape: Of one image, (C, H, W).
    """
    if len(point.shape) == 3:
        return (point.shape[1], point.shape[2]) if point.shape[1] * point.shape[2] > 1 else None
    (_, height, width), tokens = shape, point.shape[0]
    patch = round(math.sqrt(height * width / tokens))
    fits = patch >= 1 and height % patch == width % patch == 0 and (height // patch) * (width // patch) == tokens
    return (height // patch, width // patch) if fits and tokens > 1 else None


def layers_for(denoiser: Denoiser, method: str) -> list[str]:
    """Hook points that a layer method can look at: those whose positions lie on a grid. Empty for other methods.

    Raises:
        ValueError: For an unknown method.
    """
    choose("method", method, SALIENCY)
    if SALIENCY[method].domain != "layer":
        return []
    return [name for name, point in hook_points(denoiser).items() if grid(point, denoiser.shape) is not None]


def offered(denoiser: Denoiser) -> dict[str, str]:
    """Which methods work on a model: method -> empty, or why not; with those of captum's that are never on offer.

    Whether GradCAM works also depends on the layer and the picture: :func:`attribute` refuses in words where it does not.
    """
    network = inner(denoiser)
    parameter = next(network.parameters(), torch.zeros(()))
    with torch.enable_grad():
        xt = torch.zeros(1, *denoiser.shape, device=parameter.device, requires_grad=True)
        output = denoiser.output(xt, 0.5)
    smooth = output.requires_grad
    gridded = [point for point in hook_points(denoiser).values() if grid(point, denoiser.shape) is not None]
    found = {}
    for name, method in SALIENCY.items():
        if method.gradients and not smooth:
            found[name] = "the network's output has no gradient by its input"
        elif method.domain == "layer" and not gridded:
            found[name] = "no block's positions lie on a grid over the picture"
        else:
            found[name] = ""
    return found | NEVER_OFFERED


# The one verb ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attribution:
    """How a target's value is shared out over a picture.

    Attributes:
        model: Name.
        target, method, baseline: Keys of ``TARGETS``, ``SALIENCY`` and ``BASELINES``; ``baseline`` is empty where unused.
        t: The true t.
        told: What the network is told, (B,).
        layer, view: Whose probe is read; empty for targets that need none.
        at: Hook point that the method looked at; empty for methods on the picture.
        steps: Of the path; 0 where there is none.
        domain: ``pixels``, ``layer`` or ``frequencies``.
        signed: Whether values are contributions with a sign, in the target's unit; else sensitivities.
        values: As the method gives them: (B, C, H, W), (B, C, h, w) of a layer, or (B, RINGS).
        map: (B, H, W): sum over channels of contributions, sum of sizes of sensitivities, a layer's positions enlarged; for
            ``frequencies`` the plane of frequencies with 0 in the middle.
        bands: Contribution (or sensitivity) of each band, (B, RINGS); None where the method cannot tell.
        band_shares: Share of the sum of sizes in each band, (B, RINGS); None likewise.
        output: The target (B,), float64.
        reference_output: The target at the baseline, (B,); nan where unused.
        quality: JSON-able figures, see ``CHECKS``.
        notes: What should be known of this map, in words.
    """

    model: str
    target: str
    method: str
    baseline: str
    t: float
    told: Tensor
    layer: str
    view: str
    at: str
    steps: int
    domain: str
    signed: bool
    values: Tensor
    map: Tensor
    bands: Tensor | None
    band_shares: Tensor | None
    output: Tensor
    reference_output: Tensor
    quality: dict[str, Any]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but values and map, as JSON."""
        tensors = {"told", "bands", "band_shares", "output", "reference_output"}
        kept = {name: value for name, value in vars(self).items() if name not in ("values", "map")}
        found = {name: value.tolist() if name in tensors and value is not None else value for name, value in kept.items()}
        reference = [value if math.isfinite(value) else None for value in found["reference_output"]]
        return found | {
            "reference_output": reference, "notes": list(self.notes), "shape": list(self.values.shape),
            "map_shape": list(self.map.shape),
        }  # fmt: skip


def attribute(
    denoiser: Denoiser,
    xt: Tensor,
    t: float,
    target: str = "implied-clock",
    method: str = "integrated-gradients",
    *,
    clock: Clock | None = None,
    layer: str | None = None,
    view: str | None = None,
    condition: str = "independent",
    given: float | Tensor | None = None,
    box: Sequence[int] | None = None,
    channel: int | None = None,
    x0: Tensor | None = None,
    at: str | None = None,
    baseline: str = "zero",
    steps: int | None = None,
    window: int | None = None,
    seed: int = 0,
    checks: Sequence[str] | None = None,
) -> Attribution:
    """Shares a target's value out over a picture, and says how far the map can be believed.

    Args:
        denoiser: The model; a copy in float32 is worked on.
        xt: Noisy pictures (B, C, H, W).
        t: Their t, in [0, 1]; the output combination uses it.
        target: A key of ``TARGETS``.
        method: A key of ``SALIENCY``.
        clock: Probes of the model, for ``implied-clock``.
        layer: Whose probe is read; by default the best one's.
        view: Of that layer, ``mean`` or ``mean_std``.
        condition: Which probes of a network that hears the time, ``independent`` or ``true``.
        given: What the network is told, a number or (B,); by default ``t``.
        box: (top, left, height, width) for ``x0-region``; by default everything.
        channel: For ``x0-region``; by default all.
        x0: The clean pictures, for ``loss``.
        at: Hook point that layer methods look at; by default the probe's layer, or the middle one that has a grid.
        baseline: A key of ``BASELINES``.
        steps: Of the path from the baseline, 2 to 512; by default 32, doubled for integrated-gradients until the map is
            complete to 1 %, at most to 512.
        window: Side of an occluding square in pixels, moved by half of it, rounded up; by default three of 32, at least 2.
        seed: Of the matched noise and of SmoothGrad.
        checks: Of ``CHECKS``, those wanted; by default all that are defined for the method.

    Returns:
        Attribution.

    Raises:
        ValueError: For an unknown name, a setting out of range, a method that is not on offer for this model, layer or
            picture, a layer that the target does not depend on, or a result that is not finite.
    """
    wanted = list(CHECKS) if checks is None else [choose("check", name, CHECKS) for name in checks]
    record, check = inquire(
        denoiser, xt, t, target, method, clock=clock, layer=layer, view=view, condition=condition, given=given, box=box,
        channel=channel, x0=x0, at=at, baseline=baseline, steps=steps, window=window, seed=seed,
    )  # fmt: skip
    for name in wanted:
        record = check(record, name)
    return record


def inquire(
    denoiser: Denoiser,
    xt: Tensor,
    t: float,
    target: str = "implied-clock",
    method: str = "integrated-gradients",
    *,
    clock: Clock | None = None,
    layer: str | None = None,
    view: str | None = None,
    condition: str = "independent",
    given: float | Tensor | None = None,
    box: Sequence[int] | None = None,
    channel: int | None = None,
    x0: Tensor | None = None,
    at: str | None = None,
    baseline: str = "zero",
    steps: int | None = None,
    window: int | None = None,
    seed: int = 0,
) -> tuple[Attribution, Callable[[Attribution, str], Attribution]]:
    """:func:`attribute` in pieces, for who shows the map before it is checked.

    Returns:
        The Attribution without checks; and (attribution, a key of ``CHECKS``) -> the same with that check's figures.

    Raises:
        ValueError: As :func:`attribute`.
    """
    if method in NEVER_OFFERED:
        raise ValueError(f"{method} is not on offer: {NEVER_OFFERED[method]}")
    how = SALIENCY[choose("method", method, SALIENCY)]
    choose("baseline", baseline, BASELINES)
    steps = None if steps is None else whole_number("steps", steps, 2, MAX_STEPS)
    t, [seed] = real_number("t", t, 0, 1), check_seeds([seed])
    shape = denoiser.shape
    if xt.ndim != 4 or tuple(xt.shape[1:]) != shape:
        raise ValueError(f"xt must be (B, {', '.join(map(str, shape))}) for {denoiser.name}, got {tuple(xt.shape)}")
    subject = Subject(denoiser, t, target, clock=clock, layer=layer, view=view, condition=condition, box=box, channel=channel)
    if reason := offered(subject.denoiser)[method]:
        raise ValueError(f"{method} is not on offer for {denoiser.name}: {reason}")
    if "x0" in TARGETS[target].needs and (x0 is None or x0.shape != xt.shape):
        raise ValueError(f"the target {target} needs x0, the clean pictures, in the shape of xt")
    at = _looked_at(subject, how, at)
    side = min(shape[1:])
    window = max(2, 3 * side // 32) if window is None else whole_number("window, in pixels,", window, 1, side)
    xt = xt.detach().to(subject.denoiser.device, torch.float32)
    told = torch.as_tensor(t if given is None else given, dtype=torch.float32, device=xt.device).expand(len(xt)).clone()
    if not ((told >= 0) & (told <= 1)).all():
        raise ValueError("given must be from 0 to 1, as t is")
    known = torch.empty(len(xt), 0, device=xt.device) if x0 is None else x0.to(xt)
    sigma = float(subject.denoiser.schedule.sigma(torch.tensor(t, dtype=torch.float64)))
    reference = BASELINES[baseline](xt, sigma, seed)
    case = Case(subject, xt, told, known, reference, steps or STEPS, at, window, seed)
    output, start = subject.values(xt, told, known), subject.values(reference, told, known)
    try:
        found = how.run(case)
        while steps is None and how.complete and "steps" in how.uses and case.steps < MAX_STEPS and how.domain == "pixels":
            if _relative_gap(found.values, output - start).max() <= COMPLETE:
                break
            case = _doubled(case)
            found = how.run(case)
    except RuntimeError as error:
        if "appears to not have been used" not in str(error):
            raise
        raise ValueError(f"{target} does not depend on {at}: choose a block that comes before what is read") from None
    if not (found.values.isfinite().all() and output.isfinite().all()):
        raise ValueError(f"{method} of {target} is not finite at t = {t:g}; choose another t")
    bands, shares = _bands(found, how, shape[2])
    record = Attribution(
        denoiser.name, target, method, baseline if "baseline" in how.uses else "", float(t), told.cpu(), subject.layer or "",
        subject.view, at or "", case.steps if "steps" in how.uses else 0, how.domain, how.signed, found.values.cpu(),
        _to_map(found.values, how, shape).cpu(), bands, shares, output,
        start if "baseline" in how.uses else torch.full_like(start, math.nan),
        {name: values.double().mean().item() for name, values in found.figures.items()}, (),
    )  # fmt: skip
    settings: dict[str, Any] = {
        "clock": clock, "layer": layer, "view": view, "condition": condition, "given": told, "box": box, "channel": channel,
        "x0": x0, "at": at, "baseline": baseline, "steps": case.steps, "window": window, "seed": seed,
    }  # fmt: skip

    def check(record: Attribution, name: str) -> Attribution:
        result = CHECKS[choose("check", name, CHECKS)](record, case, denoiser, settings)
        quality = record.quality if result is None else record.quality | {name: result}
        checked = dataclasses.replace(record, quality=quality)
        return dataclasses.replace(checked, notes=tuple(_notes(checked)))

    return dataclasses.replace(record, notes=tuple(_notes(record))), check


def _doubled(case: Case) -> Case:
    return dataclasses.replace(case, steps=min(MAX_STEPS, 2 * case.steps))


def _looked_at(subject: Subject, how: Method, at: str | None) -> str | None:
    """The hook point of a layer method, by default the probe's own layer or the middle one."""
    if how.domain != "layer":
        if at is not None:
            raise ValueError("at is for the methods that look at a layer: layer-gradcam, layer-conductance")
        return None
    gridded = [name for name, point in subject.points.items() if grid(point, subject.denoiser.shape) is not None]
    if at is None:
        at = subject.layer if subject.layer in gridded else gridded[len(gridded) // 2]
        assert at is not None
    choose("layer", at, subject.points)
    if at not in gridded:
        raise ValueError(f"the positions of {at} do not lie on a grid over the picture; choose from {', '.join(gridded)}")
    order = list(subject.points)
    if subject.layer is not None and order.index(at) > order.index(subject.layer):
        raise ValueError(
            f"{at} comes after {subject.layer}, from which the clock is read: choose {subject.layer} or one before"
        )
    return at


def _relative_gap(values: Tensor, difference: Tensor) -> Tensor:
    """|sum - difference| over |difference|, (B,)."""
    gap = (values.double().flatten(1).sum(1).cpu() - difference).abs()
    return gap / difference.abs().clamp_min(1e-9)


def _bands(found: Found, how: Method, width: int) -> tuple[Tensor | None, Tensor | None]:
    """Contribution and share of each band, of methods that can tell."""
    if how.domain == "frequencies":
        bands = found.values.double().cpu()
        return bands, _shares(bands.abs())
    if found.gradient is None:
        return None, None
    spectrum = torch.fft.rfft2(found.gradient.double().cpu(), norm="ortho")
    if found.factor is None:
        size = by_ring(spectrum.abs(), width)
        return size, _shares(size)
    # Parseval: a sum over pixels of gradient times factor is this sum over frequencies, and as complete.
    each = (spectrum.conj() * torch.fft.rfft2(found.factor.double().cpu(), norm="ortho")).real
    return by_ring(each, width), _shares(by_ring(each.abs(), width))


def _shares(sizes: Tensor) -> Tensor:
    return sizes / sizes.sum(1, keepdim=True).clamp_min(torch.finfo(sizes.dtype).tiny)


def _to_map(values: Tensor, how: Method, shape: Sequence[int]) -> Tensor:
    """(B, H, W) as :class:`Attribution` says."""
    height, width = shape[1:]
    if how.domain == "frequencies":
        full = torch.fft.fftfreq(height)[:, None].square() + torch.fft.fftfreq(width)[None].square()
        ring = (full.sqrt() / 0.5 * RINGS).long().clamp(max=RINGS - 1)
        return torch.fft.fftshift(values[:, ring.to(values.device)], dim=(1, 2))
    flat = values.sum(1) if how.signed else values.abs().sum(1)
    if flat.shape[1:] == (height, width):
        return flat
    scale = flat[0].numel() / (height * width)  # a position's contribution is spread over its pixels
    return nn.functional.interpolate(flat[:, None], size=(height, width), mode="nearest")[:, 0] * scale


def _notes(record: Attribution) -> list[str]:
    notes = []
    quality = record.quality
    if quality.get("completeness", {}).get("relative_gap", 0) > COMPLETE and record.domain == "pixels":
        notes.append(
            f"not complete to {COMPLETE:.0%}: the sum misses the difference from the baseline by "
            f"{quality['completeness']['relative_gap']:.1%}"
        )
    if record.domain == "layer" and "completeness" in quality:
        share = quality["completeness"]["share"]
        notes.append(f"{share:.0%} of the difference from the baseline passes through {record.at}; skips pass by the others")
    if "gradient_seen" in quality:
        notes.append(
            f"GradCAM sees the gradient's mean over positions: {quality['gradient_seen']:.0%} of the gradient at {record.at}"
        )
    if not quality.get("randomisation", {}).get("passes", True):
        notes.append("this map fails the check with randomised parameters: a network that learned nothing gives one like it")
    if record.method == "smoothgrad":
        notes.append(f"the added noise is {SMOOTHING:g} sigma(t): it raises the noise level by {SMOOTHING**2:.0%}")
    return notes


# Quality ---------------------------------------------------------------------------------------------------------------


def _completeness(record: Attribution, case: Case, denoiser: Denoiser, settings: dict[str, Any]) -> dict[str, Any] | None:
    """How near the sum of the values comes to the target's difference from the baseline; None where it should not."""
    if not SALIENCY[record.method].complete:
        return None
    difference = record.output - record.reference_output
    total = record.values.double().flatten(1).sum(1)
    return {
        "sum": total.tolist(),
        "difference": difference.tolist(),
        "gap": (total - difference).abs().max().item(),
        "relative_gap": _relative_gap(record.values, difference).max().item(),
        "share": (total.sum() / difference.sum()).item() if difference.sum() != 0 else 0.0,
    }


def _curves(record: Attribution, case: Case, denoiser: Denoiser, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The target as pixels are deleted, or inserted, in the order of the map's size and in random orders.

    Removed pixels get the picture's mean colour and noise of the same level. ``area`` is the mean distance from the target's
    value: large for a good order of deletion, small for one of insertion; beside it that of random orders.
    """
    if record.domain == "frequencies":
        return None
    subject, xt = case.subject, case.xt
    sigma = float(subject.denoiser.schedule.sigma(torch.tensor(subject.t, dtype=torch.float64)))
    pixels = xt.shape[-2] * xt.shape[-1]
    size = record.map.abs().flatten(1).numpy()
    generator = np.random.default_rng([4, case.seed])
    found: dict[str, Any] = {"fractions": list(FRACTIONS)}
    values: dict[str, list[Tensor]] = {name: [] for name in ("deletion", "insertion", "deletion_random", "insertion_random")}
    for refill in range(REFILLS):
        other = matched_noise(xt, sigma, case.seed + 1 + refill * len(xt))
        drawn = generator.random(size.shape)
        for ending in ("", "_random"):
            # Ties, such as the pixels of one position of a layer, are broken at random.
            order = np.stack([np.lexsort((one, -row)) for one, row in zip(drawn, size if not ending else 0 * size)])
            rank = torch.from_numpy(order.argsort(1)).to(xt.device).unflatten(1, xt.shape[-2:])[:, None]  # (B, 1, H, W)
            for name in ("deletion", "insertion"):
                shown = []
                for fraction in FRACTIONS:
                    first = rank < round(fraction * pixels)
                    shown.append(torch.where(first == (name == "insertion"), xt, other))
                count = len(FRACTIONS)
                more = case.told.repeat(count), case.x0.repeat(count, *[1] * (case.x0.ndim - 1))
                read = subject.values(torch.cat(shown), *more)
                values[f"{name}{ending}"].append(read.unflatten(0, (count, len(xt))))
    for name, runs in values.items():
        mean = torch.stack(runs).mean(0)  # (fractions, B)
        found[name] = mean.mean(1).tolist()
        found[f"{name}_area"] = torch.stack(runs).sub(record.output).abs().mean().item()
    return found


def rank_correlation(one: Tensor, other: Tensor) -> float | None:
    """Spearman's, of two maps; None where one of them is constant."""
    from scipy.stats import spearmanr  # here, not above: the trainer also runs where SciPy is not

    if one.max() == one.min() or other.max() == other.min():
        return None
    return float(spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic)


def _randomisation(record: Attribution, case: Case, denoiser: Denoiser, settings: dict[str, Any]) -> dict[str, Any]:
    """Rank correlation of the map with that of the same network with parameters drawn anew, as shown and of its size.

    Means over pictures and draws; the check is passed where both are below ``UNCHANGED``, either sign. Occlusion, which takes
    long, has one draw.
    """
    signed, sizes, refused = [], [], ""
    draws = REDRAWS[:1] if record.method == "occlusion" else REDRAWS
    for seed in draws:
        try:
            other = attribute(
                redrawn(denoiser, seed), case.xt, case.subject.t, record.target, record.method, checks=(), **settings
            )
        except ValueError as error:  # such as GradCAM, where it does not see the random network's gradient
            refused = str(error)
            continue
        for one, two in zip(*((part.bands if part.domain == "frequencies" else part.map) for part in (record, other))):
            signed.append(rank_correlation(one, two))
            sizes.append(rank_correlation(one.abs(), two.abs()))
    known = [value for value in signed if value is not None], [value for value in sizes if value is not None]
    found: dict[str, Any] = {"draws": len(draws)}
    if not known[0] or not known[1]:
        return found | {"rank_correlation": None, "of_sizes": None, "passes": True, "why": refused or "the other map is flat"}
    mean = [sum(values) / len(values) for values in known]
    largest = [max(map(abs, values)) for values in known]
    passes = max(map(abs, mean)) < UNCHANGED
    return found | {"rank_correlation": mean[0], "of_sizes": mean[1], "largest": max(largest), "passes": passes}


# What comes through the clock, and what through the picture --------------------------------------------------------------

TOLD = tuple((k + 0.5) / 64 for k in range(64))  # the t whose average stands for being told nothing in particular


@dataclass(frozen=True)
class Routes:
    """How much of a target's difference from the baseline comes through what the network is told of t.

    The baseline is the reference picture and the average, over all t, of what each block is told. The t of the output
    combination is the true one throughout.

    Attributes:
        model, target, baseline: As in :class:`Attribution`.
        t: The true t.
        told: What the network is told, (B,).
        steps: Of the path; 0 where none was needed.
        clock: Contribution of what the network is told, (B,), in the target's unit; exactly 0 where it hears nothing.
        picture: Contribution of the picture, (B,).
        blocks: Block -> contribution of what it alone is told, (B,); they sum to ``clock``. Empty for networks without time
            layers, and where time enters in a way that cannot be taken apart.
        output, reference_output: The target at both ends, (B,).
        relative_gap: By which clock + picture misses their difference, the largest.
        note: In words.
    """

    model: str
    target: str
    baseline: str
    t: float
    told: Tensor
    steps: int
    clock: Tensor
    picture: Tensor
    blocks: dict[str, Tensor]
    output: Tensor
    reference_output: Tensor
    relative_gap: float
    note: str

    @property
    def share(self) -> Tensor:
        """|clock| over |clock| + |picture|, (B,)."""
        return self.clock.abs() / (self.clock.abs() + self.picture.abs()).clamp_min(1e-12)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        parts = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(self).items()}
        blocks = {name: value.tolist() for name, value in self.blocks.items()}
        return parts | {"blocks": blocks, "share": self.share.tolist()}


def routes(
    denoiser: Denoiser,
    xt: Tensor,
    t: float,
    target: str = "noise-norm",
    *,
    given: float | Tensor | None = None,
    baseline: str = "matched-noise",
    steps: int | None = None,
    seed: int = 0,
    x0: Tensor | None = None,
    **settings: Any,
) -> Routes:
    """How much of a target comes through the network's time input, block by block, and how much through the picture.

    Integrated Gradients over both inputs at once: every block's own scale, shift and gate are taken from what they are on
    average over all t to what they are at the t told, while the picture is taken from the baseline to itself. Where time
    enters otherwise than through this project's layers, both orders of exchanging clock and picture are averaged (Shapley's
    value for two), and nothing is said by block.

    Args:
        denoiser: The model.
        xt: Noisy pictures (B, C, H, W).
        t: Their t.
        target: A key of ``TARGETS``.
        given: What the network is told, a number or (B,); by default ``t``.
        baseline: A key of ``BASELINES``.
        steps: 2 to 512; by default from 32, doubled until complete to 1 %.
        seed: Of the matched noise.
        x0: The clean pictures, for ``loss``.
        settings: Those of the target, as for :class:`Subject`: clock, layer, view, condition, box, channel.

    Returns:
        Routes; zeros, by definition, for a network whose output does not depend on what it is told.

    Raises:
        ValueError: As :func:`attribute`.
    """
    choose("baseline", baseline, BASELINES)
    steps = None if steps is None else whole_number("steps", steps, 2, MAX_STEPS)
    t, [seed] = real_number("t", t, 0, 1), check_seeds([seed])
    subject = Subject(denoiser, t, target, **settings)
    if "x0" in TARGETS[target].needs and (x0 is None or x0.shape != xt.shape):
        raise ValueError(f"the target {target} needs x0, the clean pictures, in the shape of xt")
    xt = xt.detach().to(subject.denoiser.device, torch.float32)
    told = torch.as_tensor(t if given is None else given, dtype=torch.float32, device=xt.device).expand(len(xt)).clone()
    known = torch.empty(len(xt), 0, device=xt.device) if x0 is None else x0.to(xt)
    sigma = float(subject.denoiser.schedule.sigma(torch.tensor(t, dtype=torch.float64)))
    reference = BASELINES[baseline](xt, sigma, seed)
    output = subject.values(xt, told, known)
    layers = _time_layers(subject, xt[:1], told[:1], known[:1])
    shared = (denoiser.name, target, baseline, float(t), told.cpu())
    if not hears(subject.denoiser):
        start = subject.values(reference, told, known)
        none = torch.zeros_like(output)
        note = "the network's output does not depend on what it is told: nothing comes through the clock, by definition"
        return Routes(*shared, 0, none, output - start, dict.fromkeys(layers, none), output, start, 0.0, note)
    if not any(isinstance(module, Modulation) for module in subject.network.modules()):
        everywhere = torch.tensor(TOLD, device=xt.device)

        def average(pictures: Tensor) -> Tensor:
            count = len(everywhere)
            repeated = (part.repeat_interleave(count, 0) for part in (pictures, known))
            pictures, known_too = repeated
            return subject.values(pictures, everywhere.repeat(len(xt)), known_too).unflatten(0, (-1, count)).mean(1)

        start, here, there = average(reference), average(xt), subject.values(reference, told, known)
        clock_part = 0.5 * ((output - here) + (there - start))
        note = "time does not enter through layers known here: both orders of exchange are averaged, and no block is told apart"
        return Routes(*shared, 0, clock_part, output - start - clock_part, {}, output, start, 0.0, note)
    with torch.no_grad():
        mean = {
            name: value.mean(0, keepdim=True)
            for name, value in _told_values(subject, layers, xt[:1], torch.tensor(TOLD, device=xt.device), known[:1]).items()
        }
        now = _told_values(subject, layers, xt[:1], told, known[:1])
    start = _told(subject, layers, {name: value.expand(len(xt), -1) for name, value in mean.items()})(reference, told, known)
    start = start.detach().double().cpu()
    count = steps or STEPS
    while True:
        parts = _integrate(subject, layers, xt, reference, now, mean, (told, known), count)
        gap = float(((torch.stack(parts).sum(0) - (output - start)).abs() / (output - start).abs().clamp_min(1e-9)).max())
        if steps is not None or gap <= COMPLETE or count >= MAX_STEPS:
            break
        count = min(MAX_STEPS, 2 * count)
    blocks = {name.removesuffix(".modulation").removesuffix(".time"): part for name, part in zip(layers, parts[1:])}
    through = torch.stack(parts[1:]).sum(0) if parts[1:] else torch.zeros_like(output)
    note = "" if gap <= COMPLETE else f"not complete to {COMPLETE:.0%}: clock and picture miss the difference by {gap:.1%}"
    return Routes(*shared, count, through, parts[0], blocks, output, start, gap, note)


def _time_layers(subject: Subject, xt: Tensor, told: Tensor, x0: Tensor) -> list[str]:
    """Names of the time layers that the target depends on: those that are passed before it is known."""
    names = [name for name, module in subject.network.named_modules() if isinstance(module, Modulation)]
    passed: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: passed.append(name)

    with hooks(subject.network, {name: note(name) for name in names}), torch.no_grad():
        subject(xt, told, x0)
    return passed


def _told_values(subject: Subject, names: Sequence[str], xt: Tensor, told: Tensor, x0: Tensor) -> dict[str, Tensor]:
    """What each time layer says at every t of ``told`` (T,): name -> (T, width). It does not depend on the picture."""
    held: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: held.update({name: output.detach()})

    count = len(told)
    with hooks(subject.network, {f"{name}.linear": keep(name) for name in names}):
        subject(xt.expand(count, -1, -1, -1), told, x0.expand(count, *x0.shape[1:]))
    return held


def _told(subject: Subject, names: Sequence[str], values: dict[str, Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The target with what the time layers say replaced by ``values``, each (B, width)."""

    def put(name: str) -> Callable[..., Tensor]:
        return lambda module, inputs, output: values[name].to(output)

    def value(xt: Tensor, told: Tensor, x0: Tensor) -> Tensor:
        with hooks(subject.network, {f"{name}.linear": put(name) for name in names}):
            return subject(xt, told, x0)

    return value


def _integrate(
    subject: Subject, names: Sequence[str], xt: Tensor, reference: Tensor, now: dict[str, Tensor], mean: dict[str, Tensor],
    more: tuple[Tensor, Tensor], steps: int,
) -> list[Tensor]:  # fmt: skip
    """Contribution of the picture, then of each time layer, (B,) each."""
    from captum.attr import IntegratedGradients

    def forward(xt: Tensor, *rest: Tensor) -> Tensor:
        *values, told, x0 = rest
        return _told(subject, names, dict(zip(names, values)))(xt, told, x0)

    ends = (xt, *(now[name] for name in names))
    starts = (reference, *(mean[name].expand(len(xt), -1) for name in names))
    found = IntegratedGradients(forward).attribute(
        ends, starts, n_steps=steps, internal_batch_size=max(EVALUATED, len(xt)), additional_forward_args=more
    )
    return [part.detach().double().flatten(1).sum(1).cpu() for part in found]


# Where the clock is read, over many pictures ------------------------------------------------------------------------------

READING_LEVELS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
READING_METHODS = ("saliency", "integrated-gradients")
READING_STEPS = 32  # with 16 the sum missed the difference by up to 18 % on shipped models
PATCH = 4  # pixels: whether it is flat or textured is judged in squares of this side
TEXTURES = ("flat", "middle", "textured")  # thirds of a picture's squares by the clean picture's standard deviation in them
SHIFTS = (-2.0, 2.0)  # of logsnr, by which the other noise level differs
OCTAVE = 0.25  # of the norm, either way: its slope is over half an octave
SPLITS = ((-4.0, 0.0), (0.0, 4.0), (-2.0, 2.0))  # two levels of logsnr in one picture
CHECKED_IMAGES, CHECKED_LEVELS = 2, (-2.0, 2.0)
EDITS = ("rescaled", "high-pass swapped", "high-pass swapped, norm kept", "low-pass swapped")


def textures(x0: Tensor) -> Tensor:
    """Which third each pixel's square belongs to: 0 flat, 1 between, 2 textured; int64 (B, H, W).

    The squares of ``PATCH`` pixels of one picture are ranked by the standard deviation of the clean picture in them.
    """
    height, width = (side - side % PATCH for side in x0.shape[-2:])
    squares = nn.functional.unfold(x0[..., :height, :width], PATCH, stride=PATCH)  # (B, C PATCH^2, S)
    spread = squares.unflatten(1, (x0.shape[1], -1)).var(2).mean(1)  # (B, S)
    third = spread.argsort(1).argsort(1) * len(TEXTURES) // spread.shape[1]
    coarse = third.unflatten(1, (height // PATCH, width // PATCH))
    fine = coarse.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return nn.functional.pad(fine.double(), (0, x0.shape[-1] - width, 0, x0.shape[-2] - height), mode="replicate").long()


def texture_shares(size: Tensor, third: Tensor) -> Tensor:
    """Share of a map (B, H, W) >= 0 in each of ``TEXTURES``, (B, 3), a pixel of each counting alike in number."""
    member = nn.functional.one_hot(third, len(TEXTURES)).double()  # (B, H, W, 3)
    mean = (size.double()[..., None] * member).sum((1, 2)) / member.sum((1, 2)).clamp_min(1)
    return _shares(mean)


def _estimate(values: Tensor, weights: Tensor) -> list[float]:
    """Mean over images (N,) and the interval that holds 95 % of its bootstrap draws; ``weights`` (N, 1 + draws)."""
    return _spread((values.double()[:, None] * weights).sum(0) / weights.sum(0))


def _ratio(above: Tensor, below: Tensor, weights: Tensor) -> list[float]:
    """Ratio of the means over images of two (N,), with its interval."""
    return _spread((above.double() @ weights) / (below.double() @ weights))


def _spread(draws: Tensor) -> list[float]:
    # Of a handful of images a draw may weigh none.
    ends = torch.nanquantile(draws[1:], torch.tensor([0.025, 0.975], dtype=torch.float64))
    return [draws[0].item(), *ends.tolist()]


class _Bench:
    """Held-out images shown to one model, which is told a t that says nothing of the true one."""

    def __init__(
        self, denoiser: Denoiser, clock: Clock, images: Tensor, levels: Sequence[float], seed: int, batch: int
    ) -> None:
        self.denoiser, self.clock, self.seed, self.batch = denoiser, clock, seed, batch
        self.x0 = to_float(images) if images.dtype == torch.uint8 else images.float()
        self.levels, self.times = list(levels), level_times(denoiser.schedule, levels).tolist()
        self.hears = hears(denoiser)
        self.weights = poisson_weights(tuple(range(len(images))), DRAWS)  # (N, 1 + draws)

    def batches(self) -> list[Tensor]:
        return list(torch.arange(len(self.x0)).split(self.batch))

    def noisy(self, chosen: Tensor, t: float, draw: int) -> Tensor:
        seeds = [(self.seed + int(i)) % (MAX_SEED + 1) for i in chosen]
        return add_noise(self.x0[chosen], keyed_noise(seeds, self.denoiser.shape, step=draw), t, self.denoiser.schedule)

    def told(self, chosen: Tensor, level: int) -> Tensor:
        """(B,): independent of the true t where it is heard; any number where it is not."""
        if not self.hears:
            return torch.full((len(chosen),), 0.5)
        return independent_clock(self.denoiser.schedule, self.clock.levels)(chosen, level % len(self.clock.levels))


def _where(
    bench: _Bench, methods: Sequence[str], steps: int, settings: dict[str, Any], progress: Callable[[Any], Any]
) -> list[dict[str, Any]]:
    """Shares of |attribution| of the implied clock by texture and by band, at every level, for every method."""
    jobs = [(number, level, method) for number, level in enumerate(bench.levels) for method in methods]
    rows = []
    for number, level, method in progress(jobs):
        t, parts = bench.times[number], []
        for chosen in bench.batches():
            xt, third = bench.noisy(chosen, t, number), textures(bench.x0[chosen])
            found = attribute(
                bench.denoiser, xt, t, method=method, given=bench.told(chosen, number), steps=steps, checks=("completeness",),
                **settings,
            )  # fmt: skip
            assert found.band_shares is not None
            spectrum = torch.fft.rfft2(xt.double()).abs().square()
            parts.append(
                {
                    "texture": texture_shares(found.values.abs().sum(1), third),
                    "texture_of_picture": texture_shares(xt.abs().sum(1), third),
                    "bands": found.band_shares,
                    "power": _shares(by_ring(spectrum, xt.shape[-1])),
                    "high_pass": found.band_shares[:, HIGH_PASS:].sum(1),
                    "high_pass_power": _shares(by_ring(spectrum, xt.shape[-1]))[:, HIGH_PASS:].sum(1),
                    "gap": torch.full((len(xt),), found.quality.get("completeness", {}).get("relative_gap", math.nan)),
                }
            )
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        rows.append(
            {
                "logsnr": level, "t": t, "method": method,
                **{name: {kind: _estimate(column, bench.weights) for kind, column in zip(TEXTURES, whole[name].T)}
                   for name in ("texture", "texture_of_picture")},
                **{name: [_estimate(column, bench.weights) for column in whole[name].T] for name in ("bands", "power")},
                **{name: _estimate(whole[name], bench.weights) for name in ("high_pass", "high_pass_power")},
                "relative_gap": None if whole["gap"].isnan().any() else whole["gap"].max().item(),
            }
        )  # fmt: skip
    return rows


def rescale_or_swap(
    bench: _Bench, settings: dict[str, Any], progress: Callable[[Any], Any] = lambda jobs: jobs
) -> list[dict[str, Any]]:
    """By how much the implied clock moves when x_t takes the norm, or the high-pass content, of another noise level.

    The other picture is the same image at the other level with another draw of noise. ``share`` is the shift over that of
    showing the other picture itself.
    """
    jobs = [(number, shift) for number in range(len(bench.levels)) for shift in SHIFTS]
    schedule, rows = bench.denoiser.schedule, []
    for number, shift in progress(jobs):
        level, t = bench.levels[number], bench.times[number]
        try:
            [other_t] = level_times(schedule, [level + shift]).tolist()
        except ValueError:  # beyond the path's ends
            continue
        subject = Subject(bench.denoiser, t, **settings)
        shifts: dict[str, list[Tensor]] = {name: [] for name in ("whole", *EDITS, "octave", "factor")}
        for chosen in bench.batches():
            xt, other = bench.noisy(chosen, t, number), bench.noisy(chosen, other_t, len(bench.levels) + number)
            norms = [picture.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) for picture in (xt, other)]
            swapped = swap_rings(xt, other, range(HIGH_PASS, RINGS))
            kept = swapped * norms[0] / swapped.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            edited = {
                "whole": other, "rescaled": xt * norms[1] / norms[0], "high-pass swapped": swapped,
                "high-pass swapped, norm kept": kept, "low-pass swapped": swap_rings(xt, other, range(HIGH_PASS)),
            }  # fmt: skip
            told, known = bench.told(chosen, number), torch.empty(len(chosen), 0)
            plain = subject.values(xt, told, known)
            for name, picture in edited.items():
                shifts[name].append(subject.values(picture, told, known) - plain)
            up, down = (subject.values(xt * 2.0**power, told, known) for power in (OCTAVE, -OCTAVE))
            shifts["octave"].append((up - down) / (2 * OCTAVE))
            shifts["factor"].append((norms[1] / norms[0]).flatten().double())
        whole = {name: torch.cat(parts) for name, parts in shifts.items()}
        rows.append(
            {
                "logsnr": level, "t": t, "other_logsnr": level + shift,
                "norm_factor": _estimate(whole["factor"], bench.weights),
                "shift": {name: _estimate(whole[name], bench.weights) for name in ("whole", *EDITS)},
                "share": {name: _ratio(whole[name], whole["whole"], bench.weights) for name in EDITS},
                "per_octave_of_norm": _estimate(whole["octave"], bench.weights),
            }
        )  # fmt: skip
    return rows


def two_levels(
    bench: _Bench, layers: Sequence[str] | None = None, progress: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Two noise levels in the halves of one picture, and the clock that every position of a layer implies.

    A ridge probe of single positions (the view ``position``) is fitted to four fifths of the images at the probes' levels, and
    read on the others: ``error`` is the root mean square over positions of reading minus true level, beside ``whole_error``
    on pictures with one level and ``one_number``, the error of whoever knows both levels and cannot tell where they are.

    Returns:
        For every layer and pair of levels these, ``contrast`` (mean difference of the halves over the true one, with an
        interval over images), ``sides`` (mean reading of the left and right half) and ``profile``, the mean reading by column.
    """
    denoiser, schedule = bench.denoiser, bench.denoiser.schedule
    points = hook_points(denoiser)
    known = bench.clock.layers("mean")
    names = [name for name in (layers or known) if name in points and _splits(points[name], denoiser.shape)]
    if not names:
        raise ValueError("no layer has positions on a grid of at least 4 columns")
    fitted = torch.arange(len(bench.x0)) % 5 != 4
    if fitted.sum() < 5 or (~fitted).sum() < 1:
        raise ValueError(f"two noise levels in one picture need at least 10 images, got {len(bench.x0)}")
    given = independent_clock(schedule, bench.clock.levels) if bench.hears else None
    sums = statistics(
        denoiser, bench.x0[fitted], names, ("position",), levels=bench.clock.levels, seed=bench.seed, batch=bench.batch,
        given=given, progress="positions, fitted" if progress else "",
    )  # fmt: skip
    values = target_values(bench.clock.target, schedule, bench.clock.levels)
    probes = {name: RidgeProbe().fit(sums[name, "position"], values) for name in names}
    chosen = torch.arange(len(bench.x0))[~fitted]
    weights = bench.weights[~fitted]
    rows = []
    for number, (left, right) in enumerate(SPLITS):
        try:
            times = level_times(schedule, [left, right]).tolist()
        except ValueError:
            continue
        true = target_values(bench.clock.target, schedule, [left, right]).tolist()
        # One draw of noise for both halves' levels, and none that the probes were fitted to.
        pictures = [bench.noisy(chosen, t, 100 + number) for t in times]
        mixed = torch.cat([pictures[0][..., : denoiser.shape[2] // 2], pictures[1][..., denoiser.shape[2] // 2 :]], -1)
        told = bench.told(chosen, number)
        maps = {kind: _position_maps(denoiser, probes, points, picture, told) for kind, picture in (
            ("mixed", mixed), ("left", pictures[0]), ("right", pictures[1]))}  # fmt: skip
        for name in names:
            seen = maps["mixed"][name]  # (N, h, w)
            half = seen.shape[-1] // 2
            truth = torch.tensor(true, dtype=torch.float64).repeat_interleave(half).expand(seen.shape)
            sides = [seen[..., :half].flatten(1).mean(1), seen[..., half:].flatten(1).mean(1)]
            whole = torch.stack([maps[kind][name] - level for kind, level in zip(("left", "right"), true)])
            rows.append(
                {
                    "layer": name, "levels": [left, right], "grid": list(seen.shape[1:]),
                    "error": (seen - truth).square().mean().sqrt().item(),
                    "whole_error": whole.square().mean().sqrt().item(),
                    "one_number": abs(true[1] - true[0]) / 2,
                    "contrast": _estimate((sides[1] - sides[0]) / (true[1] - true[0]), weights),
                    "sides": [side.mean().item() for side in sides],
                    "profile": seen.mean((0, 1)).tolist(),
                }
            )  # fmt: skip
    best = min({row["layer"] for row in rows}, key=lambda name: sum(r["error"] for r in rows if r["layer"] == name))
    return {"fitted_images": int(fitted.sum()), "images": len(chosen), "best": best, "rows": rows}


def _splits(point: HookPoint, shape: Sequence[int]) -> bool:
    size = grid(point, shape)
    return size is not None and size[1] >= 4 and size[1] % 2 == 0


@torch.no_grad()
def _position_maps(
    denoiser: Denoiser, probes: dict[str, RidgeProbe], points: dict[str, HookPoint], xt: Tensor, told: Tensor
) -> dict[str, Tensor]:
    """What every position of every layer implies, layer -> (B, h, w) float64."""
    maps: dict[str, list[Tensor]] = {name: [] for name in probes}

    def read(name: str) -> Callable[..., None]:
        size = grid(points[name], denoiser.shape)
        assert size is not None

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            rows = probes[name].predict(ACTIVATION_VIEWS["position"](output).cpu())
            last[name] = rows.unflatten(0, (len(output), *size))

        return hook

    last: dict[str, Tensor] = {}
    with hooks(inner(denoiser), {name: read(name) for name in probes}):
        for pictures, clock in zip(xt.split(EVALUATED), told.split(EVALUATED)):
            denoiser.output(pictures.to(denoiser.device), clock.to(denoiser.device))
            for name in probes:
                maps[name].append(last[name])
    return {name: torch.cat(parts) for name, parts in maps.items()}


def checked(
    bench: _Bench, settings: dict[str, Any], steps: int | None = None, progress: Callable[[Any], Any] = lambda jobs: jobs
) -> list[dict[str, Any]]:
    """Every method's completeness and check with randomised parameters, for maps of the implied clock."""
    levels = [level for level in CHECKED_LEVELS if level in bench.levels] or bench.levels[:1]
    jobs = [(method, level) for method, why in offered(bench.denoiser).items() if not why for level in levels]
    rows: list[dict[str, Any]] = []
    for method, level in progress(jobs):
        number = bench.levels.index(level)
        chosen = torch.arange(min(CHECKED_IMAGES, len(bench.x0)))
        row: dict[str, Any] = {"method": method, "logsnr": level, "images": len(chosen)}
        try:
            found = attribute(
                bench.denoiser, bench.noisy(chosen, bench.times[number], number), bench.times[number], method=method,
                given=bench.told(chosen, number), steps=steps, checks=("completeness", "randomisation"), **settings,
            )  # fmt: skip
        except ValueError as error:
            rows.append(row | {"refused": str(error)})
            continue
        complete = found.quality.get("completeness", {})
        row |= {"at": found.at, "steps": found.steps, "relative_gap": complete.get("relative_gap")}
        rows.append(row | {"gradient_seen": found.quality.get("gradient_seen"), **found.quality["randomisation"]})
    return rows


def reading(
    denoiser: Denoiser,
    clock: Clock,
    images: Tensor,
    *,
    layer: str | None = None,
    view: str | None = None,
    levels: Sequence[float] = READING_LEVELS,
    methods: Sequence[str] = READING_METHODS,
    baseline: str = "zero",
    steps: int = READING_STEPS,
    seed: int = 0,
    batch: int = 32,
    progress: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Where a model reads its clock: texture and frequency, norm or high-pass content, two levels in one picture.

    A network that hears the time is told a t that says nothing of the true one, and read by the probes fitted so: its answer
    can come from the picture alone. Only :func:`routes` tells it the truth, to say how much comes through that.

    Args:
        denoiser: The model.
        clock: Its probes.
        images: Held-out images, uint8 or float (N, C, H, W), at least 10.
        layer: Whose probe is read; by default the best one's. So is ``view``.
        levels: Values of logsnr.
        methods: Of ``SALIENCY``, those that can tell frequencies.
        baseline: A key of ``BASELINES``.
        steps: Of Integrated Gradients.
        seed: First seed of the noise; image i has seed + i.
        batch: Images at a time; nothing is kept of them but a few numbers each.
        progress: (jobs, name) -> jobs, as tqdm with ``desc``.

    Returns:
        JSON-able: ``where``, ``rescale_or_swap``, ``two_levels``, ``routes`` and ``checks``, with the settings; means over
        images as [mean, low, high] with an interval of 95 % by the bootstrap over images.

    Raises:
        ValueError: For an unknown name, a method that cannot tell frequencies, or fewer than 10 images.
    """
    for method in methods:
        choose("method", method, SALIENCY)
        if method not in (able := [name for name, how in SALIENCY.items() if how.domain == "pixels" and how.tells_bands]):
            raise ValueError(f"{method} cannot tell frequencies apart; choose from {', '.join(able)}")
    if len(images) < 10:
        raise ValueError(f"at least 10 images are needed, got {len(images)}")

    def bar(name: str) -> Callable[[Any], Any]:
        return (lambda jobs: jobs) if progress is None else lambda jobs: progress(jobs, name)

    bench = _Bench(denoiser, clock, images, levels, seed, batch)
    settings: dict[str, Any] = {"clock": clock, "layer": layer, "view": view}
    subject = Subject(denoiser, bench.times[0], **settings)
    third = torch.tensor([len(TEXTURES)]).double().reciprocal().item()
    ring = rings(*denoiser.shape[1:])
    count = by_ring(torch.ones(1, 1, *ring.shape, dtype=torch.float64), denoiser.shape[2])[0]
    record: dict[str, Any] = {
        "target": "implied-clock", "reads": clock.target, "layer": subject.layer, "view": subject.view, "images": len(images),
        "seed": seed, "levels": list(levels), "steps": steps, "baseline": baseline,
        "told": "a t drawn independently of the true one" if bench.hears else "not heard",
        "textures": {"patch": PATCH, "kinds": list(TEXTURES), "if_spread_evenly": third},
        "bands": {"edges": ring_edges(), "if_spread_evenly": (count / count.sum()).tolist(), "high_pass_from": HIGH_PASS},
    }  # fmt: skip
    record["where"] = _where(bench, methods, steps, settings | {"baseline": baseline}, bar("where"))
    record["rescale_or_swap"] = rescale_or_swap(bench, settings, bar("rescale or swap"))
    record["two_levels"] = two_levels(bench, progress=progress is not None)
    record["routes"] = _routes_by_level(bench, bar("routes"))
    record["checks"] = checked(bench, settings | {"baseline": baseline}, progress=bar("checks"))
    return record


def _routes_by_level(bench: _Bench, progress: Callable[[Any], Any]) -> dict[str, Any]:
    """How much of the predicted noise's norm comes through the clock, told the truth, by level."""
    rows = []
    for number in progress(range(len(bench.levels))):
        t, parts = bench.times[number], []
        for chosen in bench.batches():
            parts.append(
                routes(bench.denoiser, bench.noisy(chosen, t, number), t, "noise-norm", baseline="zero", seed=bench.seed)
            )
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("clock", "picture", "share")}
        blocks = {name: torch.cat([part.blocks[name] for part in parts]) for name in parts[0].blocks}
        rows.append(
            {
                "logsnr": bench.levels[number], "t": t,
                **{name: _estimate(values, bench.weights) for name, values in joined.items()},
                "blocks": {name: _estimate(values, bench.weights) for name, values in blocks.items()},
                "relative_gap": max(part.relative_gap for part in parts),
            }
        )  # fmt: skip
    return {"target": "noise-norm", "baseline": "zero", "told": "the true t", "note": parts[0].note, "rows": rows}


# Pictures ----------------------------------------------------------------------------------------------------------------

NEGATIVE, POSITIVE = (118, 42, 131), (27, 120, 55)  # ends of ColorBrewer's PRGn: neither is a member's colour


def scale_of(maps: Sequence[Tensor]) -> float:
    """One limit for the colours of several maps: what all but a hundredth of their values stay within, above 0."""
    every = torch.cat([one.double().abs().flatten() for one in maps])
    limit = float(torch.quantile(every, 0.99)) or float(every.max())
    return limit or 1.0


def overlay(pictures: Tensor, maps: Tensor, limit: float) -> Tensor:
    """Maps over their pictures: green adds, purple takes away, and the grey picture shows where there is little.

    Args:
        pictures: uint8 (B, 3 or 1, H, W).
        maps: (B, H, W).
        limit: The value of full colour; see :func:`scale_of`.

    Returns:
        uint8 (B, 3, H, W).
    """
    grey = (90 + 0.6 * pictures.double().mean(1, keepdim=True)).expand(-1, 3, -1, -1)  # pale: colours show on dark parts too
    strength = (maps.double() / limit).clamp(-1, 1)[:, None]
    ends = [torch.tensor(end, dtype=torch.float64).reshape(1, 3, 1, 1) for end in (POSITIVE, NEGATIVE)]
    colour = torch.where(strength > 0, ends[0], ends[1])
    opacity = 0.95 * strength.abs()
    return (grey * (1 - opacity) + colour * opacity).round().to(torch.uint8)


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

SALIENCY: dict[str, Method] = {
    "saliency": Method("gradient: how much the target changes with each value", _saliency, signed=False, tells_bands=True),
    "integrated-gradients": Method(
        "gradient averaged on the way from the baseline, times the difference", _integrated_gradients, complete=True,
        uses=("baseline", "steps"), tells_bands=True,
    ),
    "smoothgrad": Method(
        f"gradient averaged over {SMOOTHED} pictures with a little noise added", _smoothgrad, signed=False, tells_bands=True
    ),
    "input-x-gradient": Method("value times gradient; not complete unless the target is linear", _input_x_gradient,
                               tells_bands=True),
    "occlusion": Method("change when a square is replaced by the baseline", _occlusion, uses=("baseline", "window"),
                        gradients=False),
    "frequency-ablation": Method(
        "change when a band of frequencies is replaced by the baseline's", _frequency_ablation, domain="frequencies",
        uses=("baseline",), gradients=False, tells_bands=True,
    ),
    "layer-gradcam": Method(
        "a layer's activation times its gradient's mean over positions", _layer_gradcam, domain="layer", uses=("at",)
    ),
    "layer-conductance": Method(
        "Integrated Gradients that pass through each position of a layer", _layer_conductance, domain="layer", complete=True,
        uses=("baseline", "steps", "at"),
    ),
}  # fmt: skip

# Methods of captum that run on these networks and give something else than their name says, or do not run.
NEVER_OFFERED = {
    "guided-backprop": "captum changes the gradient of ReLU alone; on SiLU and GELU it silently equals the plain gradient",
    "deconvolution": "captum changes the gradient of ReLU alone; on SiLU and GELU it silently equals the plain gradient",
    "lrp": "captum has no propagation rule for SiLU, GELU, normalisation and attention",
    "deep-lift": "captum has no rule for SiLU, normalisation and attention, and falls back on the plain gradient there",
}

# name -> (attribution, case, model, settings of attribute) -> JSON, or None where it is not defined
CHECKS: dict[str, Callable[[Attribution, Case, Denoiser, dict[str, Any]], dict[str, Any] | None]] = {
    "completeness": _completeness,
    "curves": _curves,
    "randomisation": _randomisation,
}
