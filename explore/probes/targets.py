"""Probe targets: the functions of the noise level that a probe predicts. To add one: one line in ``TARGETS``.

Depends on activations, schedules, values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explore.activations import level_times
from explore.schedules import Schedule
from explore.values import choose


@dataclass(frozen=True)
class Target:
    """A function of the noise level that a probe predicts.

    Attributes:
        values: (schedule, t (L,)) -> the target at t, (L,).
        slope: (schedule, t (L,)) -> its derivative with respect to t, (L,).
    """

    values: Callable[[Schedule, Tensor], Tensor]
    slope: Callable[[Schedule, Tensor], Tensor]


def target_values(target: str, schedule: Schedule, levels: Sequence[float]) -> Tensor:
    """The target at every noise level, float64 (L,).

    Args:
        target: A key of ``TARGETS``.
        schedule: The noise schedule.
        levels: The L noise levels, as log SNR.

    Raises:
        ValueError: If the target is unknown, or if the schedule does not reach a level.
    """
    choose("target", target, TARGETS)
    return TARGETS[target].values(schedule, level_times(schedule, levels))


TARGETS: dict[str, Target] = {
    "logsnr": Target(
        lambda schedule, t: schedule.logsnr(t),
        lambda schedule, t: 2 * (schedule.dalpha(t) / schedule.alpha(t) - schedule.dsigma(t) / schedule.sigma(t)),
    ),
    "log_sigma": Target(
        lambda schedule, t: schedule.sigma(t).log(), lambda schedule, t: schedule.dsigma(t) / schedule.sigma(t)
    ),
    "t": Target(lambda schedule, t: t, lambda schedule, t: torch.ones_like(t)),
}
