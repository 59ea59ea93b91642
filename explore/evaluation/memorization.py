"""Memorization check: nearest training images of a model's samples. Depends on data, denoiser, images, samplers, seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from explore.data import images_for, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.images import grid
from explore.samplers import Sampling, sample
from explore.seeds import seed_range
from explore.values import whole_number


@torch.no_grad()
def neighbors(denoiser: Denoiser, data: str, count: int = 64, seed: int = 0) -> tuple[dict[str, Any], Image.Image]:
    """Memorization check: the nearest training image, mirrored or not, of each of a model's samples.

    Args:
        denoiser: The model, sampled with the settings that suit it.
        data: Source of its training images, with the splits ``train`` and ``test``.
        count: Number of samples.
        seed: Seed of the first sample.

    Returns:
        Root mean squared difference per pixel (images in [-1, 1]) to the nearest training image: median and smallest over
        the samples and over the held-out images, and the share of samples that are nearer than the nearest 1 % of the
        held-out images. And a picture: samples above their neighbors.
    """
    count = whole_number("count", count, 1)
    train = images_for(denoiser, data, "train", enlarge=False)
    held_out = images_for(denoiser, data, "test", enlarge=False)
    samples = to_uint8(sample(denoiser, seed_range(seed, count), **Sampling.for_model(denoiser).arguments))
    of_samples, nearest = _nearest(samples, train)
    of_held_out, _ = _nearest(held_out, train)
    result = {
        "data": Path(data).name,
        "count": count,
        "seed": seed,
        "train_images": len(train),
        "median": of_samples.median().item(),
        "smallest": of_samples.min().item(),
        "held_out_images": len(held_out),
        "held_out_median": of_held_out.median().item(),
        "held_out_smallest": of_held_out.min().item(),
        "nearer_than_held_out": (of_samples < of_held_out.quantile(0.01)).float().mean().item(),
    }
    columns = min(count, 16)
    rows = [part for pair in zip(samples.split(columns), nearest.split(columns)) for part in pair]
    return result, grid(torch.cat(rows), scale=2, columns=columns)


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
