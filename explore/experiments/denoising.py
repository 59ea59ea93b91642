"""Denoising: error of one step on held-out images, beside the best linear denoiser. Depends on evaluation, model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explore import evaluation, zoo
from explore.experiments.model import data_option, images_option, model_option, noise_draws_option, seed_option
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet


@dataclass(frozen=True)
class Denoising(Request):
    """One denoising step on held-out images at t = .25, .5, .75, beside the best linear denoiser."""

    verb: ClassVar[str] = "denoising"
    reading: ClassVar[str] = "result.rows  # by t: mean squared error of the model and of the linear denoiser"
    stores: ClassVar[bool] = True

    model: str = model_option()
    data: str = data_option()
    images: int = images_option(250)
    seed: int = seed_option()
    noise_draws: int = noise_draws_option()

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> evaluation.DenoisingResult:
        """As :func:`explore.evaluation.denoising` returns it."""
        denoiser = load(self.model, "float32")
        return evaluation.denoising(denoiser, self.data, self.images, self.seed, noise_draws=self.noise_draws)
