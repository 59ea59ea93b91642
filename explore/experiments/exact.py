"""Exact: samples of the optimal network of Gaussian images, with t and with t hidden. Depends on bayes, images, samplers."""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explore import bayes, zoo
from explore.data import to_uint8
from explore.denoiser import PREDICTIONS, Denoiser
from explore.experiments.model import seed_option
from explore.experiments.request import Load, Request, sampling_field
from explore.images import grid, png
from explore.progress import Watch, quiet
from explore.results import Stored, table
from explore.samplers import SAMPLERS, Sampling, check_suited
from explore.schedules import SCHEDULES, T_DISTRIBUTIONS
from explore.seeds import keyed_noise, seed_range
from explore.values import choice, real, whole

LEVELS = 300  # values of t in the prior of t
IMAGES = {False: (0.25, "plain"), True: (0.16, "dct")}  # clamp -> variance and basis of the Gaussian images


@dataclass(frozen=True)
class ExactSamples(Stored):
    """Samples of both optimal networks.

    Attributes:
        prior: What the results are exact for.
        samples: (N, 3, H, W) of the conditioned network and of the one with t hidden, in coordinates of the prior's basis.
        relative_frechet: Relative Frechet distance of each from the prior.
    """

    unstored: ClassVar[tuple[str, ...]] = ("samples",)

    prior: str
    samples: tuple[Tensor, Tensor]
    relative_frechet: tuple[float, float]


def as_images(prior: bayes.DiagonalGaussian, state: Tensor) -> Tensor:
    """Images (N, 3, H, W) of coordinates in the prior's basis.

    For the Fourier basis by the Hartley transform, which is real, orthonormal and its own inverse, with the same frequencies.
    """
    if prior.basis == "dct":
        return state
    spectrum = torch.fft.fft2(state, norm="ortho")
    return spectrum.real - spectrum.imag


def check_path(target: str, schedule: str) -> None:
    """Checks that the target is defined on the schedule.

    Raises:
        ValueError: If not.
    """
    if PREDICTIONS[target].flow_only and schedule != "flow":
        raise ValueError(f"the target {target} is defined on the path flow only")


def training_levels(schedule: str, t_distribution: str) -> bayes.Levels:
    """``LEVELS`` equally likely values of t: quantiles of a training distribution."""
    path = SCHEDULES[schedule]
    levels = bayes.Levels.midpoints(path, LEVELS)
    if t_distribution == "uniform":  # midpoints of equal cells are its quantiles
        return levels
    return bayes.Levels.points(path, T_DISTRIBUTIONS[t_distribution].quantile(path, levels.t))


@dataclass(frozen=True)
class ExactSampling(Request):
    """Samples the optimal network of Gaussian images with the spectrum of photographs, with t and with t hidden.

    The optimal network is a formula. Both start from the same noise; the prior of t is 300 equally likely quantiles of its
    distribution in training. With --clamp, which acts on pixels, the images have a smaller variance.
    """

    verb: ClassVar[str] = "exact"
    reading: ClassVar[str] = "result.samples, result.relative_frechet"
    written: ClassVar[tuple[str, ...]] = ("exact.json", "samples.npz", "grid.png")
    dtype: ClassVar[str] = "float64"

    target: str = choice("target", lambda: PREDICTIONS, "What the networks predict.", "eps")
    schedule: str = choice("noise path", lambda: SCHEDULES, "How image and noise are mixed at each t.", "ddpm-cosine")
    t_distribution: str = choice("t distribution", lambda: T_DISTRIBUTIONS, "Of t in training, at 300 quantiles.", "uniform")
    hidden_from: float = real(0, 1, "Lower end of the range of t that is hidden.", 0.0)
    hidden_to: float = real(0, 1, "Upper end of that range.", 1.0)
    size: int = whole(8, 32, "Height and width of the images, 8 to 32.", 16)
    seed: int = seed_option()
    count: int = whole(2, 64, "Images, 2 to 64.", 32)
    sampling: Sampling = sampling_field()

    def check(self) -> None:
        """The hidden range, the target and the start fit."""
        check_path(self.target, self.schedule)
        if self.hidden_from >= self.hidden_to:
            raise ValueError(f"t is hidden from a smaller to a larger value, got {self.hidden_from:g} to {self.hidden_to:g}")
        if self.sampling is not None:
            self._check_sampling(self.sampling)

    def _check_sampling(self, sampling: Sampling) -> None:
        check_suited(sampling.sampler, self.target)
        if sampling.start is not None and sampling.start > 0.9999:
            if SCHEDULES[self.schedule].start < 1:
                raise ValueError("on this path no signal is left at t = 1: start at .9999 or before")
            if self.target == "eps":
                raise ValueError("an eps prediction cannot start at t = 1, where alpha is 0: start at .9999 or before")

    def suits(self, **given: Any) -> Sampling:
        """DDIM with 50 steps."""
        found = Sampling(**{"sampler": "ddim", "steps": 50, **given})
        self._check_sampling(found)
        return found

    @property
    def prior(self) -> bayes.DiagonalGaussian:
        """Of the images."""
        return bayes.spectral_gaussian(self.size, *IMAGES[bool(self.sampling.options.get("clamp"))])

    @property
    def denoisers(self) -> list[Denoiser]:
        """The conditioned network, and the one with t hidden."""
        levels, shape = training_levels(self.schedule, self.t_distribution), (3, self.size, self.size)
        ranges = (None, (self.hidden_from, self.hidden_to))
        return [bayes.bayes_denoiser(self.prior, levels, self.target, shape, hidden=hidden) for hidden in ranges]

    def stream(self) -> Generator[tuple[int, ExactSamples], None, None]:
        """Number of the step, from 0, and the samples so far."""
        prior, seeds = self.prior, seed_range(self.seed, self.count)
        noise = keyed_noise(seeds, (3, self.size, self.size)).double()
        walks = [
            SAMPLERS[self.sampling.sampler](one, noise, self.sampling.steps, seeds=seeds, **self.sampling.options)
            for one in self.denoisers
        ]
        for first, second in zip(*walks):
            states = first.xt, second.xt
            distances = bayes.relative_frechet(prior, states[0]), bayes.relative_frechet(prior, states[1])
            yield first.index, ExactSamples(prior.prior, states, distances)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> ExactSamples:
        """The samples; no trained network is used."""
        for _, found in watch(self.stream(), total=self.sampling.steps + 1, unit="step"):
            last = found
        return last

    def files(self, result: ExactSamples) -> dict[str, Any]:
        """The record, the samples, and 16 of each as a picture, the conditioned network's first."""
        buffer, prior = io.BytesIO(), self.prior
        np.savez_compressed(buffer, conditioned=result.samples[0].numpy(), hidden=result.samples[1].numpy())
        seen = [torch.nan_to_num(as_images(prior, one[:16]), nan=0.0, posinf=1.0, neginf=-1.0) for one in result.samples]
        drawn = png(grid(to_uint8(torch.cat(seen)), scale=4, columns=len(seen[0])))
        return {"exact.json": self.record(result), "samples.npz": buffer.getvalue(), "grid.png": drawn}

    def summary(self, result: ExactSamples) -> str:
        """Both distances."""
        names = ("conditioned", f"t hidden from {self.hidden_from:g} to {self.hidden_to:g}")
        rows = [{"network": name, "relative Frechet distance": one} for name, one in zip(names, result.relative_frechet)]
        about = f"perfect samples have about {1 / (2 * self.count):.3g}; {self.sampling.flags}; exact for: {result.prior}"
        return f"{table(rows)}\n{about}"
