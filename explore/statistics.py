"""Estimates with 95 % intervals, each of which says what it is over.

Five methods: a Poisson bootstrap over images, whose sums can be accumulated batch by batch (Efron 1979, with Poisson weights
instead of multinomial ones); variance components of images crossed with noise draws; the percentile bootstrap of a mean;
Student's t over a few training seeds; and a confidence sequence for a probability, which stays valid if it is looked at after
every trial. The rank of a value among random controls gives a p-value without an interval. Depends on results and values.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from explore.results import Stored
from explore.values import Note, whole_number

DRAWS = 200  # bootstrap replicates
INTERVAL_IMAGES = 10  # with fewer, one of 200 replicates probably has no image, and intervals are too narrow


@dataclass(frozen=True)
class Interval(Stored):
    """An estimate with the ends of its 95 % interval.

    Attributes:
        value: The estimate.
        low, high: The ends; None if there is too little data for an interval.
        over: What was sampled: ``images``, ``training seeds``, ``samples``, ``images and noise draws``, ``images, one noise
            draw each``, ``training seeds, images and noise`` (:func:`seeds_mean`), ``images with their noise, with refits of
            the probe`` (:func:`of_refits`) or ``trials, valid at any time``.
        n: How many of them, if known.
    """

    value: float
    low: float | None
    high: float | None
    over: str = "images"
    n: int | None = None

    @property
    def ends(self) -> list[float | None]:
        """Low and high."""
        return [self.low, self.high]

    def __format__(self, form: str) -> str:
        """``0.20 (0.10 to 0.30)``, each number in the format ``form``; the value alone if there are no ends."""
        if self.low is None or self.high is None:
            return format(self.value, form)
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"

    def __str__(self) -> str:
        """As formatted, with what the interval is over: ``0.2 (0.1 to 0.3, 95 % interval over 64 images)``."""
        over = f"{self.n or ''} {self.over}".strip()
        if self.low is None:
            return f"{self.value:.3g} ({over})"
        return f"{self:.3g}".removesuffix(")") + f", 95 % interval over {over})"


# Poisson bootstrap over images -------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)  # every layer and level of a batch needs the same weights
def poisson_weights(images: Sequence[int], draws: int = DRAWS) -> Tensor:
    """Bootstrap weights of images, (B, 1 + draws): 1 for the estimate, then a Poisson(1) weight for each replicate.

    The weights depend only on the index of the image, so they are the same in every run and process. ``images`` must be
    hashable: a tuple or a range.
    """
    generators = (np.random.Generator(np.random.Philox(np.random.SeedSequence([2, image]))) for image in images)
    return torch.from_numpy(np.stack([np.concatenate([[1.0], generator.poisson(1.0, draws)]) for generator in generators]))


def of_draws(draws: Tensor, n: int | None = None, *, skip_nan: bool = False) -> Interval:
    """Percentile interval of an estimate over ``n`` images, from the estimate followed by its replicates, (1 + draws,).

    A replicate without any image is nan. It makes the ends nan too, or is left out with ``skip_nan``.
    """
    quantile = torch.nanquantile if skip_nan else torch.quantile
    low, high = quantile(draws[1:], torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(draws[0].item(), low, high, n=n)


def of_refits(draws: Tensor, n: int | None = None) -> Interval:
    """Bootstrap interval of an error whose replicates each fit the model again.

    A fit to resampled images sees fewer different images, so that replicates are too large on average. The percentiles are
    therefore taken after the replicates are shifted to have the estimate as their mean.

    Args:
        draws: The estimate, then its replicates, (1 + draws,).
        n: How many images, if known.
    """
    shifted = torch.cat([draws[:1], draws[1:] - draws[1:].nanmean() + draws[0]])
    return replace(of_draws(shifted, n, skip_nan=True), over="images with their noise, with refits of the probe")


def image_mean(values: Tensor, weights: Tensor, *, skip_nan: bool = False) -> Interval:
    """Mean over images of ``values`` (N,); ``weights`` (N, 1 + draws) are those of :func:`poisson_weights`."""
    means = (values.double()[:, None] * weights).sum(0) / weights.sum(0)
    return of_draws(means, len(values), skip_nan=skip_nan)


def image_ratio(above: Tensor, below: Tensor, weights: Tensor, *, less: float = 0.0, skip_nan: bool = False) -> Interval:
    """Ratio of the means over images of two (N,), minus ``less``: 1 for a relative change."""
    ratios = (above.double() @ weights) / (below.double() @ weights) - less
    return of_draws(ratios, len(above), skip_nan=skip_nan)


def image_rms(squares: Tensor, weights: Tensor) -> Interval:
    """Root of the mean over images of ``squares`` (N,), such as each image's mean squared error; as :func:`image_mean`."""
    return of_draws(((squares.double() @ weights) / weights.sum(0)).sqrt(), len(squares), skip_nan=True)


