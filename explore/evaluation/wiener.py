"""One denoising step on held-out images, compared with the best linear denoiser.

The linear denoiser is the Wiener filter in the DCT basis, fitted to training images: what second-order statistics alone can do.
Depends on data, denoiser, results, seeds.
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
from explore.seeds import keyed_noise, seed_range
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

    def error(self, alpha: float, sigma: float, x0: Tensor, eps: Tensor) -> float:
        """Mean squared error per pixel of the estimate of ``x0`` (B, 3, H, W) from alpha x0 + sigma eps."""
        clean, noise = _dct(x0.numpy()), _dct(eps.numpy())
        noisy = alpha * clean + sigma * noise - alpha * self.mean
        total = alpha**2 * self.covariance + sigma**2 * np.eye(3)
        gain = alpha * self.covariance @ np.linalg.inv(total)  # (H, W, 3, 3)
        estimate = self.mean + np.einsum("hwcd,ndhw->nchw", gain, noisy)
        return float(np.square(estimate - clean).mean())  # the DCT is orthonormal: the same error as in pixels


def _dct(images: np.ndarray) -> np.ndarray:
    from scipy.fft import dctn  # imported here: the trainer runs where there is no SciPy

    return dctn(images.astype(np.float64), axes=(-2, -1), norm="ortho")


@dataclass(frozen=True)
class DenoisingRow(Stored):
    """Mean squared error of x0_hat per pixel (images in [-1, 1]) at one t, of the model and of the Wiener filter.

    ``wins`` is the share of images on which the model is better.
    """

    t: float
    logsnr: float
    mse: float
    wiener: float
    wins: float


@dataclass(frozen=True)
class DenoisingResult(Stored):
    """Errors of one denoising step by t, with the number of held-out and of training images and the first seed."""

    data: str
    images: int
    train_images: int
    seed: int
    rows: tuple[DenoisingRow, ...]


@torch.no_grad()
def denoising(
    denoiser: Denoiser, data: str, count: int = 500, seed: int = 0, times: tuple[float, ...] = DENOISING_TIMES
) -> DenoisingResult:
    """Error of one denoising step on held-out images, and of the Wiener filter fitted to the training images.

    Args:
        denoiser: The model.
        data: Source of images; its ``train`` split fits the filter, its ``test`` split is denoised.
        count: Held-out images used, at most.
        seed: First seed of the noise; image i has seed + i at every t.
        times: Values of t.
    """
    count, times = whole_number("count", count, 1), tuple(real_numbers("each of times", times, 0, 1))
    train = images_for(denoiser, data, "train")
    x0 = to_float(images_for(denoiser, data, "test")[:count])
    eps = keyed_noise(seed_range(seed, len(x0)), denoiser.shape)
    wiener = WienerDenoiser(train)
    rows = []
    for t in times:
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = denoiser.schedule.alpha(time).item(), denoiser.schedule.sigma(time).item()
        xt = add_noise(x0, eps, t, denoiser.schedule)
        error = torch.cat(
            [(denoiser(part, t) - clean).square().mean((1, 2, 3)) for part, clean in zip(xt.split(64), x0.split(64))]
        )
        linear = [wiener.error(alpha, sigma, x0[i : i + 1], eps[i : i + 1]) for i in range(len(x0))]
        logsnr, wins = round(denoiser.schedule.logsnr(time).item(), 3), float((error.numpy() < np.array(linear)).mean())
        rows.append(DenoisingRow(t, logsnr, error.mean().item(), float(np.mean(linear)), wins))
    return DenoisingResult(Path(data).name, len(x0), len(train), seed, tuple(rows))
