"""One denoising step on held-out images, compared with the best linear denoiser.

The linear denoiser is the Wiener filter in the DCT basis, fitted to training images: what second-order statistics alone can do.
Depends on data, denoiser, seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explore.data import add_noise, images_for, to_float
from explore.denoiser import Denoiser
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


@torch.no_grad()
def denoising(
    denoiser: Denoiser, data: str, count: int = 500, seed: int = 0, times: tuple[float, ...] = DENOISING_TIMES
) -> dict[str, Any]:
    """Error of one denoising step on held-out images, and of the Wiener filter fitted to the training images.

    Args:
        denoiser: The model.
        data: Source of images; its ``train`` split fits the filter, its ``test`` split is denoised.
        count: Held-out images used, at most.
        seed: First seed of the noise; image i has seed + i at every t.
        times: Values of t.

    Returns:
        ``data, images, train_images, seed`` and per t ``t, logsnr, mse, wiener`` (mean squared error of x0_hat per
        pixel, images in [-1, 1]) and ``wins``, the share of images on which the model is better.
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
        rows.append(
            {
                "t": t,
                "logsnr": round(denoiser.schedule.logsnr(time).item(), 3),
                "mse": error.mean().item(),
                "wiener": float(np.mean(linear)),
                "wins": float((error.numpy() < np.array(linear)).mean()),
            }
        )
    return {"data": Path(data).name, "images": len(x0), "train_images": len(train), "seed": seed, "rows": rows}
