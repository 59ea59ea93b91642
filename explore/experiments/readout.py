"""Reading: where in an image a model reads the noise level. Depends on figures, hardware, model, saliency, statistics."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from explore import saliency, zoo
from explore.experiments.model import (
    MAX_COUNT,
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
from explore.statistics import Interval
from explore.values import choice, real, several, text, whole

SHOWN = {"norm_patched": "norm", "high_pass_patched_norm_kept": "high-pass", "low_pass_patched_norm_kept": "low-pass"}


def _changes(size: Interval | None) -> bool:
    return size is not None and size.low is not None and size.high is not None and size.low * size.high > 0


@dataclass(frozen=True, kw_only=True)
class Reading(OfModel):
    """Where a model reads the noise level: texture and frequency, norm or high-pass content, two levels in one image.

    Share of the implied noise level's attribution on flat and textured patches and in bands of frequency, by noise level; its
    shift when x_t takes another level's norm or its high-pass content, beside that of pure readers of either; two noise levels
    in one image, read at every block; how much of the predicted noise comes through the t input. A conditioned model is given a
    t that is independent of the true one.
    """

    verb: ClassVar[str] = "reading"
    reading: ClassVar[str] = "result.where, result.two_levels  # shares by noise level, and two levels in one image"
    written: ClassVar[tuple[str, ...]] = ("reading.json", "reading.html")
    stores: ClassVar[bool] = True
    stored_as: ClassVar[str] = "saliency"

    data: str = data_option()
    images: int = images_option(128)
    attributed: int = whole(10, MAX_COUNT, "How many of the images are attributed, which costs most; at least 10.", 64)
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
            baseline=self.baseline, steps=self.steps, attributed=self.attributed, seed=self.seed,
            progress=None if watch is quiet else lambda jobs, name: watch(jobs, desc=name),
        )  # fmt: skip
        where, seconds = hardware_name(denoiser.device), time.perf_counter() - begun
        return replace(found, data=words, seconds=seconds, hardware=where, torch=torch.__version__)

    def figures(self, result: saliency.ReadingResult) -> list[Any]:
        """Shares, bands, shifts, pure readers, halves and blocks."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        color, titles = [figures.MEMBER_COLORS["timestep" if result.conditioned else "none"]], [result.model]
        return [
            figures.reading_shares([result], titles, colors=color), figures.band_shares([result], titles),
            figures.clock_shift([result], titles, color), figures.pure_readers(result, result.model, color[0]),
            figures.two_levels([result], titles, color), figures.blocks_with_two_levels([result], titles, color),
        ]  # fmt: skip

    def summary(self, result: saliency.ReadingResult) -> str:
        """Tables: where; norm or high-pass content, with pure readers and the output; two levels, by block and chosen block."""
        where = [
            {
                "log SNR": row.logsnr, "high frequencies": row.high_pass.value, "of the image": row.high_pass_power.value,
                "flat": row.texture["flat"].value, "textured": row.texture["textured"].value,
            }
            for row in result.where if row.method == "integrated-gradients"
        ]  # fmt: skip
        moved = [
            {"log SNR": row.logsnr, "other": row.other_logsnr, "who": who}
            | {f"{name}, share": f"{share[edit]:z.2f}" for edit, name in SHOWN.items() if edit in share}
            | {"everything / true": f"{whole:.2f}" if whole else "", "acts like": (row.conclusion or "") if first else ""}
            for row in result.norm_or_high_pass
            for first, who, share, whole in (
                (True, result.model, row.share, row.everything),
                *((False, f"pure reader: {name}", one.share, one.everything) for name, one in (row.readers or {}).items()),
                *([(False, "size of the output", row.output, None)] if row.output and _changes(row.output_change) else []),
            )
        ]  # fmt: skip
        blocks = [
            {
                "layer": row.layer, "levels": f"{row.levels[0]:g} | {row.levels[1]:g}",
                "error": f"{row.error_interval or row.error:.2f}", "one level": row.whole_error, "one number": row.one_number,
                "contrast": f"{row.contrast:.2f}",
            }
            for row in result.two_levels.rows
        ]  # fmt: skip
        halves = [
            {"chosen on half": half, "layer": one.layer, "its error": one.chosen,
             "error on the other half": f"{one.error:.2f}", "contrast there": f"{one.contrast:.2f}"}
            for half, one in enumerate(result.two_levels.halves or (), start=1)
        ]  # fmt: skip
        words = (
            "Shares are of the change for the other level's whole image, high-pass and low-pass with the norm kept; "
            "those of the output where its size changes.\n"
            f"{result.images} images ({result.data}), of which {result.attributed or result.images} are attributed; "
            f"read from {result.layer} ({result.view}); given: {result.given}"
        )
        return "\n\n".join(table(part) for part in (where, moved, blocks, halves) if part) + f"\n{words}"
