"""Reading: where in an image a model reads the noise level. Depends on cards, figures, hardware, model, saliency."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from explore import cards, probes, saliency, zoo
from explore.experiments.model import (
    OfModel,
    data_option,
    held_out,
    identity,
    images_option,
    probes_of,
    probes_option,
    seed_option,
    split_option,
    table,
)  # fmt: skip
from explore.experiments.request import Load
from explore.files import to_json
from explore.hardware import hardware_name
from explore.progress import Watch, quiet
from explore.values import choice, real, several, text, whole


@dataclass(frozen=True, kw_only=True)
class Reading(OfModel):
    """Where a model reads the noise level: texture and frequency, norm or high-pass content, two levels in one image.

    Share of the implied noise level's attribution on flat and textured patches and in bands of frequency, by noise level; its
    shift when x_t takes another level's norm or its high-pass content; two noise levels in one image; how much of the predicted
    noise comes through the t input. A conditioned model is given a t that is independent of the true one.

    Attributes:
        data: Source of images.
        images: Held-out images, 10 or more.
        split: Of the data.
        layer: Whose probe is read; by default the best.
        view: Of that layer: ``mean`` or ``mean_std``.
        level: True noise levels, log SNR.
        baseline: A key of ``BASELINES``.
        steps: Of Integrated Gradients.
        probes: Folder of fitted probes; by default the model's own.
        seed: First seed of the noise.
    """

    verb: ClassVar[str] = "reading"
    reading: ClassVar[str] = 'result["where"], result["two_levels"]  # shares by noise level, and two levels in one image'
    written: ClassVar[tuple[str, ...]] = ("reading.json", "reading.html")
    stores: ClassVar[bool] = True

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

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> dict[str, Any]:
        """As :func:`explore.saliency.reading` returns it, with the model and the images."""
        denoiser = self.model_from(load)
        clock = probes_of(denoiser, self.probes)
        pictures, words = held_out(denoiser, self.data, self.split, self.images, self.seed)
        begun = time.perf_counter()
        found = saliency.reading(
            denoiser, clock, pictures, layer=self.layer, view=self.view, levels=self.level or saliency.READING_LEVELS,
            baseline=self.baseline, steps=self.steps, seed=self.seed,
            progress=None if watch is quiet else lambda jobs, name: watch(jobs, desc=name),
        )  # fmt: skip
        about = {
            **identity(denoiser), "data": words, "seconds": time.perf_counter() - begun,
            "hardware": hardware_name(denoiser.device), "torch": torch.__version__,
        }  # fmt: skip
        return {**about, **found, "conditioned": probes.is_conditioned(denoiser)}

    def record(self, result: dict[str, Any]) -> dict[str, Any]:
        """The study, with how it was made."""
        return probes.rounded({"command": self.command, "request": self.to_json(), **result})

    def files(self, result: dict[str, Any]) -> dict[str, Any]:
        """The record and figures."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        record = self.record(result)
        color, titles = [figures.MEMBER_COLORS["timestep" if result["conditioned"] else "none"]], [result["model"]]
        drawn = [
            figures.reading_shares([record], titles, colors=color), figures.band_shares([record], titles),
            figures.clock_shift([record], titles, color), figures.two_levels([record], titles, color),
        ]  # fmt: skip
        return {"reading.json": to_json(record) + "\n", "reading.html": figures.page(drawn)}

    def store(self, result: dict[str, Any]) -> None:
        """Keeps the record in the model's metrics.json."""
        cards.store(zoo.info(str(self.model)).name, "saliency", self.kept(result))

    def summary(self, result: dict[str, Any]) -> str:
        """Three tables: where, norm or high-pass content, two levels."""
        where = [
            {
                "log SNR": row["logsnr"], "high frequencies": row["high_pass"][0], "of the picture": row["high_pass_power"][0],
                "flat": row["texture"]["flat"][0], "textured": row["texture"]["textured"][0],
            }
            for row in result["where"] if row["method"] == "integrated-gradients"
        ]  # fmt: skip
        moved = [
            {
                "log SNR": row["logsnr"], "other": row["other_logsnr"], "norm x": row["norm_factor"][0],
                "whole picture": row["shift"]["whole"][0], "its norm": row["shift"]["rescaled"][0],
                "its high-pass, norm kept": row["shift"]["high-pass swapped, norm kept"][0],
            }
            for row in result["rescale_or_swap"]
        ]  # fmt: skip
        halves = [
            {
                "layer": row["layer"], "levels": f"{row['levels'][0]:g} | {row['levels'][1]:g}", "error": row["error"],
                "one level": row["whole_error"], "one number": row["one_number"], "contrast": row["contrast"][0],
            }
            for row in result["two_levels"]["rows"] if row["layer"] == result["two_levels"]["best"]
        ]  # fmt: skip
        words = (
            f"{result['images']} images ({result['data']}), read from {result['layer']} ({result['view']}); "
            f"told: {result['told']}"
        )
        return "\n\n".join(table(part) for part in (where, moved, halves)) + f"\n{words}"
