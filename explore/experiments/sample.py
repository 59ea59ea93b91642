"""Sample: images of one model. Depends on images, model, request, samplers, seeds."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explore import zoo
from explore.data import to_uint8
from explore.denoiser import Denoiser
from explore.experiments.model import MAX_COUNT, OfModel, seed_option
from explore.experiments.request import PRECISIONS_HELP, Load, sampling_field
from explore.hardware import PRECISIONS
from explore.images import channels_last, grid, png
from explore.progress import Watch, quiet
from explore.samplers import Sampling
from explore.seeds import seed_range
from explore.values import choice, whole

BATCH = 64  # images in one pass of the network


@dataclass(frozen=True)
class Samples:
    """Finished samples of one model.

    Attributes:
        model: Its name.
        images: uint8 (N, C, H, W), C 3 or 1.
        seeds: N seeds, one per image.
    """

    model: str
    images: Tensor
    seeds: list[int]

    def to_npz(self) -> bytes:
        """``images`` uint8 (N, H, W, C) and ``seeds`` uint32 (N,)."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=channels_last(self.images), seeds=np.array(self.seeds, dtype=np.uint32))
        return buffer.getvalue()

    def to_png(self) -> bytes:
        """All images in a nearly square grid."""
        return png(grid(self.images, scale=4 if len(self.images) <= 64 else 1))


def check_pictures(denoiser: Denoiser) -> None:
    """Raises ValueError if a model's images are no pictures, such as latents."""
    if denoiser.shape[0] not in (1, 3):
        raise ValueError(f"{denoiser.name} makes {denoiser.shape[0]} channels, such as latents; a picture has 3, or 1 if gray")


@dataclass(frozen=True)
class Sample(OfModel):
    """Samples images from one model.

    The result is a :class:`Samples`: images uint8 (N, C, H, W), and their seeds.
    """

    verb: ClassVar[str] = "sample"
    reading: ClassVar[str] = "result.images, result.seeds  # uint8 (N, C, H, W), and one seed per image"
    most_images: ClassVar[int | None] = 64
    written: ClassVar[tuple[str, ...]] = ("grid.png", "samples.npz")

    sampling: Sampling = sampling_field()
    seed: int = seed_option()
    count: int = whole(1, MAX_COUNT, "Images, 1 to 10,000.", 16)
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    @property
    def seeds(self) -> list[int]:
        """One per image."""
        return seed_range(self.seed, self.count)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Samples:
        """The finished samples."""
        denoiser = self.model_from(load, self.precision)
        check_pictures(denoiser)
        chunks = [self.seeds[first : first + BATCH] for first in range(0, self.count, BATCH)]
        parts = []
        for chunk in chunks if len(chunks) == 1 else watch(chunks, unit="batch"):
            steps = self.sampling.stream(denoiser, chunk)
            for step in watch(steps, total=self.sampling.steps + 1, unit="step") if len(chunks) == 1 else steps:
                last = step
            parts.append(to_uint8(last.xt).cpu())
        return Samples(denoiser.name, torch.cat(parts), self.seeds)

    def files(self, result: Samples) -> dict[str, Any]:
        """The images as a grid and as arrays."""
        return {"grid.png": result.to_png(), "samples.npz": result.to_npz()}

    def record(self, result: Samples) -> dict[str, Any]:
        """How the images were made."""
        return {
            **self.provenance, "model": result.model,
            "time_conditioning": zoo.info(self.model).time_conditioning if self.model else None,
            "sampler": self.sampling.sampler, "steps": self.sampling.steps, "options": self.sampling.options,
            "seeds": result.seeds,
        }  # fmt: skip

    def summary(self, result: Samples) -> str:
        """How many images of which model."""
        return f"{self.count} images of {result.model} ({self.sampling.flags}, seed {self.seed})"
