"""Intervals cover as often as they say, and go to JSON and back."""

import bisect

import numpy as np
import pytest
import torch

from explore.statistics import (
    INTERVAL_IMAGES,
    Interval,
    anytime_p,
    anytime_share,
    bootstrap_mean,
    crossed_mean,
    crossed_ratio,
    gap,
    image_mean,
    image_ratio,
    image_rms,
    note_few_images,
    of_draws,
    poisson_weights,
    rank_among,
    seeds_mean,
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


def test_image_rms_is_the_root_of_the_mean_square_and_covers_it():
    rng = np.random.default_rng(2)
    weights = poisson_weights(range(60))
    found = [image_rms(torch.from_numpy(rng.normal(0, 2, 60)).square(), weights) for _ in range(200)]
    assert 0.85 <= np.mean([one.low <= 2 <= one.high for one in found]) <= 0.99
    assert image_rms(torch.tensor([1.0, 7.0]), poisson_weights(range(2))).value == 2.0


def test_gap_of_intervals_is_the_distance_of_their_nearest_values():
    one, other = Interval(1.0, 0.5, 1.5), Interval(3.0, 2.25, 4.0)
    assert gap(one, other) == gap(other, one) == 0.75
    assert gap(one, Interval(9.0, 1.5, 9.0)) == 0.0  # they touch
    assert gap(one, Interval(9.0, None, None)) == gap(Interval(9.0, float("nan"), float("nan")), one) == 0.0


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


def heavy(rng, *shape):
    """Lognormal values, standardized: excess kurtosis 26, skewness 3.3."""
    return (np.exp(rng.normal(0, 0.75, shape)) - np.exp(0.75**2 / 2)) / np.sqrt((np.exp(0.75**2) - 1) * np.exp(0.75**2))


def covered(intervals, truth):
    return np.mean([one.low <= truth <= one.high for one in intervals])


# Standard deviations of the effects of images and of noise draws; that of the rest is 1.
@pytest.mark.parametrize(("image", "draw"), [(0.3, 0.0), (0.3, 0.03), (0.3, 0.1), (0.3, 0.3), (1.0, 0.0), (1.0, 0.1)])
def test_crossed_mean_covers_as_often_as_it_says(image, draw):
    rng = np.random.default_rng(0)
    values = 5 + image * heavy(rng, 1500, 250, 1) + draw * rng.standard_t(5, (1500, 1, 4)) + heavy(rng, 1500, 250, 4)
    assert 0.93 <= covered([crossed_mean(torch.from_numpy(part)) for part in values], 5) <= 0.97
    if draw == 0.3:  # images alone cannot show it
        single = [crossed_mean(torch.from_numpy(part[:, :1])) for part in values]
        assert covered(single, 5) < 0.5 and {one.over for one in single} == {"images, one noise draw each"}


def test_crossed_ratio_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    below = np.exp(0.5 * heavy(rng, 1500, 250, 1).clip(-2, 2)) * np.exp(rng.normal(0, 0.3, (1500, 250, 4)))
    above = below * (1.02 + 0.05 * heavy(rng, 1500, 250, 4) + 0.01 * rng.standard_normal((1500, 1, 4)))
    found = [crossed_ratio(torch.from_numpy(a), torch.from_numpy(b), less=1.0) for a, b in zip(above, below)]
    assert 0.93 <= covered(found, 0.02) <= 0.97


def test_crossed_mean_has_the_variance_of_its_components():
    from scipy.stats import t

    images, draws = torch.tensor([1.0, 2.0, 6.0, 7.0]), torch.tensor([0.0, 3.0, 0.0])
    found = crossed_mean(images[:, None] + draws)  # no rest: the variances of the two means add
    parts = [images.var().item() / 4, draws.var().item() / 3]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    half = t.ppf(0.975, freedom) * sum(parts) ** 0.5
    assert [found.value, *found.ends] == pytest.approx([5, 5 - half, 5 + half], rel=1e-6)
    assert found.over == "images and noise draws"
    # Without an effect of the draw, or with one draw, it is Student's interval over the means of the images.
    for values in (images[:, None] + torch.tensor([[-1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]]), images[:, None]):
        assert crossed_mean(values).ends == pytest.approx(student_mean(images.tolist()).ends, rel=1e-6)
    assert crossed_mean(torch.ones(1, 3)).ends == [None, None] and crossed_mean(torch.ones(3, 2)).ends == [1.0, 1.0]


def test_crossed_ratio_is_exact_for_proportional_values_and_has_no_unit():
    below, noise = torch.rand(2, 12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = crossed_ratio(1.25 * below, below, less=1.0)
    assert [exact.value, *exact.ends] == pytest.approx([0.25] * 3)
    found, scaled = crossed_ratio(noise, below), crossed_ratio(3 * noise, 6 * below)
    assert [scaled.value, *scaled.ends] == pytest.approx([found.value / 2, *(end / 2 for end in found.ends)])
    flat = crossed_ratio(noise, torch.full_like(noise, 2.0))
    assert flat.ends == pytest.approx([end / 2 for end in crossed_mean(noise).ends])


def test_seeds_mean_adds_what_all_seeds_share():
    ends = student_mean([1.0, 2.0, 3.0]).high - 2
    found = seeds_mean([Interval(1.0, 0.0, 2.0), Interval(2.0, -5.0, 9.0), Interval(3.0, None, None)])
    assert found.ends == pytest.approx([2 - (ends**2 + 25) ** 0.5, 2 + (ends**2 + 25) ** 0.5])  # (1^2 + 7^2) / 2 = 25
    assert (found.over, found.n) == ("training seeds, images and noise", 3)
    assert seeds_mean([Interval(1.0, 0.0, 2.0)]) == Interval(1.0, None, None, "training seeds", 1)
    plain = [Interval(value, None, None) for value in (1.0, 2.0, 3.0)]
    assert seeds_mean(plain) == student_mean([1.0, 2.0, 3.0])


def test_seeds_mean_covers_and_the_spread_of_seeds_alone_does_not():
    rng = np.random.default_rng(2)
    both, alone = [], []
    for _ in range(400):
        shared = heavy(rng, 100, 2)  # the same images and noise for all seeds
        seeds = [shared + 0.05 * rng.standard_normal() + 0.2 * heavy(rng, 100, 2) for _ in range(3)]
        estimates = [crossed_mean(torch.from_numpy(part)) for part in seeds]
        both.append(seeds_mean(estimates))
        alone.append(student_mean([one.value for one in estimates]))
    assert covered(both, 0) >= 0.95 and covered(alone, 0) < 0.9


def test_interval_goes_to_json_and_back_and_prints_what_it_is_over():
    found = Interval(0.25, 0.125, 0.5, "samples", 64)
    assert Interval.from_json(found.to_json()) == found and found.to_json()["over"] == "samples"
    assert f"{found:.2f}" == "0.25 (0.12 to 0.50)" and f"{Interval(1.0, None, None):.1f}" == "1.0"
    assert str(found) == "0.25 (0.125 to 0.5, 95 % interval over 64 samples)"
    assert str(Interval(1.0, None, None, "training seeds", 1)) == "1 (1 training seeds)"


def told(share: float, players: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether the interval was above, and whether it was below, one half at each round: bool (players, rounds) each.

    Players are right with probability ``share`` and look after every round.
    """
    counts = range(1, rounds + 1)
    above = [bisect.bisect_left(range(n + 1), True, key=lambda k: anytime_share(k, n).low > 0.5) for n in counts]
    below = [bisect.bisect_left(range(n + 1), True, key=lambda k: anytime_share(k, n).high >= 0.5) for n in counts]
    right = (np.random.default_rng(3).random((players, rounds)) < share).cumsum(1)
    return right >= above, right < below


def test_anytime_share_calls_a_guesser_different_at_any_time_by_its_level_at_most():
    better, worse = told(0.5, 20_000, 200)
    # .0154 on each side, exactly, by following the distribution of the count of those who were not told yet.
    assert better.any(1).mean() == pytest.approx(0.0154, abs=0.003) and worse.any(1).mean() == pytest.approx(0.0154, abs=0.003)
    assert (better | worse).any(1).mean() <= 0.05


def test_anytime_share_finds_a_player_who_is_right_four_times_in_five():
    better, worse = told(0.8, 5_000, 60)
    assert better.any(1).mean() > 0.975 and worse.any(1).mean() < 0.01


@pytest.mark.parametrize("share", [0.1, 0.65])
def test_anytime_share_covers_the_true_share_after_all_trials_at_once(share):
    hits = (np.random.default_rng(4).random((2_000, 60)) < share).cumsum(1)
    covers = np.array([[share > low and share < high for low, high in (anytime_share(k, n).ends for k in range(n + 1))]
                       + [False] * (60 - n) for n in range(1, 61)])  # fmt: skip
    assert covers[np.arange(60), hits].all(1).mean() >= 0.95


def test_anytime_share_is_in_closed_form_when_all_trials_are_hits():
    for n in (1, 4, 8, 100):
        found = anytime_share(n, n)
        assert found.ends == pytest.approx([(0.05 / (n + 1)) ** (1 / n), 1.0]) and found.value == 1
    assert anytime_share(4, 4).low < 0.5 < anytime_share(8, 8).low
    assert str(anytime_share(4, 4, "answers")).endswith("interval over 4 answers, valid at any time)")


def test_rank_counts_the_controls_at_least_as_large():
    found = rank_among(3.0, [1.0, 2.0, 3.0, 4.0])
    assert (found.value, found.n, found.median) == (3.0, 4, 2.5) and found.p == pytest.approx(3 / 5)
    assert found.quantile == pytest.approx(np.quantile([1, 2, 3, 4], 0.95))
    assert rank_among(5.0, range(1, 5)).p == pytest.approx(1 / 5) and rank_among(0.0, range(1, 5)).p == 1.0


@pytest.mark.parametrize("n, above, expected", [(19, 0, True), (19, 1, False), (18, 0, None), (100, 4, True), (100, 5, False)])
def test_a_rank_is_significant_only_where_there_are_enough_controls(n, above, expected):
    found = rank_among(0.5, [1.0] * above + [0.0] * (n - above))
    assert found.significant(1 - 0.95) is expected
    assert not expected or found.value > found.quantile  # the quantile is exceeded too


@pytest.mark.parametrize("n", [1, 2, 7, 30, 400])
def test_anytime_share_contains_the_share_is_symmetric_and_wider_than_for_a_fixed_n(n):
    from scipy.stats import binomtest

    for k in range(0, n + 1, max(1, n // 20)):
        found, mirrored = anytime_share(k, n), anytime_share(n - k, n)
        assert 0 <= found.low <= k / n <= found.high <= 1 and found.value == k / n and found.n == n
        assert found.ends == pytest.approx([1 - mirrored.high, 1 - mirrored.low], abs=1e-12)
        exact = binomtest(k, n).proportion_ci(0.95, method="exact")
        assert found.low <= exact.low and found.high >= exact.high


def test_anytime_p_is_exact_and_agrees_with_the_interval():
    from scipy.special import betaln

    assert [anytime_p(4, 4), anytime_p(8, 8), anytime_p(2, 4)] == pytest.approx([5 / 16, 9 / 256, 1.0])
    mixture = np.exp(betaln(1 + 15, 1 + 5) - betaln(1, 1))  # of the likelihood, over the uniform prior
    assert anytime_p(15, 20, 0.4) == pytest.approx(0.4**15 * 0.6**5 / mixture)
    for n in (1, 8, 9, 33):
        for k in range(n + 1):
            low, high = anytime_share(k, n).ends
            assert (anytime_p(k, n) > 0.05) == (low < 0.5 < high)
            for end in {low, high} - {0.0, 1.0}:
                assert anytime_p(k, n, end) == pytest.approx(0.05)


@pytest.mark.parametrize("hits, n", [(0, 0), (3, 2), (-1, 2), (1.5, 2)])
def test_anytime_share_refuses_counts_that_cannot_be(hits, n):
    with pytest.raises(ValueError, match=r"must|whole"):
        anytime_share(hits, n)
