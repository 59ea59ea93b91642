"""Exact statements about t under a stated prior; so far, how sharply a picture tells its t if images were Gaussian.

Formulas: Fisher information about t of ``xt = alpha(t) x0 + sigma(t) eps`` for x0 Gaussian with independent coordinates.
Depends on data (for pixel values) and schedules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explore.data import to_float
from explore.schedules import Schedule


@dataclass(frozen=True)
class DiagonalGaussian:
    """Images whose coordinates in the DCT basis (orthonormal, per colour) are independent Gaussians.

    Attributes:
        mean: float64 (D,).
        variance: float64 (D,), not negative.
    """

    mean: np.ndarray
    variance: np.ndarray

    @staticmethod
    def fit(images: Tensor) -> DiagonalGaussian:
        """Fits mean and variance to uint8 ``images`` (N, C, H, W), N at least 2.

        Raises:
            ValueError: For fewer images.
        """
        from scipy.fft import dctn  # here, not above: the trainer also runs where SciPy is not

        if len(images) < 2:
            raise ValueError(f"a Gaussian is fitted to at least 2 images, got {len(images)}")
        coefficients = dctn(to_float(images).numpy().astype(np.float64), axes=(-2, -1), norm="ortho").reshape(len(images), -1)
        return DiagonalGaussian(coefficients.mean(axis=0), coefficients.var(axis=0, ddof=1))

    def information(self, schedule: Schedule, t: float) -> float:
        """Fisher information about t at ``t`` in (0, 1), in 1 / t^2; its inverse root is the width of the posterior of t.

        ``sum_i [ ((2 a a' l_i + 2 b b') / s_i)^2 / 2 + a'^2 m_i^2 / s_i ]`` with ``s_i = a^2 l_i + b^2``. The width is
        that of the best unbiased reader of t under this prior, not a bound for photographs.
        """
        time = torch.tensor(t, dtype=torch.float64)
        a, b = schedule.alpha(time).item(), schedule.sigma(time).item()
        da, db = schedule.dalpha(time).item(), schedule.dsigma(time).item()
        total = a**2 * self.variance + b**2
        slope = 2 * a * da * self.variance + 2 * b * db
        return float((0.5 * (slope / total) ** 2 + da**2 * self.mean**2 / total).sum())
