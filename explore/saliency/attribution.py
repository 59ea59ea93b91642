"""``attribute`` returns a map with its checks; ``inquire`` returns the map, and runs each check on demand.

Depends on checks and maps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from explore.denoiser import Denoiser
from explore.probes import ProbeSet
from explore.saliency.checks import CHECKS
from explore.saliency.maps import Attribution, notes_of, unchecked
from explore.values import choose


def attribute(
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
    checks: Sequence[str] | None = None,
) -> Attribution:
    """Attributes a target to the values of an image or a layer, and checks the map.

    Args:
        denoiser: The model; a copy in float32 is used.
        xt: Noisy images (B, C, H, W).
        t: Their true t, in [0, 1]; the output combination uses it.
        target: A key of ``TARGETS``.
        method: A key of ``SALIENCY``.
        probe_set: Probes of the model, for ``implied-clock``.
        layer: The probed layer; by default that of the best probe.
        view: View of that layer, ``mean`` or ``mean_std``.
        condition: Which probes of a conditioned network, ``independent`` or ``true``.
        given: The t that the network is given, a number or (B,); by default ``t``.
        box: (top, left, height, width) for ``x0-region``; by default the whole image.
        channel: For ``x0-region``; by default all.
        x0: The clean images, for ``loss``.
        at: Hook point of layer methods; by default the probed layer, or the middle one that has a grid.
        baseline: A key of ``BASELINES``.
        steps: Steps of the path from the baseline, 2 to 512. By default 32; for integrated-gradients they are doubled until
            the map is complete to 1 %, up to 512.
        window: Side of the occluding square in pixels; it moves by half of it, rounded up. By default 3/32 of the side of the
            image, at least 2.
        seed: Seed of the matched noise and of SmoothGrad.
        checks: Keys of ``CHECKS``; by default all that are defined for the method.

    Returns:
        Attribution.

    Raises:
        ValueError: If a name is unknown, a setting is out of range, the method is not available for this model, layer or
            image, the target does not depend on the layer, or the result is not finite.
    """
    wanted = list(CHECKS) if checks is None else [choose("check", name, CHECKS) for name in checks]
    record, check = inquire(
        denoiser, xt, t, target, method, probe_set=probe_set, layer=layer, view=view, condition=condition, given=given, box=box,
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
    **settings: Any,
) -> tuple[Attribution, Callable[[Attribution, str], Attribution]]:
    """:func:`attribute` in two parts: the map can be shown before it is checked.

    Returns:
        The Attribution without checks; and a function (attribution, key of ``CHECKS``) -> attribution with that check.

    Raises:
        ValueError: As for :func:`attribute`.
    """
    found, case, resolved = unchecked(denoiser, xt, t, target, method, **settings)

    def check(record: Attribution, name: str) -> Attribution:
        result = CHECKS[choose("check", name, CHECKS)](record, case, denoiser, resolved)
        quality = record.quality if result is None else record.quality | {name: result}
        checked = dataclasses.replace(record, quality=quality)
        return dataclasses.replace(checked, notes=tuple(notes_of(checked)))

    return found, check
