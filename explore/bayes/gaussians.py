"""Gaussian priors with diagonal covariance (fitted, shipped, or with a 1/f^2 spectrum) and Fisher information about t.

Depends on data, files, priors, schedules, values, zoo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explore import files, zoo
from explore.bayes.priors import Prior, dct_matrix
from explore.data import to_float
from explore.schedules import Schedule
from explore.values import choose, image_shape, plain_number, whole_number

GAUSSIANS = "gaussian"  # folder of the shipped fits, next to the models


def _path(schedule: Schedule, t: float) -> list[float]:
    """alpha, sigma and their derivatives at ``t``."""
    time = torch.tensor(t, dtype=torch.float64)
    return [f(time).item() for f in (schedule.alpha, schedule.sigma, schedule.dalpha, schedule.dsigma)]


def information_given_x0(schedule: Schedule, t: float, dimension: int, energy: float) -> float:
    """Fisher information about t given x0, ``2 d (b'/b)^2 + a'^2 |x0|^2 / b^2``, in 1 / t^2.

    Its inverse root is the Cramer-Rao bound given x0: no unbiased estimate of t from xt alone has a smaller standard deviation.

    Args:
        schedule: The noise path.
        t: In (0, 1).
        dimension: Values d of one image.
        energy: |x0|^2, or its mean over images.
    """
    _, b, da, db = _path(schedule, t)
    return 2 * dimension * (db / b) ** 2 + da**2 * energy / b**2


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(Prior):
    """Images with independent Gaussian coordinates, in the DCT basis (orthonormal, per channel) or the plain one.

    Attributes:
        mean: float64 (D,).
        variance: float64 (D,), not negative.
        basis: ``dct`` or ``plain``.
        prior: A description of the assumption.

    Raises:
        ValueError: For arrays of different shapes, or a negative variance.
    """

    mean: np.ndarray
    variance: np.ndarray
    basis: str = "dct"
    prior: str = "a diagonal Gaussian"

    def __post_init__(self) -> None:
        choose("basis", self.basis, ("dct", "plain"))
        mean, variance = np.asarray(self.mean, np.float64), np.asarray(self.variance, np.float64)
        if mean.ndim != 1 or mean.shape != variance.shape or not (variance >= 0).all():
            raise ValueError(f"a Gaussian needs mean (D,) and variance (D,) >= 0, got shapes {mean.shape} and {variance.shape}")
        energy = float((mean**2 + variance).sum())
        vars(self).update(mean=mean, variance=variance, dimension=len(mean), energy=energy)

    @staticmethod
    def fit(images: Tensor) -> DiagonalGaussian:
        """Fits mean and variance in the DCT basis to uint8 ``images`` (N, C, H, W), N at least 2.

        Raises:
            ValueError: For fewer images.
        """
        if len(images) < 2:
            raise ValueError(f"a Gaussian is fitted to at least 2 images, got {len(images)}")
        rows, columns = dct_matrix(images.shape[-2]), dct_matrix(images.shape[-1])
        z = torch.cat([rows @ to_float(part).double() @ columns.T for part in images.split(4096)])
        words = f"a diagonal Gaussian in the DCT basis, fitted to {len(images)} images"
        return DiagonalGaussian(z.flatten(1).mean(0).numpy(), z.flatten(1).var(0).numpy(), prior=words)

    def information(self, schedule: Schedule, t: float) -> float:
        """Fisher information about t at ``t`` in (0, 1), in 1 / t^2; its inverse root is the Cramer-Rao bound on the std of t.

        ``sum_i [ ((2 a a' l_i + 2 b b') / s_i)^2 / 2 + a'^2 m_i^2 / s_i ]`` with ``s_i = a^2 l_i + b^2``. The bound holds
        under this prior, not for photographs.
        """
        a, b, da, db = _path(schedule, t)
        total = a**2 * self.variance + b**2
        slope = 2 * a * da * self.variance + 2 * b * db
        return float((0.5 * (slope / total) ** 2 + da**2 * self.mean**2 / total).sum())

    def save(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes safetensors with basis and description as JSON; float16 keeps means and deviations to a thousandth."""
        # Deviations, not variances: those of fine detail would fall below what float16 holds.
        tensors = {"mean": torch.from_numpy(self.mean), "std": torch.from_numpy(self.variance).sqrt()}
        stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        files.save_state(path, stored, kind="diagonal gaussian", basis=self.basis, prior=self.prior)

    @staticmethod
    def load(path: Path) -> DiagonalGaussian:
        """Reads a file of :meth:`save`.

        Raises:
            ValueError: If the file is something else.
        """
        tensors, about = files.load_state(path)
        if about.get("kind") != "diagonal gaussian" or set(tensors) != {"mean", "std"}:
            raise ValueError(f"{path} does not hold a diagonal Gaussian")
        mean, std = (tensors[name].double().numpy() for name in ("mean", "std"))
        return DiagonalGaussian(mean, std**2, about["basis"], about["prior"])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, self.dimension, dtype=torch.float64, generator=generator)
        return torch.from_numpy(self.mean) + torch.from_numpy(self.variance).sqrt() * noise

    def shared(self, z: Tensor, alpha: Tensor) -> Any:
        return z.square()

    def log_components(self, z: Tensor, shared: Any, alpha: Tensor, sigma: Tensor) -> Tensor:
        mean, precision = torch.from_numpy(self.mean), self._precision(alpha, sigma)  # (D,), (T, D)
        distance = shared @ precision.T  # (B, T), (z - a m)^2 / s
        if mean.any():
            distance = distance - 2 * alpha * (z @ (mean * precision).T) + alpha**2 * (precision @ mean.square())
        return -0.5 * (distance - precision.log().sum(1))[:, :, None]

    def combine(self, z: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, c: Tensor, d: Tensor) -> Tensor:
        mean, variance, precision = torch.from_numpy(self.mean), torch.from_numpy(self.variance), self._precision(alpha, sigma)
        # E[x0] = (a l z + b^2 m) / s and E[eps] = b (z - a m) / s are linear in z, so matrix products serve all levels.
        a, b, p = alpha, sigma, weights[:, :, 0]  # (T,), (T,), (B, T)
        total = ((p * (c * a)) @ precision * variance + (p * (d * b)) @ precision) * z
        return total + (p * (b * (c * b - d * a))) @ precision * mean if mean.any() else total

    def _precision(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1 / s, (T, D)."""
        return 1 / (alpha.square()[:, None] * torch.from_numpy(self.variance) + sigma.square()[:, None])


def spectral_gaussian(resolution: int = 32, variance: float = 0.25, basis: str = "plain") -> DiagonalGaussian:
    """Gaussian images (3, resolution, resolution) with the 1/f^2 spectrum of photographs.

    Args:
        resolution: Height and width, at least 1.
        variance: Mean variance of a value, above 0.
        basis: ``dct``, or ``plain`` for coordinates in the eigenbasis of the covariance.

    Raises:
        ValueError: For an unknown basis or numbers out of range.
    """
    choose("basis", basis, ("dct", "plain"))
    if resolution < 1 or variance <= 0:
        raise ValueError(f"resolution must be at least 1 and the variance above 0, got {resolution} and {variance}")
    place = np.arange(resolution)
    # The k-th function of the DCT has k / 2 cycles an image.
    frequency = place / 2 if basis == "dct" else np.fft.fftfreq(resolution) * resolution
    radial = np.maximum(np.hypot(frequency[:, None], frequency), 0.7)
    spectrum = np.tile((radial**-2).ravel(), 3)
    spectrum *= variance / spectrum.mean()
    words = f"Gaussian images with a 1/f^2 spectrum of mean variance {variance} ({basis} basis)"
    return DiagonalGaussian(np.zeros_like(spectrum), spectrum, basis, words)


def fitted_names() -> list[str]:
    """Names of the shipped fits, such as ``celeba-32``."""
    return sorted(path.stem for path in zoo.companion(GAUSSIANS).glob("*.safetensors"))


def fitted_gaussian(dataset: str, resolution: int | Sequence[int]) -> DiagonalGaussian:
    """The shipped fit to the training images of a data set at a resolution.

    Args:
        dataset: Such as ``celeba``.
        resolution: Height and width in pixels, or the shape (C, H, W) of a model's images.

    Raises:
        ValueError: If none is shipped for it. All are of square color images.
    """
    if plain_number(resolution) is None:
        channels, height, width = image_shape(resolution)
        if channels != 3 or height != width:
            raise ValueError(f"the fitted Gaussians are of 3 x N x N images, the model's are {channels} x {height} x {width}")
        resolution = height
    resolution = whole_number("resolution", resolution, 1)
    name = choose("fitted Gaussian", f"{dataset}-{resolution}", fitted_names())
    return DiagonalGaussian.load(zoo.companion(GAUSSIANS) / f"{name}.safetensors")


def relative_frechet(prior: DiagonalGaussian, samples: Tensor) -> float:
    """Relative Fréchet distance of ``samples`` (N, C, H, W) to ``prior``: ``sum_i (std_i - sqrt(l_i))^2 / sum_i l_i``.

    Perfect samples have about 1 / (2 N); infinite for samples that are not finite.
    """
    std = prior.coordinates(samples).std(0).numpy()
    found = float(((std - np.sqrt(prior.variance)) ** 2).sum() / prior.variance.sum())
    return found if math.isfinite(found) else math.inf


def relative_mahalanobis(prior: DiagonalGaussian, images: Tensor) -> Tensor:
    """Squared Mahalanobis distance of clean images (B, C, H, W) from ``prior``, over its expectation D, (B,).

    Samples of the prior have 1 ± sqrt(2 / D). Far from 1, results under the prior do not apply to the image. Coordinates
    without variance are left out.
    """
    z, variance = prior.coordinates(images), torch.from_numpy(prior.variance)
    alive = variance > 0
    return ((z - torch.from_numpy(prior.mean)).square()[:, alive] / variance[alive]).mean(1)
