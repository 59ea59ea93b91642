"""Intervals cover as often as they say, and go to JSON and back."""

import numpy as np
import pytest
import torch

from explore.statistics import (
    INTERVAL_IMAGES,
    Interval,
    bootstrap_mean,
    image_mean,
    image_ratio,
    note_few_images,
    of_draws,
    poisson_weights,
    student_mean,
)
from explore.values import Note


def test_bootstrap_mean_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [bootstrap_mean(rng.normal(1, 2, 60)) for _ in range(200)]
    assert 0.88 <= np.mean([one.low <= 1 <= one.high for one in found]) <= 0.99
    assert bootstrap_mean(np.full(5, 2.0)) == Interval(2.0, 2.0, 2.0, "images", 5)


def test_image_mean_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    weights = poisson_weights(range(60))
    found = [image_mean(torch.from_numpy(rng.normal(1, 2, 60)), weights) for _ in range(200)]
    assert 0.85 <= np.mean([one.low <= 1 <= one.high for one in found]) <= 0.99
    assert {one.n for one in found} == {60}


def test_poisson_weights_do_not_depend_on_the_batch():
    together = poisson_weights(range(6), 20)
    assert together.shape == (6, 21) and together[:, 0].tolist() == [1.0] * 6
    assert torch.equal(together[4:], poisson_weights((4, 5), 20))


def test_image_ratio_is_exact_for_proportional_values():
    below, weights = torch.rand(12, dtype=torch.float64), poisson_weights(range(12))
    found = image_ratio(3 * below, below, weights, less=1.0)
    assert [found.value, *found.ends] == pytest.approx([2.0] * 3)


def test_replicates_without_images_are_kept_or_skipped():
    draws = torch.tensor([1.0, 0.5, torch.nan, 1.5], dtype=torch.float64)
    assert of_draws(draws).low != of_draws(draws).low  # nan
    assert of_draws(draws, 2, skip_nan=True) == Interval(1.0, 0.525, pytest.approx(1.475), "images", 2)


def test_few_images_are_noted():
    with pytest.warns(Note, match="need at least 10 images, here are 2"):
        note_few_images(2)
    note_few_images(INTERVAL_IMAGES)


def test_student_mean_is_scipys_interval():
    from scipy import stats

    values = [0.2, 0.5, 0.1]
    found = student_mean(values)
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found.ends == pytest.approx(list(expected)) and (found.over, found.n) == ("training seeds", 3)
    assert student_mean([0.2]) == Interval(0.2, None, None, "training seeds", 1)


def test_interval_goes_to_json_and_back_and_prints_what_it_is_over():
    found = Interval(0.25, 0.125, 0.5, "samples", 64)
    assert Interval.from_json(found.to_json()) == found and found.to_json()["over"] == "samples"
    assert f"{found:.2f}" == "0.25 (0.12 to 0.50)" and f"{Interval(1.0, None, None):.1f}" == "1.0"
    assert str(found) == "0.25 (0.125 to 0.5, 95 % interval over 64 samples)"
    assert str(Interval(1.0, None, None, "training seeds", 1)) == "1 (1 training seeds)"
