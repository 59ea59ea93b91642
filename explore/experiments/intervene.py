"""Intervene: a layer is changed along its probe's direction, or the network is given another t.

Depends on figures, interventions, model.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from explore import interventions, zoo
from explore.experiments.model import (
    OfModel,
    held_out,
    images_option,
    probes_of,
    probes_option,
    seed_option,
    split_option,
)  # fmt: skip
from explore.experiments.request import PRECISIONS_HELP, Load
from explore.hardware import PRECISIONS
from explore.progress import Watch, quiet
from explore.results import table
from explore.values import choice, real, several, text, whole

Result = interventions.InterventionResult | interventions.GivenVsTrueResult


@dataclass(frozen=True, kw_only=True)
class Intervene(OfModel):
    """Changes a layer along its probe's direction, or gives the network a wrong t, and reports what follows.

    steer adds the direction; patch replaces the component by that of another noise level; ablate replaces it by its mean. The
    effects on the probe predictions of later layers, on the predicted noise and on the loss are compared with those of random
    directions of the same length. lie varies the given and the true t independently, and says which one each layer follows.
    """

    verb: ClassVar[str] = "intervene"
    reading: ClassVar[str] = (
        "result.rows  # effects by noise level and dose, and those of random directions; of lie: result.layers"
    )
    written: ClassVar[tuple[str, ...]] = ("KIND.json", "KIND.html")
    stores: ClassVar[bool] = True

    data: str = text("cifar10, celeba, bank:NAME, a folder or zip of images, or gaussian:NAME.", source=True)
    kind: str = choice(
        "intervention",
        lambda: [*interventions.INTERVENTIONS, "lie"],
        "Kind of intervention.",
        "steer",
        renamed=interventions.RENAMED,
    )
    layer: str | None = text("Hook point, for every kind but lie; `layers` lists them.", None)
    direction: str = choice("direction", lambda: interventions.DIRECTIONS, "Along which the layer is changed.", "pattern")
    dose: tuple[float, ...] | None = several(real(-100, 100, "In the probe's unit.", None))
    level: tuple[float, ...] | None = several(real(-100, 100, "True log SNR.", None))
    controls: int = whole(1, 1000, "Random directions of the same length.", 8)
    probes: str | None = probes_option()
    images: int = images_option(64)
    split: str = split_option()
    seed: int = seed_option()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    @property
    def name(self) -> str:
        """The kind."""
        return self.kind

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Result:
        """As :func:`explore.interventions.intervene` or ``given_vs_true`` returns it, with the images in words."""
        denoiser = self.model_from(load, self.precision)
        read = probes_of(denoiser, self.probes)
        if self.kind != "lie" and self.layer is None:
            raise ValueError(f"--kind {self.kind} needs --layer; choose from {', '.join(read.layers())}")
        pictures, words = held_out(denoiser, self.data, self.split, self.images, self.seed)
        progress = functools.partial(watch, desc=self.kind)
        if self.kind == "lie":
            levels = self.level or interventions.LIE_LEVELS
            followed = interventions.given_vs_true(denoiser, read, pictures, levels=levels, seed=self.seed, progress=progress)
            return replace(followed, data=words)
        result = interventions.intervene(
            denoiser, read, pictures, str(self.layer), self.kind, direction=self.direction,
            levels=self.level or interventions.STAGES, doses=self.dose or interventions.DOSES, controls=self.controls,
            seed=self.seed, progress=progress,
        )  # fmt: skip
        return replace(result, data=words)

    def figures(self, result: Result) -> list[Any]:
        """Slopes by layer, or effects by dose."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        if isinstance(result, interventions.GivenVsTrueResult):
            return [figures.trust_bars([result], [result.model])]
        return [figures.dose_response(result, self._named(result))]

    @staticmethod
    def _named(result: interventions.InterventionResult) -> list[str]:
        return [*result.later[-1:], "predicted_noise", "loss"]

    def kept(self, result: Result) -> dict[str, Any]:
        """What the model's card shows; the effect of every dose, and of every pair of levels, is in the files."""
        if isinstance(result, interventions.GivenVsTrueResult):
            return super().kept(replace(result, layers=tuple(replace(row, grid=None) for row in result.layers)))
        return super().kept(replace(result, rows=()))

    def summary(self, result: Result) -> str:
        """Which t each layer follows, or the effects by noise level and dose."""
        if isinstance(result, interventions.GivenVsTrueResult):
            rows: list[dict[str, Any]] = [
                {"layer": row.name, "true": row.true.value, "given": row.given.value} for row in result.layers
            ]
        else:
            rows = [
                {"log SNR": row.logsnr, "dose": row.dose}
                | {
                    f"{name} ({which})": value
                    for name in self._named(result)
                    for which, value in (
                        ("probed", row.effects[name].value), ("largest of random", max(row.control[name], key=abs))
                    )
                }
                for row in result.rows
            ]  # fmt: skip
        return f"{table(rows)}\n{result.images} images ({result.data})"
