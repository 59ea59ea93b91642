"""Fisher information against what it means: the curvature of the divergence between neighbouring noise levels."""

import numpy as np
import pytest
import torch

from explore.bayes import DiagonalGaussian
from explore.data import to_uint8
from explore.schedules import SCHEDULES


def divergence(prior, schedule, one, other):
    """KL divergence between the distributions of xt at two times, closed form."""
    times = [torch.tensor(t, dtype=torch.float64) for t in (one, other)]
    (a, b), (c, d) = ((schedule.alpha(t).item(), schedule.sigma(t).item()) for t in times)
    first, second = a**2 * prior.variance + b**2, c**2 * prior.variance + d**2
    shift = ((a - c) * prior.mean) ** 2 / second
    return 0.5 * (first / second - 1 - np.log(first / second) + shift).sum()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("t", [0.0505, 0.3005, 0.7005, 0.9505])  # between the knots of the tables
def test_information_is_the_curvature_of_the_divergence(schedule, t):
    rng = np.random.default_rng(0)
    prior = DiagonalGaussian(rng.standard_normal(48), rng.exponential(0.3, 48))
    step = 1e-5
    both = divergence(prior, SCHEDULES[schedule], t, t + step) + divergence(prior, SCHEDULES[schedule], t, t - step)
    assert prior.information(SCHEDULES[schedule], t) == pytest.approx(both / step**2, rel=1e-3)


def test_one_known_point_at_zero_has_the_width_of_pure_noise():
    """On the linear path the width relative to t is 1 / sqrt(2 d)."""
    for dimension, width in ((192, 0.0510), (768, 0.0255)):
        prior = DiagonalGaussian(np.zeros(dimension), np.zeros(dimension))
        assert prior.information(SCHEDULES["flow"], 0.4) ** -0.5 / 0.4 == pytest.approx(width, rel=2e-3)


def test_fit_recovers_the_spectrum_and_needs_images():
    rng = np.random.default_rng(0)
    images = to_uint8(torch.from_numpy(0.2 * rng.standard_normal((4000, 3, 4, 4)) + 0.1).float())
    prior = DiagonalGaussian.fit(images)
    assert prior.variance == pytest.approx(np.full(48, 0.04), rel=0.15)
    assert prior.mean.reshape(3, 4, 4)[:, 0, 0] == pytest.approx(np.full(3, 0.4), rel=0.05)  # 0.1 times sqrt(16)
    with pytest.raises(ValueError, match="at least 2 images"):
        DiagonalGaussian.fit(images[:1])
