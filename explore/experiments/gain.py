"""Gain: what hiding t adds to a sampler's direction for Gaussian images, by t. Depends on bayes, exact, results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from explore import bayes, zoo
from explore.denoiser import PREDICTIONS
from explore.experiments.exact import IMAGES, check_path, training_levels
from explore.experiments.model import seed_option
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet
from explore.results import Stored
from explore.schedules import SCHEDULES, T_DISTRIBUTIONS
from explore.values import choice, real, several, whole


@dataclass(frozen=True)
class Gains(Stored):
    """Errors and gain by t; ``prior`` is what they are exact for, ``images`` how many draws the intervals are over."""

    prior: str
    images: int
    rows: tuple[bayes.GainRow, ...]


@dataclass(frozen=True)
class Gain(Request):
    """Measures what hiding t adds to the direction of a sampler, by t, with the optimal networks of Gaussian images.

    The gain is the change of d xt / d t for a change of the network's output by 1.
    """

    verb: ClassVar[str] = "gain"
    dtype: ClassVar[str] = "float64"
    reading: ClassVar[str] = "result.rows  # by t: gain, and the errors of the output and of the drift"

    target: str = choice("target", lambda: PREDICTIONS, "What the networks predict.", "eps")
    schedule: str = choice("noise path", lambda: SCHEDULES, "How image and noise are mixed at each t.", "ddpm-cosine")
    t_distribution: str = choice("t distribution", lambda: T_DISTRIBUTIONS, "Of t in training, at 300 quantiles.", "uniform")
    times: tuple[float, ...] = several(real(0, 1, "Values of t.", bayes.GAIN_TIMES, above=True))
    size: int = whole(8, 32, "Height and width of the images, 8 to 32.", 16)
    seed: int = seed_option()
    count: int = whole(2, 256, "Images, 2 to 256.", 32)

    def check(self) -> None:
        """The target is defined on the schedule, and an image is left at every t."""
        check_path(self.target, self.schedule)
        if self.target == "eps" and max(self.times) > 0.9999:
            raise ValueError("an eps prediction divides by alpha, which is 0 or nearly so at t = 1: give t of .9999 or less")

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Gains:
        """Gain and errors by t; no trained network is used."""
        prior = bayes.spectral_gaussian(self.size, *IMAGES[False])
        levels, shape = training_levels(self.schedule, self.t_distribution), (3, self.size, self.size)
        rows: list[Any] = []
        for t in watch(self.times, unit="t"):
            rows += bayes.error_gains(prior, levels, self.target, shape, [t], count=self.count, seed=self.seed)
        return Gains(f"{prior.prior}; {levels.prior}", self.count, tuple(rows))

    def summary(self, result: Gains) -> str:
        """The rows, and what they are exact for."""
        return f"{super().summary(result)}\n{result.images} images; exact for: {result.prior}"
