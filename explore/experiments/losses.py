"""Losses: loss of both members by t on training and held-out images. Depends on evaluation, members, model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explore import evaluation
from explore.denoiser import Denoiser
from explore.experiments.members import OfMembers
from explore.experiments.model import noise_draws_option
from explore.progress import Watch


@dataclass(frozen=True)
class Losses(OfMembers):
    """Loss by t of both members on training and held-out images, beside the width of the posterior of t."""

    verb: ClassVar[str] = "losses"
    reading: ClassVar[str] = "result.rows  # by split and t: loss of both members, and their difference"

    noise_draws: int = noise_draws_option()

    def measure(self, denoisers: list[Denoiser], watch: Watch) -> evaluation.LossesResult:
        """As :func:`explore.evaluation.losses` returns it."""
        return evaluation.losses(denoisers, self.data, self.images, self.seed, noise_draws=self.noise_draws, watch=watch)
