"""What probes read of the noise level: functions of t, by name."""

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
    """What is read of the noise level.

    Attributes:
        values: (schedule, t (L,)) -> (L,).
        slope: Its derivative in t.
    """

    values: Callable[[Schedule, Tensor], Tensor]
    slope: Callable[[Schedule, Tensor], Tensor]


def target_values(target: str, schedule: Schedule, levels: Sequence[float]) -> Tensor:
    """The target at every level of logsnr, float64 (L,).

    Raises:
        ValueError: For an unknown target, or a level that the schedule does not reach.
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
