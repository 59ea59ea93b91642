"""The scale of steering: how much a conditioned model changes when it is given a t whose log SNR is shifted.

Depends on activations, denoiser, probes and bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explore.activations import level_times
from explore.denoiser import Denoiser
from explore.interventions.bench import Bench
from explore.probes import ProbeSet


@dataclass(frozen=True)
class Partner:
    """The conditioned model of a pair.

    Attributes:
        denoiser: The model.
        probe_set: Its probes; without them, only the predicted noise is compared.
    """

    denoiser: Denoiser
    probe_set: ProbeSet | None = None

    def slopes(
        self, images: Tensor, layers: Sequence[str], levels: Sequence[float], shifts: Sequence[float], seed: int
    ) -> dict[float, dict[str, Tensor]]:
        """True noise level -> quantity -> its change per unit of log SNR by which the given t is shifted, by image (N,).

        Quantities are ``predicted_noise`` and those of ``layers`` with a probe of log SNR that was fitted with true t given.
        A slope is least squares through 0. At the ends of the schedule, the shift is what the schedule reaches.
        """
        probes, schedule = self.probe_set, self.denoiser.schedule
        fitted = probes is not None and probes.target == "logsnr" and any(given == "true" for given, *_ in probes.probes)
        names = [name for name in layers if name in probes.layers("mean")] if probes is not None and fitted else []
        bench = Bench(self.denoiser, images, {name: probes.probe(name, "mean", "true") for name in names if probes}, seed)
        found: dict[float, dict[str, Tensor]] = {}
        for level, t in zip(levels, level_times(schedule, levels).tolist()):
            times = schedule.t_from_logsnr(level + torch.tensor(shifts, dtype=torch.float64)).clamp(1e-4, 1 - 1e-4)
            moved = schedule.logsnr(times) - level  # (shifts,)
            plain, runs = bench.run(t), [bench.run(t, given) for given in times.tolist()]
            changes = {name: torch.stack([run[name] - plain[name] for run in runs], 1) for name in (*names, "predicted_noise")}
            found[level] = {name: change @ moved / moved.square().sum() for name, change in changes.items()}
        return found