def gap(one: Interval, other: Interval) -> float:
    """Least distance between a value inside one interval and a value inside the other: 0 where they overlap or have no ends."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return 0.0
    return max(0.0, one.low - other.high, other.low - one.high)  # 0 also for ends that are nan


def note_few_images(count: int) -> None:
    """Warns (:class:`explore.values.Note`) if there are fewer than ``INTERVAL_IMAGES`` images for bootstrap intervals."""
    if count < INTERVAL_IMAGES:
        warnings.warn(
            f"intervals over images need at least {INTERVAL_IMAGES} images, here are {count}: those that cannot be computed "
            "are empty (null in JSON), and the others are too narrow",
            Note,
            stacklevel=3,
        )


# Images crossed with noise draws ------------------------------------------------------------------------------------------


def crossed_mean(values: Tensor) -> Interval:
    """Mean of ``values`` (N, K), of N images in each of K noise draws, with Student's t interval over images and noise draws.

    Crossed random effects: a value is the mean, plus effects of the image and of the noise draw, plus a rest, of any
    distributions. With the mean squares of the two-way analysis of variance, the variance of the mean is
    ``(MS_images + max(MS_draws - MS_rest, 0)) / (N K)``. Its degrees of freedom are Satterthwaite's (1946).

    A draw may be one noise for all images, or seeds that give each image its own noise (:func:`explore.seeds.noise_draw`). In
    the first design the effect of the draw is the noise's, and only more draws reduce it. In the second no noise is shared, so
    draws have no effect of their own, the noise is a part of the rest, and the mean is more precise.

    In simulations with heavy tails the interval covers 94 to 97 % from three draws on, with and without an effect of the draw.
    With two draws it covers 96 % without an effect, and as little as 89 % with a large one. With one draw an effect of the draw
    cannot be seen, and the interval is over images with their noise. It has no ends if there is one image.

    Source: Searle, Casella and McCulloch 1992, Variance components, chapter 4.
    """
    return _crossed(values.double().mean(), values.double())


def crossed_ratio(above: Tensor, below: Tensor, less: float = 0.0) -> Interval:
    """Ratio of the means of two (N, K), minus ``less``: 1 for a relative change; the interval is as in :func:`crossed_mean`.

    It is that of the mean of ``(above - ratio below) / mean(below)``, to which the ratio is linear (delta method).
    """
    ratio = above.double().mean() / below.double().mean()
    return _crossed(ratio - less, (above.double() - ratio * below.double()) / below.double().mean())


def _crossed(value: Tensor, values: Tensor) -> Interval:
    """``value`` with the half width of the interval of the mean of ``values`` (N, K)."""
    from scipy.stats import t  # imported here: the trainer runs where there is no SciPy

    n, k = values.shape
    over = "images and noise draws" if k > 1 else "images, one noise draw each"
    if n < 2:
        return Interval(value.item(), None, None, over)
    variance = k * values.mean(1).var()  # times n k, as the other terms
    spread = variance**2 / (n - 1)
    if k > 1:
        draws = n * values.mean(0).var()
        rest = (values - values.mean(1, keepdim=True) - values.mean(0) + values.mean()).square().sum() / ((n - 1) * (k - 1))
        if draws > rest:
            variance = variance + draws - rest
            spread = spread + draws**2 / (k - 1) + rest**2 / ((n - 1) * (k - 1))
    freedom = (variance**2 / spread).item() if spread > 0 else 1.0
    half = float(t.ppf(0.975, freedom)) * (variance / (n * k)).sqrt().item()
    return Interval(value.item(), value.item() - half, value.item() + half, over)


# Means -------------------------------------------------------------------------------------------------------------------


def bootstrap_mean(values: np.ndarray, seed: int = 0, over: str = "images") -> Interval:
    """Mean of ``values`` (N,) with the percentile interval of 2,000 bootstrap means."""
    from scipy.stats import bootstrap  # imported here: the trainer runs where there is no SciPy

    mean = float(values.mean())
    if np.ptp(values) == 0:
        return Interval(mean, float(values[0]), float(values[0]), over, len(values))
    found = bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=seed).confidence_interval
    return Interval(mean, float(found.low), float(found.high), over, len(values))


def student_mean(values: Sequence[float], over: str = "training seeds") -> Interval:
    """Mean of ``values`` with Student's t interval; without ends if there is only one value."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Interval(mean, None, None, over, n)
    from scipy.stats import t  # imported here: the trainer runs where there is no SciPy

    half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, over, n)


