"""One denoising step on held-out images, compared with the best linear denoiser.

The linear denoiser is the Wiener filter in the DCT basis, fitted to training images: what second-order statistics alone can do.
Depends on data, denoiser, results, seeds, statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from explore.data import add_noise, images_for, to_float
from explore.denoiser import Denoiser
from explore.results import Stored
from explore.seeds import noise_draw
from explore.statistics import Interval, crossed_mean, crossed_ratio
from explore.values import real_numbers, whole_number

DENOISING_TIMES = (0.25, 0.5, 0.75)


class WienerDenoiser:
    """Best linear estimate of x0 from xt for images with uncorrelated DCT frequencies; color channels may be correlated.

    Args:
        images: uint8 (N, 3, H, W) to fit, N at least 16.

    Raises:
        ValueError: If there are too few images.
    """

    def __init__(self, images: Tensor) -> None:
        if len(images) < 16:
            raise ValueError(f"a Wiener filter needs at least 16 images, got {len(images)}")
        coefficients = _dct(to_float(images).numpy())  # (N, 3, H, W)
        self.mean = coefficients.mean(axis=0)  # (3, H, W)
        centered = coefficients - self.mean
        self.covariance = np.einsum("nchw,ndhw->hwcd", centered, centered) / (len(images) - 1)  # (H, W, 3, 3)

    def errors(self, alpha: float, sigma: float, x0: Tensor, eps: Tensor) -> np.ndarray:
        """Mean squared errors per pixel (B,) of the estimates of ``x0`` (B, 3, H, W) from alpha x0 + sigma eps."""
        clean, noise = _dct(x0.numpy()), _dct(eps.numpy())
        noisy = alpha * clean + sigma * noise - alpha * self.mean
        total = alpha**2 * self.covariance + sigma**2 * np.eye(3)
        gain = alpha * self.covariance @ np.linalg.inv(total)  # (H, W, 3, 3)
        estimate = self.mean + np.einsum("hwcd,ndhw->nchw", gain, noisy)
        return np.square(estimate - clean).mean((1, 2, 3))  # the DCT is orthonormal: the same error as in pixels


def _dct(images: np.ndarray) -> np.ndarray:
    from scipy.fft import dctn  # imported here: the trainer runs where there is no SciPy

    return dctn(images.astype(np.float64), axes=(-2, -1), norm="ortho")


@dataclass(frozen=True)
class DenoisingRow(Stored):
    """Mean squared error of x0_hat per pixel (images in [-1, 1]) at one t, of the model and of the Wiener filter.

    Attributes:
        t, logsnr: Noise level.
        mse, wiener: The errors.
        wins: Share of noisy images on which the model is better.
        error: ``mse`` with its interval.
        relative: ``mse`` over ``wiener``, minus 1. Both are None in older records.
    """

    t: float
    logsnr: float
    mse: float
    wiener: float
    wins: float
    error: Interval | None = None
    relative: Interval | None = None


@dataclass(frozen=True)
class DenoisingResult(Stored):
    """Errors of one denoising step by t, with the number of held-out and of training images and the first seed.

    ``noise_draws`` is the number of noises of each held-out image, 1 in older records.
    """

    data: str
    images: int
    train_images: int
    seed: int
    rows: tuple[DenoisingRow, ...]
    noise_draws: int = 1


@torch.no_grad()
def denoising(
    denoiser: Denoiser, data: str, count: int = 250, seed: int = 0, times: tuple[float, ...] = DENOISING_TIMES,
    noise_draws: int = 4,
) -> DenoisingResult:  # fmt: skip
    """Error of one denoising step on held-out images, and of the Wiener filter fitted to the training images.

    Args:
        denoiser: The model.
        data: Source of images; its ``train`` split fits the filter, its ``test`` split is denoised.
        count: Held-out images used, at most.
        seed: First seed of the noise, see :func:`explore.seeds.noise_draw`.
        times: Values of t.
        noise_draws: Noises of each image, the same ones at every t.
    """
    count, times = whole_number("count", count, 1), tuple(real_numbers("each of times", times, 0, 1))
    noise_draws = whole_number("noise_draws", noise_draws, 1)
    train = images_for(denoiser, data, "train")
    x0 = to_float(images_for(denoiser, data, "test")[:count])
    noises = [noise_draw(seed, draw, len(x0), denoiser.shape) for draw in range(noise_draws)]
    wiener = WienerDenoiser(train)
    rows = []
    for t in times:
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = denoiser.schedule.alpha(time).item(), denoiser.schedule.sigma(time).item()
        columns = []
        for eps in noises:
            parts = zip(add_noise(x0, eps, t, denoiser.schedule).split(64), x0.split(64))
            columns.append(torch.cat([(denoiser(part, t) - clean).square().mean((1, 2, 3)) for part, clean in parts]).double())
        error = torch.stack(columns, 1)
        linear = torch.from_numpy(np.stack([wiener.errors(alpha, sigma, x0, eps) for eps in noises], 1))
        logsnr, wins = round(denoiser.schedule.logsnr(time).item(), 3), (error < linear).double().mean().item()
        interval, relative = crossed_mean(error), crossed_ratio(error, linear, less=1.0)
        rows.append(DenoisingRow(t, logsnr, interval.value, linear.mean().item(), wins, interval, relative))
    return DenoisingResult(Path(data).name, len(x0), len(train), seed, tuple(rows), noise_draws)
