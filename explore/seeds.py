"""Seeds and the noise that they key: one seed per image, the same noise for every batch size, device and model.

Depends on values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explore.values import whole_number, whole_numbers

MAX_SEED = 2**32 - 1
DRAW_SEEDS = 100_000  # between the seeds of one noise draw and those of the next


def check_seeds(seeds: Any) -> list[int]:
    """``seeds`` (a list, a range, an array or a tensor of whole numbers) as a list of Python integers.

    Raises:
        ValueError: If one is not a whole number from 0 to 2^32 - 1.
    """
    return whole_numbers("seed", seeds, 0, MAX_SEED)


def seed_range(seed: int, count: int) -> list[int]:
    """``count`` consecutive seeds from ``seed``; past 2^32 - 1 they continue at 0."""
    [first] = check_seeds([seed])
    return [(first + offset) % (MAX_SEED + 1) for offset in range(whole_number("count", count, 0))]


def keyed_noise(seeds: Sequence[int], shape: Sequence[int], step: int = 0) -> Tensor:
    """Unit Gaussian noise, one seed an image, the same for every batch size, device and model.

    Args:
        seeds: N seeds, 0 to 2^32 - 1.
        shape: Shape of one image, such as (3, 32, 32).
        step: 0 is the starting noise; k > 0 is the noise of the k-th stochastic step.

    Returns:
        (N, *shape), float32, on the CPU.

    Raises:
        ValueError: For a seed outside the range.
    """
    step = whole_number("step", step, 0)
    draws = [
        np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step]))).standard_normal(shape, np.float32)
        for seed in check_seeds(seeds)
    ]
    return torch.from_numpy(np.stack(draws)) if draws else torch.empty(0, *shape)


def noise_draw(seed: int, draw: int, count: int, shape: Sequence[int]) -> Tensor:
    """Noise of one draw for ``count`` images: image i has seed + i + 100,000 ``draw``, so its own noise in every draw."""
    [first] = check_seeds([seed])
    return keyed_noise(seed_range((first + draw * DRAW_SEEDS) % (MAX_SEED + 1), count), shape)
