"""The one verb: ``attribute`` gives a map with its checks, ``inquire`` the map first and each check on demand.

Depends on checks and maps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from explore.denoiser import Denoiser
from explore.probes import Clock
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
    **settings: Any,
) -> tuple[Attribution, Callable[[Attribution, str], Attribution]]:
    """:func:`attribute` in pieces: the map can be shown before it is checked.

    Returns:
        The Attribution without checks; and (attribution, a key of ``CHECKS``) -> the same with that check's figures.

    Raises:
        ValueError: As :func:`attribute`.
    """
    found, case, resolved = unchecked(denoiser, xt, t, target, method, **settings)

    def check(record: Attribution, name: str) -> Attribution:
        result = CHECKS[choose("check", name, CHECKS)](record, case, denoiser, resolved)
        quality = record.quality if result is None else record.quality | {name: result}
        checked = dataclasses.replace(record, quality=quality)
        return dataclasses.replace(checked, notes=tuple(notes_of(checked)))

    return found, check
