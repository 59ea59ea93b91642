"""Structural fidelity: what denoising keeps of a noisy held-out image. Depends on evaluation and members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explore import evaluation
from explore.denoiser import Denoiser
from explore.experiments.members import OfMembers
from explore.experiments.model import images_option
from explore.progress import Watch


@dataclass(frozen=True)
class Fidelity(OfMembers):
    """Structural fidelity: held-out images noised to t, then denoised in one step or sampled back; SSIM and PSNR by t."""

    verb: ClassVar[str] = "fidelity"
    reading: ClassVar[str] = "result.rows  # by t and way: SSIM and PSNR (dB) of both members, and their difference"

    images: int = images_option(200)

    def measure(self, denoisers: list[Denoiser], watch: Watch) -> evaluation.FidelityResult:
        """As :func:`explore.evaluation.fidelity` returns it."""
        return evaluation.fidelity(denoisers, self.data, self.images, self.seed, watch=watch)
