"""Steering: samples with a layer moved along its probe's direction. Depends on images, interventions, model, samplers."""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explore import interventions, zoo
from explore.data import to_uint8
from explore.denoiser import Denoiser
from explore.experiments.model import OfModel, identity, probes_of, probes_option, seed_option
from explore.experiments.request import PRECISIONS_HELP, Load, sampling_field
from explore.experiments.sample import check_pictures
from explore.hardware import PRECISIONS
from explore.images import channels_last, grid, png
from explore.probes import ProbeSet
from explore.progress import Watch, quiet
from explore.results import Stored, table
from explore.samplers import Sampling, Step
from explore.seeds import seed_range
from explore.trajectories import MAX_IMAGES
from explore.values import choice, real, text, whole


@dataclass(frozen=True)
class Steered(Stored):
    """Samples of one model as it is, steered, and moved in a random direction.

    Attributes:
        model: Its name.
        sha256: Of its weights, None if unknown.
        images: Run, of ``STEERED_RUNS`` -> samples (N, C, H, W) in about [-1, 1].
        difference: Mean absolute difference of ``steered`` and ``control`` from ``plain``.
        std: Standard deviation of each run.
    """

    unstored: ClassVar[tuple[str, ...]] = ("images",)

    model: str
    sha256: str | None
    images: dict[str, Tensor]
    difference: dict[str, float]
    std: dict[str, float]


@dataclass(frozen=True)
class Steering(OfModel):
    """Samples with a layer moved along its probe's direction at every step, and in a random direction by the same length.

    All runs start from the same noise as the samples without a change, from which the differences are taken.
    """

    verb: ClassVar[str] = "steering"
    reading: ClassVar[str] = "result.images, result.difference, result.std"
    written: ClassVar[tuple[str, ...]] = ("steering.json", "samples.npz", "grid.png")
    most_images: ClassVar[int | None] = 16

    layer: str | None = text("Hook point with a probe; by default that of the best one.", None)
    dose: float = real(-100, 100, "Change of the probe prediction, in the probe's unit; above 0: as if cleaner.", 2.0)
    direction: str = choice("direction", lambda: interventions.DIRECTIONS, "Along which the layer is moved.", "pattern")
    probes: str | None = probes_option()
    seed: int = seed_option()
    count: int = whole(1, MAX_IMAGES, "Images, 1 to 64.", 16)
    sampling: Sampling = sampling_field()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    def stream(self, denoiser: Denoiser, fitted: ProbeSet) -> Generator[tuple[str, Step], None, None]:
        """Name of the run, and each of its steps."""
        return interventions.steered_stream(
            denoiser, fitted, seed_range(self.seed, self.count), self.layer or fitted.best[0], self.dose,
            direction=self.direction, seed=self.seed, **self.sampling.arguments,
        )  # fmt: skip

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Steered:
        """The samples of the three runs."""
        denoiser = self.model_from(load, self.precision)
        check_pictures(denoiser)
        steps = self.stream(denoiser, probes_of(denoiser, self.probes))
        total = len(interventions.STEERED_RUNS) * (self.sampling.steps + 1)
        images = {name: step.xt for name, step in watch(steps, total=total, unit="step")}  # the last step of each run
        return Steered(**identity(denoiser), images=images, **interventions.steered_figures(images))

    def files(self, result: Steered) -> dict[str, Any]:
        """The record, the images as arrays, and as a picture with a row for each run."""
        pictures = {name: to_uint8(images).cpu() for name, images in result.images.items()}
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: channels_last(images) for name, images in pictures.items()}
        np.savez_compressed(buffer, **arrays)
        drawn = png(grid(torch.cat(list(pictures.values())), scale=2, columns=self.count))
        return {"steering.json": self.record(result), "samples.npz": buffer.getvalue(), "grid.png": drawn}

    def summary(self, result: Steered) -> str:
        """The differences and standard deviations as a table."""
        rows = [
            {"run": name, "mean |difference| from plain": result.difference.get(name, 0.0), "standard deviation": std}
            for name, std in result.std.items()
        ]
        moved = f"{self.layer or 'the layer of the best probe'} moved by {self.dose:+g}"
        return f"{table(rows)}\n{self.count} images of {result.model}, {moved} ({self.sampling.flags}, seed {self.seed})"
