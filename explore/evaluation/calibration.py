"""Distances of known sets of images: the scale for the distances of samples. Depends on data, features, results, seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from explore.data import load_images, to_float, to_uint8
from explore.evaluation.features import FEATURES, MIN_IMAGES, distances, extract
from explore.results import Stored
from explore.seeds import keyed_noise, seed_range
from explore.values import choose, whole_number


@dataclass(frozen=True)
class YardsticksRow(Stored):
    """Distances of one set of ``count`` images from the held-out images, as :func:`explore.evaluation.distances` has them."""

    images: str
    count: int
    fd: float
    kid: float
    kid_std: float
    precision: float
    recall: float


@dataclass(frozen=True)
class YardsticksResult(Stored):
    """Distances of known sets of images: a row for ``train``, the floor, and rows for damaged held-out images.

    Attributes:
        features: A key of ``FEATURES``.
        distance: Name of the Fréchet distance in these features.
        data: Source of the images.
        held_out: Number of held-out images.
        seed: Of the noise and of the choice of training images.
    """

    features: str
    distance: str
    data: str
    held_out: int
    seed: int
    rows: tuple[YardsticksRow, ...]


def yardsticks(
    data: str,
    resolution: int = 32,
    *,
    features: str = "cifar-resnet",
    count: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
) -> YardsticksResult:
    """Distances of known sets of images from the held-out images, with which distances of samples are compared.

    Args:
        data: Source of images with a ``train`` and a ``test`` split.
        resolution: The size of the images in pixels; they are resized to it.
        features: A key of ``FEATURES``.
        count: Training images, by default as many as held-out ones. A Fréchet distance falls with the number of samples,
            so the floor of an evaluation is the distance of as many training images as it has samples.
        seed: Seed of the noise and of the choice of training images.
        weights: File of Inception's standard weights; by default they are fetched.

    Returns:
        One row for ``train`` (``count`` training images: the floor), and rows for damaged held-out images: blurred with a
        box of 3x3 and 5x5, with Gaussian noise of standard deviation 0.1 and 0.2 (images in [-1, 1]), and with a quarter or
        half of each image replaced by that of another.

    Raises:
        ValueError: If ``count`` is out of range.
    """
    choose("features", features, FEATURES)
    held_out = load_images(data, resolution, "test", enlarge=False)
    train = load_images(data, resolution, "train", enlarge=False)
    count = len(held_out) if count is None else whole_number("count", count, 1)
    if not MIN_IMAGES <= count <= len(train):
        raise ValueError(f"count must be from {MIN_IMAGES} to the {len(train)} training images, got {count}")
    generator = torch.Generator().manual_seed(seed)
    noise = keyed_noise(seed_range(seed, len(held_out)), held_out.shape[1:])
    clean = to_float(held_out)
    half = resolution // 2

    def blurred(side: int) -> Tensor:
        padded = torch.nn.functional.pad(clean, (side // 2,) * 4, mode="replicate")
        return to_uint8(torch.nn.functional.avg_pool2d(padded, side, stride=1))

    def swapped(rows: int) -> Tensor:
        mixed = held_out.clone()
        mixed[:, :, :rows, :half] = held_out.roll(1, 0)[:, :, :rows, :half]
        return mixed

    sets = {
        "train": train[torch.randperm(len(train), generator=generator)[:count]],
        "blurred, 3x3 box": blurred(3),
        "blurred, 5x5 box": blurred(5),
        "noised, 0.1": to_uint8(clean + 0.1 * noise),
        "noised, 0.2": to_uint8(clean + 0.2 * noise),
        "a quarter swapped": swapped(half),
        "half swapped": swapped(resolution),
    }
    space = FEATURES[features].load(weights, torch.device("cpu"))
    reference = extract(held_out, space, "held-out")
    rows = tuple(
        YardsticksRow(name, len(images), **distances(extract(images, space, name), reference)) for name, images in sets.items()
    )
    return YardsticksResult(features, FEATURES[features].distance, Path(data).name, len(held_out), seed, rows)
