"""Attribution methods, captum's where it has them.

Sources: saliency (Simonyan, arXiv 1312.6034), Integrated Gradients (arXiv 1703.01365), SmoothGrad (arXiv 1706.03825), occlusion
(arXiv 1311.2901), GradCAM (arXiv 1610.02391), conductance (arXiv 1805.12233). Depends on activations, denoiser, frequency,
targets; captum is imported where it is used.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from explore.activations import (
    HookPoint,
    first_tensor,
    hook_points,
    inner,
    with_first_tensor,
)  # fmt: skip
from explore.denoiser import Denoiser
from explore.frequency import RINGS, rings
from explore.saliency.targets import EVALUATED, Subject
from explore.values import choose

STEPS = 32  # default number of steps of a path from the baseline
MAX_STEPS = 512  # limit up to which steps are doubled automatically
SMOOTHED, SMOOTHING = 16, 0.1  # draws of SmoothGrad, and their standard deviation over sigma(t)
SEEN = 0.05  # least share of a layer's gradient in its mean over positions, the part that GradCAM uses
CONDUCTANCE_ENDS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0)  # ends of the segments of a path


@dataclass(frozen=True)
class Case:
    """The input of a method.

    Attributes:
        subject: The target.
        xt: Images (B, C, H, W).
        t_given: The t that the network is given, (B,).
        x0: The clean images, or (B, 0).
        reference: The baseline, like ``xt``.
        steps: Steps of the path from it.
        at: Hook point of layer methods.
        window: Side of the occluding square in pixels.
        seed: Seed of SmoothGrad's noise.
    """

    subject: Subject
    xt: Tensor
    t_given: Tensor
    x0: Tensor
    reference: Tensor
    steps: int
    at: str | None
    window: int
    seed: int

    @property
    def more(self) -> tuple[Tensor, Tensor]:
        """Further arguments of the target, which captum repeats as it repeats the images."""
        return self.t_given, self.x0


@dataclass(frozen=True)
class Found:
    """The output of a method.

    Attributes:
        values: (B, C, H, W) of the image, (B, C, h, w) of a layer, or (B, RINGS).
        gradient, factor: (B, C, H, W), whose product is ``values`` (or the gradient alone). The sum of a product over pixels
            is also a sum over frequencies, so these methods have contributions of frequency bands.
        figures: Further numbers, (B,) each.
    """

    values: Tensor
    gradient: Tensor | None = None
    factor: Tensor | None = None
    figures: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """An attribution method.

    Attributes:
        what: Description.
        run: The method.
        domain: ``pixels``, ``layer`` (a layer's positions, shown on the image) or ``frequencies``.
        signed: Whether the values are signed contributions in the target's unit; else sensitivities, shown by magnitude.
        complete: Whether the values should sum to the target's difference from the baseline.
        uses: The settings that it uses, of ``baseline``, ``steps``, ``at`` and ``window``.
        gradients: Whether it needs the network's gradient.
        tells_bands: Whether it has contributions of frequency bands.
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

    # captum's InputXGradient is this product; the gradient itself is needed too.
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
    # captum assigns the whole change to every channel of a window; divided by their number, channels sum to it.
    return Found(values.detach() / channels)


def _frequency_ablation(case: Case) -> Found:
    from captum.attr import FeatureAblation

    height, width = case.xt.shape[-2:]
    ring = rings(height, width).to(case.xt.device)

    def ablated(parts: Tensor, t_given: Tensor, x0: Tensor) -> Tensor:
        return case.subject(torch.fft.irfft2(torch.view_as_complex(parts), s=(height, width)), t_given, x0)

    parts, other = (torch.view_as_real(torch.fft.rfft2(picture)).contiguous() for picture in (case.xt, case.reference))
    values = FeatureAblation(ablated).attribute(
        parts, other, feature_mask=ring[None, None, :, :, None].expand(1, *parts.shape[1:]),
        perturbations_per_eval=RINGS, additional_forward_args=case.more,
    ).detach()  # fmt: skip
    empty = torch.zeros(len(values), RINGS, dtype=values.dtype, device=values.device)
    # Every coefficient of a band has the change that replacing the band makes.
    member = ring.flatten()
    return Found(empty.index_copy(1, member, values[:, 0, :, :, 0].flatten(1)))


class _Gridded(nn.Module):
    """A block that passes its output through ``picture`` as one tensor (B, C, h, w), as captum needs it.

    The block may return tokens, or several values.
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
    """Gradient of the target with respect to the layer's output (B, C, h, w)."""
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
                f"layer-gradcam is not available at {case.at}: it uses the gradient's mean over positions, which is "
                f"{seen.mean():.1%} of the gradient here and must be at least {SEEN:.0%}"
            )
        values = LayerGradCam(case.subject, layer).attribute(_leaf(case.xt), additional_forward_args=case.more)
    return Found(values.detach(), figures={"gradient_seen": seen.detach()})