def seeds_mean(estimates: Sequence[Interval], over: str = "training seeds, images and noise") -> Interval:
    """Mean over training seeds of estimates made on the same images with the same noise, with an interval over all of these.

    The error that images and noise make is common to the seeds, so their spread does not show it. Its half width, the root mean
    square of those of the estimates, and that of :func:`student_mean` are added in quadrature. That makes the interval rather
    too wide, also because the part of the error that differs between seeds is in both. It is that of ``student_mean`` if there
    is one seed, or no estimate has ends.
    """
    alone = student_mean([one.value for one in estimates])
    shared = [((one.high - one.low) / 2) ** 2 for one in estimates if one.low is not None and one.high is not None]
    if alone.low is None or alone.high is None or not shared:
        return alone
    half = math.hypot((alone.high - alone.low) / 2, math.sqrt(sum(shared) / len(shared)))
    return Interval(alone.value, alone.value - half, alone.value + half, over, len(estimates))


# Controls ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rank(Stored):
    """Where a value stands among those of random controls.

    Attributes:
        value: The value.
        n: Number of controls.
        median, quantile: Of the controls; which quantile is the caller's choice.
        p: (1 + number of controls at least as large) / (1 + n), the p-value of a randomization test: if the value is a draw
            like the controls, p is at most any level with at most that probability.
    """

    value: float
    n: int
    median: float
    quantile: float
    p: float

    def significant(self, level: float) -> bool | None:
        """Whether ``p`` is at most ``level``; None if there are too few controls for any value to reach it."""
        reachable = 1 / (1 + self.n) <= level + 1e-9
        return self.p <= level + 1e-9 if reachable else None


def rank_among(value: float, controls: Sequence[float], quantile: float = 0.95) -> Rank:
    """The rank of ``value`` among ``controls``, of which there must be at least one."""
    others = torch.as_tensor(controls, dtype=torch.float64)
    median, high = torch.quantile(others, torch.tensor([0.5, quantile], dtype=torch.float64)).tolist()
    above = int((others >= value).sum())
    return Rank(value, len(others), median, high, (1 + above) / (1 + len(others)))


# Trials that are looked at one by one ------------------------------------------------------------------------------------


def _log_inverse_evidence(hits: int, n: int, share: float) -> float:
    """Log of ``1 / M`` for the test martingale ``M`` of :func:`anytime_share`, against 0 < ``share`` < 1."""
    likelihood = hits * math.log(share) + (n - hits) * math.log1p(-share)
    return math.log((n + 1) * math.comb(n, hits)) + likelihood


def anytime_share(hits: int, n: int, over: str = "trials") -> Interval:
    """Probability of a hit after ``n`` trials, with the 95 % confidence sequence of the beta-binomial mixture.

    Its intervals contain the true, constant probability p after all numbers of trials at once, with probability .95 or more, so
    anyone may look after every trial and stop at any time. The mixture of the likelihood over a uniform prior, divided by the
    likelihood of p, is ``M = 1 / ((n + 1) comb(n, hits) p^hits (1 - p)^(n - hits))``. Under p it is a nonnegative martingale
    that starts at 1, and by Ville's inequality (1939) it ever reaches 20 with probability 1 / 20 at most. The interval is the
    set of p where M is below 20 (Robbins 1970, Statistical methods related to the law of the iterated logarithm; Howard,
    Ramdas, McAuliffe and Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences).

    Raises:
        ValueError: Unless 0 <= ``hits`` <= ``n`` and ``n`` >= 1.
    """
    n = whole_number("n", n, 1)
    value = whole_number("hits", hits, 0, n) / n

    def end(outside: float) -> float:
        inside = value  # M is at most 1 there, and grows toward both sides
        for _ in range(60):
            middle = (inside + outside) / 2
            if _log_inverse_evidence(hits, n, middle) > math.log(0.05):
                inside = middle
            else:
                outside = middle
        return outside

    low, high = end(0.0) if hits else 0.0, end(1.0) if hits < n else 1.0
    return Interval(value, low, high, f"{over}, valid at any time", n)


def anytime_p(hits: int, n: int, share: float = 0.5) -> float:
    """Always-valid two-sided p-value of the hypothesis that a hit has probability ``share``.

    It is ``min(1, 1 / M)`` for the test martingale ``M`` of :func:`anytime_share`. Under the hypothesis it ever falls to a
    level with at most that probability, in any number of trials (Ville's inequality). Trials may depend on each other as long
    as each is a hit with probability ``share`` given those before it.

    Raises:
        ValueError: Unless 0 <= ``hits`` <= ``n`` and 0 < ``share`` < 1.
    """
    return min(1.0, math.exp(_log_inverse_evidence(hits, n, share)))
