"""Both members of a pair on the same held-out images: structural fidelity, and loss by t.

Depends on bayes, data, denoiser, learning, progress, results, samplers, seeds, statistics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from explore.bayes import DiagonalGaussian
from explore.data import add_noise, images_for, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.evaluation.learning import errors_by_draw
from explore.progress import Watch, quiet
from explore.results import Stored
from explore.samplers import SAMPLERS, Sampling
from explore.seeds import keyed_noise, seed_range
from explore.statistics import Interval, bootstrap_mean, crossed_mean, crossed_ratio
from explore.values import whole_number

FIDELITY_TIMES = (0.1, 0.25, 0.5, 0.75, 0.9)
LOSS_LEVELS = 20


@dataclass(frozen=True)
class Compared(Stored):
    """Means of a quantity over the same images for both models of a pair.

    Attributes:
        conditioned, time_agnostic: The means.
        difference: Time-agnostic minus conditioned, with an interval over the images with their noise, or also over several
            noise draws.
    """

    conditioned: float
    time_agnostic: float
    difference: Interval

    @classmethod
    def of(cls, values: Sequence[np.ndarray]) -> Self:
        """From the values (N,) of the conditioned and of the time-agnostic model."""
        first, second = values
        return cls(float(first.mean()), float(second.mean()), bootstrap_mean(second - first))


@dataclass(frozen=True)
class FidelityRow(Stored):
    """SSIM and PSNR (dB) at one t, ``way`` is ``one step`` or ``sampled back``."""

    t: float
    way: str
    ssim: Compared
    psnr: Compared


@dataclass(frozen=True)
class LossRow(Stored):
    """Loss at one t.

    Attributes:
        split: ``train`` or ``test``.
        t: Noise level.
        loss: Mean squared error of the networks' output.
        width: Cramer-Rao bound on the standard deviation of t.
        relative: The difference over the loss of the conditioned model, with its own interval; None in older records.
    """

    split: str
    t: float
    loss: Compared
    width: float
    relative: Interval | None = None


@dataclass(frozen=True)
class FidelityResult(Stored):
    """Structural fidelity of both models of a pair by t and way, on ``images`` held-out images, with the sampler's settings."""

    data: str
    images: int
    seed: int
    rows: tuple[FidelityRow, ...]
    sampler: str
    steps: int
    eta: float | None = None
    clamp: bool | None = None
    start: float | None = None
    step_size: float | None = None


@dataclass(frozen=True)
class LossesResult(Stored):
    """Loss of both models of a pair by split and t.

    Attributes:
        prediction: What the networks predict.
        images: Number of images of each split.
        seed: First seed of the noise.
        prior: Of the images, for the posterior of t, in words.
        noise_draws: Noises of each image; 1 in older records.
    """

    data: str
    prediction: str
    images: dict[str, int]
    seed: int
    prior: str
    rows: tuple[LossRow, ...]
    noise_draws: int = 1


@torch.no_grad()
def fidelity(
    denoisers: Sequence[Denoiser],
    data: str,
    count: int = 200,
    seed: int = 0,
    times: Sequence[float] = FIDELITY_TIMES,
    watch: Watch = quiet,
    **settings: Any,
) -> FidelityResult:
    """Structural fidelity: held-out images noised to t, then denoised in one step or sampled back.

    Args:
        denoisers: The conditioned and the time-agnostic model of a pair. Both get the same noisy images.
        data: Source of images; its ``test`` split is used.
        count: Images, at most.
        seed: First seed of the noise; image i has seed + i at every t and in the sampler.
        times: Values of t.
        watch: Shows progress, see :mod:`explore.progress`.
        **settings: The sampler, its steps and options; by default those that suit the model.

    Returns:
        Rows by t and way: mean SSIM and PSNR in dB of each model against the original.
    """
    schedule = denoisers[0].schedule
    count = whole_number("count", count, 1)
    x0 = images_for(denoisers[0], data, "test", enlarge=False)[:count]
    seeds = seed_range(seed, len(x0))
    eps = keyed_noise(seeds, denoisers[0].shape)
    options = settings or Sampling.for_model(denoisers[0]).arguments
    arguments = {key: value for key, value in options.items() if key not in ("sampler", "start")}
    rows = []
    for t in watch(times, unit="t"):
        xt = add_noise(to_float(x0), eps, t, schedule)
        sigma = schedule.sigma(torch.tensor(t, dtype=torch.float64)).item()
        ways: dict[str, list[Tensor]] = {"one step": [], "sampled back": []}
        for denoiser in denoisers:
            ways["one step"].append(torch.cat([denoiser(part, t) for part in xt.split(64)]))
            back = []
            for part, chunk in zip(xt.split(64), [seeds[i : i + 64] for i in range(0, len(seeds), 64)]):
                # A sampler starts at sigma(start) times unit noise: xt / sigma(t) makes it start at xt.
                steps = SAMPLERS[options["sampler"]](denoiser, part / sigma, seeds=chunk, start=t, **arguments)
                back.append(deque(steps, maxlen=1)[0].xt)
            ways["sampled back"].append(torch.cat(back))
        for way, results in ways.items():
            ssim, psnr = zip(*(_structure(x0, to_uint8(images)) for images in results))
            rows.append(FidelityRow(t, way, Compared.of(ssim), Compared.of(psnr)))
    return FidelityResult(Path(data).name, len(x0), seed, tuple(rows), **options)