def _layer_conductance(case: Case) -> Found:
    from captum.attr import LayerConductance

    assert case.at is not None
    # The target changes most near the baseline, so the segments of the path are short there.
    segments = list(itertools.pairwise(CONDUCTANCE_ENDS))
    steps = max(2, case.steps // len(segments))
    parts = []
    with _as_picture(case.subject, case.at) as layer:
        method = LayerConductance(case.subject, layer)
        # One image at a time: captum keeps the layer at every step of the path in memory.
        for one, reference, t_given, x0 in zip(*(part.split(1) for part in (case.xt, case.reference, *case.more))):
            total = torch.zeros(())
            for ends in segments:
                start, end = (reference + share * (one - reference) for share in ends)
                # captum takes the gradient at the start of each step; forward and back together are the trapezoidal rule.
                there, back = (
                    method.attribute(b, a, n_steps=steps, method="riemann_trapezoid", additional_forward_args=(t_given, x0))
                    for a, b in ((start, end), (end, start))
                )
                total = total + (there - back).detach() / 2
            parts.append(total)
    return Found(torch.cat(parts))


def _leaf(xt: Tensor) -> Tensor:
    return xt.detach().clone().requires_grad_()


def grid(point: HookPoint, shape: Sequence[int]) -> tuple[int, int] | None:
    """Height and width of a hook point's grid of positions; None if it has none, such as tokens that are not square patches.

    Args:
        point: A hook point.
        shape: Shape of one image, (C, H, W).
    """
    if len(point.shape) == 3:
        return (point.shape[1], point.shape[2]) if point.shape[1] * point.shape[2] > 1 else None
    (_, height, width), tokens = shape, point.shape[0]
    patch = round(math.sqrt(height * width / tokens))
    fits = patch >= 1 and height % patch == width % patch == 0 and (height // patch) * (width // patch) == tokens
    return (height // patch, width // patch) if fits and tokens > 1 else None


def layers_for(denoiser: Denoiser, method: str) -> list[str]:
    """Hook points for a layer method: those whose positions form a grid. Empty for other methods.

    Raises:
        ValueError: If the method is unknown.
    """
    choose("method", method, SALIENCY)
    if SALIENCY[method].domain != "layer":
        return []
    return [name for name, point in hook_points(denoiser).items() if grid(point, denoiser.shape) is not None]


def offered(denoiser: Denoiser) -> dict[str, str]:
    """Which methods are available for a model: method -> empty, or the reason why not. Includes ``NEVER_OFFERED``.

    Whether GradCAM works also depends on the layer and the image; if not, :func:`attribute` raises ValueError.
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
            found[name] = "the network's output has no gradient with respect to its input"
        elif method.domain == "layer" and not gridded:
            found[name] = "no block's positions form a grid over the image"
        else:
            found[name] = ""
    return found | NEVER_OFFERED


SALIENCY: dict[str, Method] = {
    "saliency": Method("gradient: how much the target changes with each value", _saliency, signed=False, tells_bands=True),
    "integrated-gradients": Method(
        "gradient averaged over the path from the baseline, times the difference from it", _integrated_gradients, complete=True,
        uses=("baseline", "steps"), tells_bands=True,
    ),
    "smoothgrad": Method(
        f"gradient averaged over {SMOOTHED} images with a little noise added", _smoothgrad, signed=False, tells_bands=True
    ),
    "input-x-gradient": Method("value times gradient; not complete unless the target is linear", _input_x_gradient,
                               tells_bands=True),
    "occlusion": Method("change when a square is replaced by the baseline", _occlusion, uses=("baseline", "window"),
                        gradients=False),
    "frequency-ablation": Method(
        "change when a frequency band is replaced by the baseline's", _frequency_ablation, domain="frequencies",
        uses=("baseline",), gradients=False, tells_bands=True,
    ),
    "layer-gradcam": Method(
        "a layer's activation times the mean of its gradient over positions", _layer_gradcam, domain="layer", uses=("at",)
    ),
    "layer-conductance": Method(
        "Integrated Gradients through each position of a layer", _layer_conductance, domain="layer", complete=True,
        uses=("baseline", "steps", "at"),
    ),
}  # fmt: skip
# Methods of captum that do not run on these networks, or silently compute something else.
NEVER_OFFERED = {
    "guided-backprop": "captum changes only the gradient of ReLU; with SiLU and GELU it silently returns the plain gradient",
    "deconvolution": "captum changes only the gradient of ReLU; with SiLU and GELU it silently returns the plain gradient",
    "lrp": "captum has no propagation rule for SiLU, GELU, normalization and attention",
    "deep-lift": "captum has no rule for SiLU, normalization and attention, and uses the plain gradient there",
}
