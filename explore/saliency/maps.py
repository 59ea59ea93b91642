"""Attribution maps before they are checked, and maps drawn over their images.

Depends on denoiser, files, frequency, methods, probes, seeds, targets, values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explore.denoiser import Denoiser
from explore.files import plain
from explore.frequency import by_ring, rings
from explore.probes import ProbeSet
from explore.saliency.methods import MAX_STEPS, NEVER_OFFERED, SALIENCY, SMOOTHING, STEPS, Case, Found, Method, grid, offered
from explore.saliency.targets import BASELINES, TARGETS, Subject
from explore.seeds import check_seeds
from explore.values import choose, real_number, whole_number

COMPLETE = 0.01  # largest relative gap of a map that counts as complete
UNCHANGED = 0.3  # rank correlation with the map of a reinitialized network from which a map fails the check
NEGATIVE, POSITIVE = (118, 42, 131), (27, 120, 55)  # ends of ColorBrewer's PRGn; neither is the color of a model


@dataclass(frozen=True)
class Attribution:
    """A target attributed to the values of an image or a layer.

    Attributes:
        model: Name of the model.
        target, method, baseline: Keys of ``TARGETS``, ``SALIENCY`` and ``BASELINES``; ``baseline`` is empty if unused.
        t: The true t.
        given: The t that the network is given, (B,).
        layer, view: The probed layer and its view; empty for targets without a probe.
        at: Hook point of layer methods; empty for others.
        steps: Steps of the path; 0 without a path.
        domain: ``pixels``, ``layer`` or ``frequencies``.
        signed: Whether values are contributions with a sign, in the target's unit; else sensitivities.
        values: As the method returns them: (B, C, H, W), (B, C, h, w) of a layer, or (B, RINGS).
        map: (B, H, W): sum of contributions, or of magnitudes of sensitivities, over channels; a layer's positions are
            enlarged; for ``frequencies`` the frequency plane with 0 in the middle.
        bands: Contribution (or sensitivity) of each frequency band, (B, RINGS); None if the method has none.
        band_shares: Share of the sum of magnitudes in each band, (B, RINGS); None if the method has none.
        output: The target (B,), float64.
        reference_output: The target at the baseline, (B,); nan if unused.
        quality: Results of the checks as JSON, see ``CHECKS``.
        notes: Warnings about this map.
    """

    model: str
    target: str
    method: str
    baseline: str
    t: float
    given: Tensor
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
        """All fields except values and map, as JSON."""
        kept = {name: value for name, value in vars(self).items() if name not in ("values", "map")}
        return plain(kept | {"shape": list(self.values.shape), "map_shape": list(self.map.shape)})


def unchecked(
    denoiser: Denoiser,
    xt: Tensor,
    t: float,
    target: str = "implied-clock",
    method: str = "integrated-gradients",
    *,
    probe_set: ProbeSet | None = None,
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
) -> tuple[Attribution, Case, dict[str, Any]]:
    """The map of :func:`explore.saliency.attribute` without checks, with the same arguments and errors.

    Returns:
        The Attribution; the input of the method; and the settings that repeat it with another model.
    """
    if method in NEVER_OFFERED:
        raise ValueError(f"{method} is not available: {NEVER_OFFERED[method]}")
    how = SALIENCY[choose("method", method, SALIENCY)]
    choose("baseline", baseline, BASELINES)
    steps = None if steps is None else whole_number("steps", steps, 2, MAX_STEPS)
    t, [seed] = real_number("t", t, 0, 1), check_seeds([seed])
    shape = denoiser.shape
    if xt.ndim != 4 or tuple(xt.shape[1:]) != shape:
        raise ValueError(f"xt must be (B, {', '.join(map(str, shape))}) for {denoiser.name}, got {tuple(xt.shape)}")
    subject = Subject(
        denoiser, t, target, probe_set=probe_set, layer=layer, view=view, condition=condition, box=box, channel=channel
    )
    if reason := offered(subject.denoiser)[method]:
        raise ValueError(f"{method} is not available for {denoiser.name}: {reason}")
    if "x0" in TARGETS[target].needs and (x0 is None or x0.shape != xt.shape):
        raise ValueError(f"the target {target} needs x0, the clean images, in the shape of xt")
    at = _looked_at(subject, how, at)
    side = min(shape[1:])
    window = max(2, 3 * side // 32) if window is None else whole_number("window, in pixels,", window, 1, side)
    xt = xt.detach().to(subject.denoiser.device, torch.float32)
    t_given = torch.as_tensor(t if given is None else given, dtype=torch.float32, device=xt.device).expand(len(xt)).clone()
    if not ((t_given >= 0) & (t_given <= 1)).all():
        raise ValueError("given must be from 0 to 1, as t is")
    known = torch.empty(len(xt), 0, device=xt.device) if x0 is None else x0.to(xt)
    sigma = float(subject.denoiser.schedule.sigma(torch.tensor(t, dtype=torch.float64)))
    reference = BASELINES[baseline](xt, sigma, seed)
    case = Case(subject, xt, t_given, known, reference, steps or STEPS, at, window, seed)
    output, start = subject.values(xt, t_given, known), subject.values(reference, t_given, known)
    try:
        found = how.run(case)
        while steps is None and how.complete and "steps" in how.uses and case.steps < MAX_STEPS and how.domain == "pixels":
            if relative_gap(found.values, output - start).max() <= COMPLETE:
                break
            case = _doubled(case)
            found = how.run(case)
    except RuntimeError as error:
        if "appears to not have been used" not in str(error):
            raise
        raise ValueError(f"{target} does not depend on {at}: choose a block before the one that the target uses") from None
    if not (found.values.isfinite().all() and output.isfinite().all()):
        raise ValueError(f"{method} of {target} is not finite at t = {t:g}; choose another t")
    bands, shares = _bands(found, how, shape[2])
    record = Attribution(
        denoiser.name, target, method, baseline if "baseline" in how.uses else "", float(t), t_given.cpu(), subject.layer or "",
        subject.view, at or "", case.steps if "steps" in how.uses else 0, how.domain, how.signed, found.values.cpu(),
        _to_map(found.values, how, shape).cpu(), bands, shares, output,
        start if "baseline" in how.uses else torch.full_like(start, math.nan),
        {name: values.double().mean().item() for name, values in found.figures.items()}, (),
    )  # fmt: skip
    settings: dict[str, Any] = {
        "probe_set": probe_set, "layer": layer, "view": view, "condition": condition, "given": t_given, "box": box,
        "channel": channel, "x0": x0, "at": at, "baseline": baseline, "steps": case.steps, "window": window, "seed": seed,
    }  # fmt: skip
    return dataclasses.replace(record, notes=tuple(notes_of(record))), case, settings


def _doubled(case: Case) -> Case:
    return dataclasses.replace(case, steps=min(MAX_STEPS, 2 * case.steps))


def _looked_at(subject: Subject, how: Method, at: str | None) -> str | None:
    """The hook point of a layer method, by default the probed layer or the middle one."""
    if how.domain != "layer":
        if at is not None:
            raise ValueError("at is only for layer methods: layer-gradcam, layer-conductance")
        return None
    gridded = [name for name, point in subject.points.items() if grid(point, subject.denoiser.shape) is not None]
    if at is None:
        at = subject.layer if subject.layer in gridded else gridded[len(gridded) // 2]
        assert at is not None
    choose("layer", at, subject.points)
    if at not in gridded:
        raise ValueError(f"the positions of {at} do not form a grid over the image; choose from {', '.join(gridded)}")
    order = list(subject.points)
    if subject.layer is not None and order.index(at) > order.index(subject.layer):
        raise ValueError(f"{at} comes after the probed layer {subject.layer}; choose {subject.layer} or one before it")
    return at


def relative_gap(values: Tensor, difference: Tensor) -> Tensor:
    """|sum - difference| over |difference|, (B,)."""
    gap = (values.double().flatten(1).sum(1).cpu() - difference).abs()
    return gap / difference.abs().clamp_min(1e-9)


def _bands(found: Found, how: Method, width: int) -> tuple[Tensor | None, Tensor | None]:
    """Contribution and share of each frequency band, or None for methods without them."""
    if how.domain == "frequencies":
        bands = found.values.double().cpu()
        return bands, shares(bands.abs())
    if found.gradient is None:
        return None, None
    spectrum = torch.fft.rfft2(found.gradient.double().cpu(), norm="ortho")
    if found.factor is None:
        size = by_ring(spectrum.abs(), width)
        return size, shares(size)
    # Parseval: the sum of gradient times factor over pixels equals this sum over frequencies.
    each = (spectrum.conj() * torch.fft.rfft2(found.factor.double().cpu(), norm="ortho")).real
    return by_ring(each, width), shares(by_ring(each.abs(), width))


def shares(sizes: Tensor) -> Tensor:
    return sizes / sizes.sum(1, keepdim=True).clamp_min(torch.finfo(sizes.dtype).tiny)


def _to_map(values: Tensor, how: Method, shape: Sequence[int]) -> Tensor:
    """(B, H, W) as :class:`Attribution` says."""
    height, width = shape[1:]
    if how.domain == "frequencies":
        plane = rings(height, width, whole=True).to(values.device)
        return torch.fft.fftshift(values[:, plane], dim=(1, 2))
    flat = values.sum(1) if how.signed else values.abs().sum(1)
    if flat.shape[1:] == (height, width):
        return flat
    scale = flat[0].numel() / (height * width)  # the contribution of a position is divided among its pixels
    return nn.functional.interpolate(flat[:, None], size=(height, width), mode="nearest")[:, 0] * scale


def notes_of(record: Attribution) -> list[str]:
    notes = []
    quality = record.quality
    if quality.get("completeness", {}).get("relative_gap", 0) > COMPLETE and record.domain == "pixels":
        notes.append(
            f"not complete to {COMPLETE:.0%}: the sum differs from the target's difference from the baseline by "
            f"{quality['completeness']['relative_gap']:.1%}"
        )
    if record.domain == "layer" and "completeness" in quality:
        share = quality["completeness"]["share"]
        notes.append(
            f"{share:.0%} of the difference from the baseline passes through {record.at}; the rest takes skip connections"
        )
    if "gradient_seen" in quality:
        notes.append(
            f"GradCAM uses the gradient's mean over positions: {quality['gradient_seen']:.0%} of the gradient at {record.at}"
        )
    if not quality.get("randomization", {}).get("passes", True):
        notes.append("this map fails the check with randomized parameters: a reinitialized network has a similar map")
    if record.method == "smoothgrad":
        notes.append(f"the added noise is {SMOOTHING:g} sigma(t): it raises the noise level by {SMOOTHING**2:.0%}")
    return notes


def scale_of(maps: Sequence[Tensor]) -> float:
    """One color limit for several maps: the 99th percentile of their magnitudes, above 0."""
    every = torch.cat([one.double().abs().flatten() for one in maps])
    limit = float(torch.quantile(every, 0.99)) or float(every.max())
    return limit or 1.0


def overlay(pictures: Tensor, maps: Tensor, limit: float) -> Tensor:
    """Maps over their images: green is positive, purple negative; small values show the gray image.

    Args:
        pictures: uint8 (B, 3 or 1, H, W).
        maps: (B, H, W).
        limit: The value of full color; see :func:`scale_of`.

    Returns:
        uint8 (B, 3, H, W).
    """
    gray = (90 + 0.6 * pictures.double().mean(1, keepdim=True)).expand(
        -1, 3, -1, -1
    )  # pale, so that colors show on dark parts too
    strength = (maps.double() / limit).clamp(-1, 1)[:, None]
    ends = [torch.tensor(end, dtype=torch.float64).reshape(1, 3, 1, 1) for end in (POSITIVE, NEGATIVE)]
    color = torch.where(strength > 0, ends[0], ends[1])
    opacity = 0.95 * strength.abs()
    return (gray * (1 - opacity) + color * opacity).round().to(torch.uint8)