def _structure(originals: Tensor, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and PSNR (in dB, at most 60) of each of uint8 (N, 3, H, W) against its original."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    pairs = list(zip(originals.permute(0, 2, 3, 1).numpy(), images.permute(0, 2, 3, 1).numpy()))
    ssim = [structural_similarity(one, other, channel_axis=2, data_range=255) for one, other in pairs]
    # PSNR of equal images is infinite.
    psnr = [60.0 if (a == b).all() else min(60.0, peak_signal_noise_ratio(a, b, data_range=255)) for a, b in pairs]
    return np.array(ssim), np.array(psnr)


@torch.no_grad()
def losses(
    denoisers: Sequence[Denoiser],
    data: str,
    count: int = 250,
    seed: int = 0,
    levels: int = LOSS_LEVELS,
    noise_draws: int = 4,
    watch: Watch = quiet,
) -> LossesResult:
    """Loss of both models by t on training and held-out images with the same noise, and the width of the posterior of t.

    Args:
        denoisers: The conditioned and the time-agnostic model of a pair.
        data: Source of images with the splits ``train`` and ``test``.
        count: Images of each split, at most; the first ones.
        seed: First seed of the noise, see :func:`explore.seeds.noise_draw`.
        levels: Number of values of t, evenly spaced midpoints of (0, 1).
        noise_draws: Noises of each image, the same ones at every t and for both models. No two images share a noise: one noise
            for all images shifts their losses together. For celeba32-unet-velocity at t = .75 a draw of one noise for 100
            images moves the relative difference by 1.6 points (standard deviation), a draw of one each for 500 by 0.2.
        watch: Shows progress, see :mod:`explore.progress`.

    Returns:
        Rows by split and t: mean squared error of each network's output with the difference, absolute and relative, and the
        Cramer-Rao bound for images that are Gaussian in the DCT basis (fitted to the training images). The relative
        difference is also that of the squared error of x0_hat, whose error is a factor of t times that of the output.
    """
    first = denoisers[0]
    count, levels = whole_number("count", count, 1), whole_number("levels", levels, 1)
    noise_draws = whole_number("noise_draws", noise_draws, 1)
    images = {split: images_for(first, data, split, enlarge=False) for split in ("train", "test")}
    prior = DiagonalGaussian.fit(images["train"])
    rows = []
    for split, x0 in images.items():
        clean = to_float(x0[:count])
        for level in watch(range(levels), desc=split, unit="t"):
            t = (level + 0.5) / levels
            told, untold = (errors_by_draw(denoiser, clean, t, noise_draws, seed) for denoiser in denoisers)
            loss = Compared(told.mean().item(), untold.mean().item(), crossed_mean(untold - told))
            width = prior.information(first.schedule, t) ** -0.5
            rows.append(LossRow(split, t, loss, width, crossed_ratio(untold, told, less=1.0)))
    return LossesResult(
        Path(data).name, first.prediction, {split: min(count, len(x0)) for split, x0 in images.items()}, seed,
        f"diagonal Gaussian in the DCT basis, fitted to {len(images['train'])} training images", tuple(rows), noise_draws,
    )  # fmt: skip
