"""Regimes of t: which t a conditioned network is told while it is probed. To add one: one function and one line in ``REGIMES``.

A network without a t input has one regime, ``any``. Depends on activations, schedules, values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from explore.activations import independent_times, level_times
from explore.schedules import Schedule
from explore.values import choose, number_in, one_line, real_number

FIXED_T = 0.05  # near the data on every schedule: log SNR 5 to 6
ANY = "any"  # the regime of a network without a t input, and of baselines
INDEPENDENT = "independent"  # stands for the first regime of a probe set
Given = Callable[[Tensor, int], Tensor]  # (images (B,), level) -> the t that the network is told, (B,)


def nearest_wrong_times(schedule: Schedule, levels: Sequence[float]) -> Given:
    """The t of the next level, above or below in turn over images and levels; at either end of the grid the only neighbor.

    Raises:
        ValueError: If there is no other level.
    """
    if len(levels) < 2:
        raise ValueError("nearest-wrong needs at least two levels")
    times = level_times(schedule, levels).float()
    order = times.argsort()
    rank = order.argsort()

    def given(images: Tensor, level: int) -> Tensor:
        step = 1 - 2 * ((images + rank[level]) % 2)
        near = rank[level] + step
        near = torch.where((near < 0) | (near >= len(times)), rank[level] - step, near)
        return times[order[near]]

    return given


# Name -> (schedule, levels, the t of ``fixed``) -> time inputs; None for the true t.
REGIMES: dict[str, Callable[[Schedule, Sequence[float], float], Given | None]] = {
    "random": lambda schedule, levels, t: independent_times(schedule, levels),
    "fixed": lambda schedule, levels, t: lambda images, level: torch.full((len(images),), t),
    "nearest-wrong": lambda schedule, levels, t: nearest_wrong_times(schedule, levels),
    "true": lambda schedule, levels, t: None,
}
HELP = f"t that a conditioned model is told: random, fixed (t = {FIXED_T:g}) or such as fixed:0.5, nearest-wrong, true."


def check_regime(name: str, value: Any) -> str:
    """``value`` as a regime: a key of ``REGIMES``, where ``fixed`` has its t, as in ``fixed:0.05``.

    Raises:
        ValueError: If it is none.
    """
    kind, colon, number = str(value).partition(":")
    choose("regime", kind, REGIMES)
    if kind == "fixed":
        return f"fixed:{real_number('the t of fixed', number_in(number) if colon else FIXED_T, 0, 1):g}"
    if colon:
        raise ValueError(f"{name}: only fixed has a t of its own, as in fixed:0.05, got {one_line(value, 80)}")
    return kind


def check_condition(name: str, value: Any) -> str:
    """``value`` as a regime, or ``independent``, which stands for the first regime of a probe set.

    Raises:
        ValueError: If it is neither.
    """
    choose("condition", str(value).partition(":")[0], (INDEPENDENT, *REGIMES))
    return INDEPENDENT if value == INDEPENDENT else check_regime(name, value)


def fixed_t(regime: str) -> float | None:
    """The t of a ``fixed`` regime; None for another one."""
    kind, _, number = regime.partition(":")
    return float(number) if kind == "fixed" else None


def given_times(regime: str, schedule: Schedule, levels: Sequence[float]) -> Given | None:
    """What a network is told in a regime, for :func:`explore.activations.sweep`; None for the true t.

    Args:
        regime: As :func:`check_regime` returns it, or ``any``.
        schedule: The noise schedule.
        levels: Log SNR values of the sweep.
    """
    if regime == ANY:
        return None
    return REGIMES[regime.partition(":")[0]](schedule, levels, fixed_t(regime) or 0.0)


def told_label(regime: str) -> str:
    """The name of a regime in menus and legends, such as ``fixed t = 0.05``."""
    t = fixed_t(regime)
    if t is not None:
        return f"fixed t = {t:g}"
    return {
        "random": "random t", "nearest-wrong": "t of the nearest other level", "true": "true t", ANY: "no t input"
    }[regime]  # fmt: skip


def in_words(regime: str) -> str:
    """What the t given to the network was, to follow "The t given to the network was"."""
    t = fixed_t(regime)
    if t is not None:
        return f"{t:g} for every image and noise level, independent of the true t"
    return {
        "random": "independent of the true t",  # as atlases were stored before there were other regimes
        "nearest-wrong": "that of the nearest other noise level, above and below in turn",
        "true": "the true t",
    }[regime]
