"""Intervene: a layer is changed along its probe's direction, or the network is given another t.

Depends on cards, figures, interventions, model, probes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from explore import cards, interventions, probes, zoo
from explore.denoiser import Denoiser
from explore.experiments.model import (
    MAX_COUNT,
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
    effects on the probe predictions of later layers, on the predicted noise and on the loss are compared with those of control
    directions of the same length: isotropic ones, draws from the layer's covariance, and directions of probes with shuffled
    targets. A layer counts as used only beyond the last two. The scale is the conditioned model of the pair with a shifted t.
    lie varies the given and the true t independently, and says which one each layer follows.
    """

    verb: ClassVar[str] = "intervene"
    reading: ClassVar[str] = (
        "result.slopes  # per unit of dose, with ranks among controls; also result.rows, result.loss; of lie: result.layers"
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
    controls: int = whole(1, 1000, "Control directions of each kind, of the same length.", 100)
    control: tuple[str, ...] | None = several(
        choice("control", lambda: interventions.CONTROLS, "Kind of control directions; by default all.", None)
    )
    control_images: int = whole(
        1, MAX_COUNT, "Images that the controls are measured on, the first of --images.", interventions.CONTROL_IMAGES
    )
    quantile: float = real(0.5, 0.999, "Of the controls, which a direction must exceed to count as used.", 0.95)
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
            control_kinds=self.control or tuple(interventions.CONTROLS), control_images=self.control_images,
            quantile=self.quantile, partner=self._partner(denoiser, load), seed=self.seed, progress=progress,
        )  # fmt: skip
        return replace(result, data=words)

    def _partner(self, denoiser: Denoiser, load: Load) -> interventions.Partner | None:
        """The conditioned model of a shipped model's pair, with its probes if it has some; None if there is none."""
        info = zoo.shipped(denoiser)
        names = zoo.pairs()[info.pair] if info else []
        name = next((one for one in names if zoo.info(one).time_conditioning == "timestep"), None)
        if name is None:
            return None
        fitted = probes.load(name) if cards.atlas(name) else None
        return interventions.Partner(load(name, self.precision), fitted)

    def figures(self, result: Result) -> list[Any]:
        """Slopes by layer, or slopes against controls, effects by dose, and the change of the loss by t."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        if isinstance(result, interventions.GivenVsTrueResult):
            return [figures.trust_bars([result], [result.model])]
        drawn = [figures.slopes_against_controls(result)] if result.slopes else []
        return [*drawn, figures.dose_response(result, self._named(result)), figures.loss_change(result)]

    @staticmethod
    def _named(result: interventions.InterventionResult) -> list[str]:
        return [*result.later[-1:], "predicted_noise", "loss"]

    def kept(self, result: Result) -> dict[str, Any]:
        """What the model's card shows; the effects of every dose and control, and of every pair of levels, are in the files."""
        if isinstance(result, interventions.GivenVsTrueResult):
            return super().kept(replace(result, layers=tuple(replace(row, grid=None) for row in result.layers)))
        return super().kept(replace(result, rows=()))

    def summary(self, result: Result) -> str:
        """Which t each layer follows; or slopes with their ranks, or effects by noise level, and the change of the loss."""
        if isinstance(result, interventions.GivenVsTrueResult):
            followed: list[dict[str, Any]] = [
                {"layer": row.name, "true": row.true.value, "given": row.given.value} for row in result.layers
            ]
            return f"{table(followed)}\n{result.images} images ({result.data})"
        found: list[dict[str, Any]] = [
            {"log SNR": row.logsnr, "quantity": name, "slope": slope.slope.value}
            | {"of told": "-" if slope.of_told is None else f"{slope.of_told.value:.3g}"}
            | {f"p ({kind})": f"{rank.p:.3f}" for kind, rank in slope.ranks.items()}
            | {"used": {None: "-", True: "yes", False: "no"}[slope.used]}
            for row in result.slopes
            for name, slope in row.quantities.items()
            if name != result.layer
        ] or [
            {"log SNR": row.logsnr}
            | {
                f"{name} ({which})": value
                for name in self._named(result)
                for which, value in {
                    "probed": row.effects[name].value,
                    **{f"largest {kind}": max(effects, key=abs) for kind, effects in row.control[name].items()},
                }.items()
            }
            for row in result.rows
        ]
        loss = [
            {"t": row.t, "dose": row.dose, "loss": f"{row.change.value:+.2%}"}
            | {f"{result.quantile:.0%} of {kind}": f"{rank.quantile:+.2%}" for kind, rank in row.ranks.items()}
            for row in result.loss
        ]
        near = ", ".join(f"{kind} {cosine:.2f}" for kind, cosine in result.alignment.items())
        said = (
            f"Median |cosine| of controls with the direction: {near}\n"
            f"{result.images} images ({result.data}), controls on {result.control_images} of them"
        )
        return "\n".join([table(found), *([table(loss)] if loss else []), said])
