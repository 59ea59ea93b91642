"""Plane: paths of the optimal network of a few points in the plane, with and without t. Depends on bayes, exact, samplers."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explore import bayes, zoo
from explore.denoiser import PREDICTIONS
from explore.experiments.exact import LEVELS, check_path
from explore.experiments.model import seed_option
from explore.experiments.request import Load, Request, sampling_field
from explore.progress import Watch, quiet
from explore.results import table
from explore.samplers import SAMPLERS, Sampling, check_suited
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise, seed_range
from explore.values import choice, number_in, option, real_number, whole

MAX_POINTS = 64
NEAR = 0.02  # a sample that is closer to a point ends on it


def _points(name: str, value: Any) -> str:
    found = []
    for part in filter(None, (part.strip() for part in re.split(r"[;\n]", str(value)[:4000]))):
        values = [value for value in re.split(r"[,\s]+", part) if value]
        if len(values) != 2:
            raise ValueError(f"a point is two numbers, such as 0.5, -1; got {part[:40]!r}")
        found.append([real_number("a coordinate", number_in(value), -2, 2) for value in values])
    if not 1 <= len(found) <= MAX_POINTS:
        raise ValueError(f"1 to {MAX_POINTS} points are taken, got {len(found)}")
    return "; ".join(f"{x:g}, {y:g}" for x, y in found)


@dataclass(frozen=True)
class PlanePaths:
    """The data (K, 2), and the paths (N, S, 2) of the conditioned and of the time-agnostic network, from noise to sample."""

    data: Tensor
    paths: tuple[Tensor, Tensor]

    @property
    def away(self) -> list[Tensor]:
        """Distance of each final sample from the nearest point, (N,) for each network."""
        return [torch.cdist(walk[:, -1].double(), self.data).amin(1) for walk in self.paths]

    def to_json(self) -> dict[str, Any]:
        """The data, and for each network how many samples end on a point and their mean distance from the nearest one."""
        ends = [{"on_a_point": int((one < NEAR).sum()), "mean_distance": one.mean().item()} for one in self.away]
        return {"data": self.data.tolist(), "ends": ends}


@dataclass(frozen=True)
class PlaneFlow(Request):
    """Follows the paths of the optimal network of a few points in the plane, with and without t, from the same noise."""

    verb: ClassVar[str] = "plane"
    reading: ClassVar[str] = "result.data, result.paths"
    written: ClassVar[tuple[str, ...]] = ("plane.json", "paths.npz")
    dtype: ClassVar[str] = "float64"

    points: str | None = option(str, "The data as x, y; x, y; ..., from -2 to 2; by default the pattern.", _points, None)
    pattern: str = choice("pattern", lambda: bayes.PLANAR, "Where the points lie.", "spiral")
    number: int = whole(1, MAX_POINTS, "Points of the pattern, 1 to 64.", 24)
    target: str = choice("target", lambda: PREDICTIONS, "What the networks predict.", "velocity")
    schedule: str = choice("noise path", lambda: SCHEDULES, "How point and noise are mixed at each t.", "flow")
    seed: int = seed_option()
    count: int = whole(1, 64, "Samples, 1 to 64.", 48)
    sampling: Sampling = sampling_field()

    def check(self) -> None:
        """The target is defined on the schedule, and the sampler works with it."""
        check_path(self.target, self.schedule)
        if self.sampling is not None:
            check_suited(self.sampling.sampler, self.target)

    def suits(self, **given: Any) -> Sampling:
        """DDIM with 50 steps."""
        found = Sampling(**{"sampler": "ddim", "steps": 50, **given})
        check_suited(found.sampler, self.target)
        return found

    @property
    def data(self) -> Tensor:
        """The points, (K, 2)."""
        if self.points is None:
            return bayes.PLANAR[self.pattern](self.number).double()
        return torch.tensor([[float(x) for x in part.split(",")] for part in self.points.split(";")], dtype=torch.float64)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> PlanePaths:
        """The paths; no trained network is used."""
        data, seeds, found = self.data, seed_range(self.seed, self.count), []
        prior, levels = bayes.FiniteSet(data[:, :, None, None]), bayes.Levels.midpoints(SCHEDULES[self.schedule], LEVELS)
        for hidden in watch([None, (0.0, 1.0)], unit="network"):
            denoiser = bayes.bayes_denoiser(prior, levels, self.target, (2, 1, 1), hidden=hidden)
            noise = keyed_noise(seeds, denoiser.shape).double()
            sampler = SAMPLERS[self.sampling.sampler]
            walk = sampler(denoiser, noise, self.sampling.steps, seeds=seeds, **self.sampling.options)
            found.append(torch.stack([step.xt.flatten(1) for step in walk], 1))
        return PlanePaths(data, (found[0], found[1]))

    def files(self, result: PlanePaths) -> dict[str, Any]:
        """The record, and the paths as arrays."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, data=result.data.numpy(), conditioned=result.paths[0].numpy(), hidden=result.paths[1].numpy()
        )
        return {"plane.json": self.record(result), "paths.npz": buffer.getvalue()}

    def summary(self, result: PlanePaths) -> str:
        """Where the samples of each network end."""
        rows = [{"network": name, **one} for name, one in zip(("conditioned", "time-agnostic"), result.to_json()["ends"])]
        return f"{table(rows)}\n{self.count} samples, {len(result.data)} points, {self.target}, {self.schedule}"
