"""Reading: where in an image a model reads the noise level. Depends on figures, hardware, model, saliency."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from explore import saliency, zoo
from explore.experiments.model import (
    OfModel,
    data_option,
    held_out,
    images_option,
    probes_of,
    probes_option,
    seed_option,
    split_option,
)  # fmt: skip
from explore.experiments.request import Load
from explore.hardware import hardware_name
from explore.progress import Watch, quiet
from explore.results import table
from explore.values import choice, real, several, text, whole


@dataclass(frozen=True, kw_only=True)
class Reading(OfModel):
    """Where a model reads the noise level: texture and frequency, norm or high-pass content, two levels in one image.

    Share of the implied noise level's attribution on flat and textured patches and in bands of frequency, by noise level; its
    shift when x_t takes another level's norm or its high-pass content; two noise levels in one image; how much of the predicted
    noise comes through the t input. A conditioned model is given a t that is independent of the true one.
    """

    verb: ClassVar[str] = "reading"
    reading: ClassVar[str] = "result.where, result.two_levels  # shares by noise level, and two levels in one image"
    written: ClassVar[tuple[str, ...]] = ("reading.json", "reading.html")
    stores: ClassVar[bool] = True
    stored_as: ClassVar[str] = "saliency"

    data: str = data_option()
    images: int = images_option(64)
    split: str = split_option()
    layer: str | None = text("Whose probe is read; by default the best.", None)
    view: str | None = text("Of that layer: mean or mean_std.", None)
    level: tuple[float, ...] | None = several(real(-100, 100, "True log SNR.", None))
    baseline: str = choice("baseline", lambda: saliency.BASELINES, "Of the attribution.", "zero")
    steps: int = whole(2, saliency.MAX_STEPS, "Of Integrated Gradients.", saliency.READING_STEPS)
    probes: str | None = probes_option()
    seed: int = seed_option()

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> saliency.ReadingResult:
        """As :func:`explore.saliency.reading` returns it, with the images in words, and how long it took where."""
        denoiser = self.model_from(load)
        probe_set = probes_of(denoiser, self.probes)
        pictures, words = held_out(denoiser, self.data, self.split, self.images, self.seed)
        begun = time.perf_counter()
        found = saliency.reading(
            denoiser, probe_set, pictures, layer=self.layer, view=self.view, levels=self.level or saliency.READING_LEVELS,
            baseline=self.baseline, steps=self.steps, seed=self.seed,
            progress=None if watch is quiet else lambda jobs, name: watch(jobs, desc=name),
        )  # fmt: skip
        where, seconds = hardware_name(denoiser.device), time.perf_counter() - begun
        return replace(found, data=words, seconds=seconds, hardware=where, torch=torch.__version__)

    def figures(self, result: saliency.ReadingResult) -> list[Any]:
        """Shares, bands, shifts and halves."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        color, titles = [figures.MEMBER_COLORS["timestep" if result.conditioned else "none"]], [result.model]
        return [
            figures.reading_shares([result], titles, colors=color), figures.band_shares([result], titles),
            figures.clock_shift([result], titles, color), figures.two_levels([result], titles, color),
        ]  # fmt: skip

    def summary(self, result: saliency.ReadingResult) -> str:
        """Three tables: where, norm or high-pass content, two levels."""
        where = [
            {
                "log SNR": row.logsnr, "high frequencies": row.high_pass.value, "of the image": row.high_pass_power.value,
                "flat": row.texture["flat"].value, "textured": row.texture["textured"].value,
            }
            for row in result.where if row.method == "integrated-gradients"
        ]  # fmt: skip
        moved = [
            {
                "log SNR": row.logsnr, "other": row.other_logsnr, "norm factor": row.norm_factor.value,
                "whole image": row.shift["whole"].value, "its norm": row.shift["norm_patched"].value,
                "its high-pass, norm kept": row.shift["high_pass_patched_norm_kept"].value,
            }
            for row in result.norm_or_high_pass
        ]  # fmt: skip
        halves = [
            {
                "layer": row.layer, "levels": f"{row.levels[0]:g} | {row.levels[1]:g}", "error": row.error,
                "one level": row.whole_error, "one number": row.one_number, "contrast": row.contrast.value,
            }
            for row in result.two_levels.rows if row.layer == result.two_levels.best
        ]  # fmt: skip
        words = f"{result.images} images ({result.data}), read from {result.layer} ({result.view}); given: {result.given}"
        return "\n\n".join(table(part) for part in (where, moved, halves)) + f"\n{words}"
