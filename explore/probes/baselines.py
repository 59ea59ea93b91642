"""Baselines: features of the noisy image alone, without a network. To add one: one function and one line in ``BASELINES``.

A probe of a layer is informative only where it beats a probe of such features. Depends on activations, bayes, frequency and
schedules; scikit-image is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from explore import bayes
from explore.activations import level_times
from explore.frequency import RINGS, rings
from explore.schedules import Schedule


def variance_features(xt: Tensor, schedule: Schedule) -> Tensor:
    """Variance over all pixel values, standard deviation and log variance of images (B, C, H, W): (B, 3)."""
    variance = xt.flatten(1).var(1).clamp_min(1e-12)
    return torch.stack([variance, variance.sqrt(), variance.log()], 1)


def band_features(xt: Tensor, schedule: Schedule, bands: int = RINGS) -> Tensor:
    """Log mean power in ``bands`` bands of spatial frequency, and its squares, of images (B, C, H, W): (B, 2 bands)."""
    height, width = xt.shape[-2:]
    power = torch.fft.rfft2(xt.float(), norm="ortho").abs().square().mean(1).flatten(1)  # (B, F)
    weights = torch.nn.functional.one_hot(rings(height, width, bands).flatten(), bands).float()
    energy = (power @ weights / weights.sum(0).clamp_min(1)).clamp_min(1e-12).log()
    return torch.cat([energy, energy.square()], 1)


def wavelet_features(xt: Tensor, schedule: Schedule) -> Tensor:
    """Log SNR, sigma and log sigma implied by a wavelet estimate of the noise in images (B, C, H, W): (B, 3).

    The estimate is the median absolute deviation of the finest wavelet details. Source: Donoho and Johnstone (1994), in the
    implementation of scikit-image (``estimate_sigma``).
    """
    from skimage.restoration import estimate_sigma

    pictures = xt.permute(0, 2, 3, 1).double().numpy()
    sigma = torch.tensor([estimate_sigma(one, average_sigmas=True, channel_axis=-1) for one in pictures]).clamp(1e-4, 0.9999)
    logsnr = schedule.logsnr(schedule.t_from_sigma(sigma)).clamp(-12, 12)
    return torch.stack([logsnr, sigma, sigma.log()], 1)


def gaussian_features(gaussian: bayes.DiagonalGaussian, schedule: Schedule, levels: Sequence[float]) -> Callable[..., Tensor]:
    """A baseline: mean and standard deviation of log SNR under the exact posterior of t.

    Args:
        gaussian: The prior over clean images.
        schedule: The noise schedule.
        levels: Log SNR values of the uniform prior over noise levels.

    Returns:
        A function like those in ``BASELINES``, (B, C, H, W) -> (B, 2).
    """
    points = bayes.Levels.points(schedule, level_times(schedule, levels))
    logsnr = schedule.logsnr(points.t)

    def features(xt: Tensor, schedule: Schedule) -> Tensor:
        read = bayes.posterior(gaussian, xt, points)
        return torch.stack([read.mean(logsnr), read.std(logsnr)], 1)

    return features


# Name -> function of noisy images (B, C, H, W) and the schedule that gives features (B, D). A ridge probe is fitted to them.
BASELINES: dict[str, Callable[[Tensor, Schedule], Tensor]] = {
    "variance": variance_features,
    "band energies": band_features,
    "wavelet MAD": wavelet_features,
}
