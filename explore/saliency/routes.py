"""How much of a target comes through the t input, and how much through the image.

Depends on denoiser, files, models, probes, targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explore.activations import hooks
from explore.denoiser import Denoiser
from explore.files import plain
from explore.models.layers import Modulation
from explore.probes import is_conditioned
from explore.saliency.maps import COMPLETE
from explore.saliency.methods import MAX_STEPS, STEPS
from explore.saliency.targets import BASELINES, EVALUATED, TARGETS, Subject
from explore.seeds import check_seeds
from explore.values import choose, real_number, whole_number

AVERAGED_TIMES = tuple((k + 0.5) / 64 for k in range(64))  # t over which the baseline of the t input is averaged


@dataclass(frozen=True)
class Routes:
    """How much of a target's difference from the baseline comes through the t input.

    The baseline is the reference image and, for each block, the average over all t of its time embedding. The output
    combination always uses the true t.

    Attributes:
        model, target, baseline: As in :class:`Attribution`.
        t: The true t.
        given: The t that the network is given, (B,).
        steps: Steps of the path; 0 without a path.
        given_t: Contribution of the t input, (B,), in the target's unit; exactly 0 for a time-agnostic network.
        image: Contribution of the image, (B,).
        blocks: Block -> contribution of its own time embedding, (B,); they sum to ``given_t``. Empty for networks without
            time layers of this project.
        output, reference_output: The target at both ends, (B,).
        relative_gap: Largest relative gap between given_t + image and the difference of the ends.
        note: Remark for the reader.
    """

    model: str
    target: str
    baseline: str
    t: float
    given: Tensor
    steps: int
    given_t: Tensor
    image: Tensor
    blocks: dict[str, Tensor]
    output: Tensor
    reference_output: Tensor
    relative_gap: float
    note: str

    @property
    def share(self) -> Tensor:
        """|given_t| over |given_t| + |image|, (B,)."""
        return self.given_t.abs() / (self.given_t.abs() + self.image.abs()).clamp_min(1e-12)

    def to_json(self) -> dict[str, Any]:
        """As JSON, with the share."""
        return plain(vars(self) | {"share": self.share})


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
    """How much of a target comes through the network's t input, block by block, and how much through the image.

    Integrated Gradients over both inputs at once: every block's own scale, shift and gate are taken from what they are on
    average over all t to what they are at the given t, while the image is taken from the baseline to itself. Where t enters
    otherwise than through this project's layers, both orders of exchanging t and image are averaged (Shapley's value for
    two), and nothing is said by block.

    Args:
        denoiser: The model.
        xt: Noisy pictures (B, C, H, W).
        t: Their t.
        target: A key of ``TARGETS``.
        given: The t that the network is given, a number or (B,); by default ``t``.
        baseline: A key of ``BASELINES``.
        steps: 2 to 512; by default from 32, doubled until complete to 1 %.
        seed: Of the matched noise.
        x0: The clean pictures, for ``loss``.
        settings: Those of the target, as for :class:`Subject`: probe_set, layer, view, condition, box, channel.

    Returns:
        Routes; zeros, by definition, for a network whose output does not depend on t.

    Raises:
        ValueError: As :func:`attribute`.
    """
    choose("baseline", baseline, BASELINES)
    steps = None if steps is None else whole_number("steps", steps, 2, MAX_STEPS)
    t, [seed] = real_number("t", t, 0, 1), check_seeds([seed])
    subject = Subject(denoiser, t, target, **settings)
    if "x0" in TARGETS[target].needs and (x0 is None or x0.shape != xt.shape):
        raise ValueError(f"the target {target} needs x0, the clean images, in the shape of xt")
    xt = xt.detach().to(subject.denoiser.device, torch.float32)
    t_given = torch.as_tensor(t if given is None else given, dtype=torch.float32, device=xt.device).expand(len(xt)).clone()
    known = torch.empty(len(xt), 0, device=xt.device) if x0 is None else x0.to(xt)
    sigma = float(subject.denoiser.schedule.sigma(torch.tensor(t, dtype=torch.float64)))
    reference = BASELINES[baseline](xt, sigma, seed)
    output = subject.values(xt, t_given, known)
    layers = _time_layers(subject, xt[:1], t_given[:1], known[:1])
    shared = (denoiser.name, target, baseline, float(t), t_given.cpu())
    if not is_conditioned(subject.denoiser):
        start = subject.values(reference, t_given, known)
        none = torch.zeros_like(output)
        note = "the network's output does not depend on the t input, so its contribution is 0 by definition"
        return Routes(*shared, 0, none, output - start, dict.fromkeys(layers, none), output, start, 0.0, note)
    if not any(isinstance(module, Modulation) for module in subject.network.modules()):
        everywhere = torch.tensor(AVERAGED_TIMES, device=xt.device)

        def average(pictures: Tensor) -> Tensor:
            count = len(everywhere)
            repeated = (part.repeat_interleave(count, 0) for part in (pictures, known))
            pictures, known_too = repeated
            return subject.values(pictures, everywhere.repeat(len(xt)), known_too).unflatten(0, (-1, count)).mean(1)

        start, here, there = average(reference), average(xt), subject.values(reference, t_given, known)
        clock_part = 0.5 * ((output - here) + (there - start))
        note = "no time layers of this project: contributions are averaged over both orders of exchange; no block is separate"
        return Routes(*shared, 0, clock_part, output - start - clock_part, {}, output, start, 0.0, note)
    with torch.no_grad():
        mean = {
            name: value.mean(0, keepdim=True)
            for name, value in _time_values(
                subject, layers, xt[:1], torch.tensor(AVERAGED_TIMES, device=xt.device), known[:1]
            ).items()
        }
        now = _time_values(subject, layers, xt[:1], t_given, known[:1])
    start = _with_time(subject, layers, {name: value.expand(len(xt), -1) for name, value in mean.items()})(
        reference, t_given, known
    )
    start = start.detach().double().cpu()
    count = steps or STEPS
    while True:
        parts = _integrate(subject, layers, xt, reference, now, mean, (t_given, known), count)
        gap = float(((torch.stack(parts).sum(0) - (output - start)).abs() / (output - start).abs().clamp_min(1e-9)).max())
        if steps is not None or gap <= COMPLETE or count >= MAX_STEPS:
            break
        count = min(MAX_STEPS, 2 * count)
    blocks = {name.removesuffix(".modulation").removesuffix(".time"): part for name, part in zip(layers, parts[1:])}
    through = torch.stack(parts[1:]).sum(0) if parts[1:] else torch.zeros_like(output)
    note = "" if gap <= COMPLETE else f"not complete to {COMPLETE:.0%}: t input and image miss the difference by {gap:.1%}"
    return Routes(*shared, count, through, parts[0], blocks, output, start, gap, note)


def _time_layers(subject: Subject, xt: Tensor, t_given: Tensor, x0: Tensor) -> list[str]:
    """Names of the time layers that the target depends on: those evaluated before it is known."""
    names = [name for name, module in subject.network.named_modules() if isinstance(module, Modulation)]
    passed: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: passed.append(name)

    with hooks(subject.network, {name: note(name) for name in names}), torch.no_grad():
        subject(xt, t_given, x0)
    return passed


def _time_values(subject: Subject, names: Sequence[str], xt: Tensor, t_given: Tensor, x0: Tensor) -> dict[str, Tensor]:
    """Output of each time layer at every t of ``t_given`` (T,): name -> (T, width). It does not depend on the image."""
    held: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: held.update({name: output.detach()})

    count = len(t_given)
    with hooks(subject.network, {f"{name}.linear": keep(name) for name in names}):
        subject(xt.expand(count, -1, -1, -1), t_given, x0.expand(count, *x0.shape[1:]))
    return held


def _with_time(subject: Subject, names: Sequence[str], values: dict[str, Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The target with the outputs of the time layers replaced by ``values``, (B, width) each."""

    def put(name: str) -> Callable[..., Tensor]:
        return lambda module, inputs, output: values[name].to(output)

    def value(xt: Tensor, t_given: Tensor, x0: Tensor) -> Tensor:
        with hooks(subject.network, {f"{name}.linear": put(name) for name in names}):
            return subject(xt, t_given, x0)

    return value


def _integrate(
    subject: Subject, names: Sequence[str], xt: Tensor, reference: Tensor, now: dict[str, Tensor], mean: dict[str, Tensor],
    more: tuple[Tensor, Tensor], steps: int,
) -> list[Tensor]:  # fmt: skip
    """Contribution of the image, then of each time layer, (B,) each."""
    from captum.attr import IntegratedGradients

    def forward(xt: Tensor, *rest: Tensor) -> Tensor:
        *values, t_given, x0 = rest
        return _with_time(subject, names, dict(zip(names, values)))(xt, t_given, x0)

    ends = (xt, *(now[name] for name in names))
    starts = (reference, *(mean[name].expand(len(xt), -1) for name in names))
    found = IntegratedGradients(forward).attribute(
        ends, starts, n_steps=steps, internal_batch_size=max(EVALUATED, len(xt)), additional_forward_args=more
    )
    return [part.detach().double().flatten(1).sum(1).cpu() for part in found]
