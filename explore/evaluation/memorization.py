"""Memorization check: nearest training images of a model's samples. Depends on data, denoiser, images, results,
samplers, seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from explore.data import images_for, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.images import grid
from explore.results import Stored
from explore.samplers import Sampling, sample
from explore.seeds import seed_range
from explore.values import whole_number


@dataclass(frozen=True)
class NeighborsResult(Stored):
    """Root mean squared difference per pixel (images in [-1, 1]) to the nearest training image.

    Attributes:
        median, smallest: Over the ``count`` samples; ``held_out_median`` and ``held_out_smallest``: over held-out images.
        nearer_than_held_out: Share of samples that are nearer than the nearest 1 % of the held-out images.
        picture: Samples above their neighbors; not stored.
    """

    unstored: ClassVar[tuple[str, ...]] = ("picture",)

    data: str
    count: int
    seed: int
    train_images: int
    median: float
    smallest: float
    held_out_images: int
    held_out_median: float
    held_out_smallest: float
    nearer_than_held_out: float
    picture: Image.Image | None = field(default=None, repr=False, compare=False)


@torch.no_grad()
def neighbors(denoiser: Denoiser, data: str, count: int = 64, seed: int = 0) -> NeighborsResult:
    """Memorization check: the nearest training image, mirrored or not, of each of a model's samples.

    Args:
        denoiser: The model, sampled with the settings that suit it.
        data: Source of its training images, with the splits ``train`` and ``test``.
        count: Number of samples.
        seed: Seed of the first sample.
    """
    count = whole_number("count", count, 1)
    train = images_for(denoiser, data, "train", enlarge=False)
    held_out = images_for(denoiser, data, "test", enlarge=False)
    samples = to_uint8(sample(denoiser, seed_range(seed, count), **Sampling.for_model(denoiser).arguments))
    of_samples, nearest = _nearest(samples, train)
    of_held_out, _ = _nearest(held_out, train)
    columns = min(count, 16)
    rows = [part for pair in zip(samples.split(columns), nearest.split(columns)) for part in pair]
    return NeighborsResult(
        Path(data).name, count, seed, len(train), of_samples.median().item(), of_samples.min().item(),
        len(held_out), of_held_out.median().item(), of_held_out.min().item(),
        (of_samples < of_held_out.quantile(0.01)).float().mean().item(), grid(torch.cat(rows), scale=2, columns=columns),
    )  # fmt: skip


def _nearest(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean squared difference (N,) of uint8 ``images`` to the nearest of ``train``, and those images."""
    best = torch.full((len(images),), torch.inf)
    found = torch.empty_like(images)
    flat = to_float(images).flatten(1)
    for part in train.split(5000):
        for candidates in (part, part.flip(3)):
            distance, index = torch.cdist(flat, to_float(candidates).flatten(1)).min(1)
            better = distance < best
            found[better] = candidates[index[better]]
            best = torch.where(better, distance, best)
    return best / flat.shape[1] ** 0.5, found
