"""Clock: the noise level that a model implies while it samples. Depends on figures, model, probes, samplers."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from explore import probes, zoo
from explore.activations import VIEWS
from explore.denoiser import Denoiser
from explore.experiments.model import OfModels, identity, probes_of, probes_option, seed_option
from explore.experiments.request import PRECISIONS_HELP, Load, sampling_field
from explore.hardware import PRECISIONS
from explore.probes import ANY, ProbeSet
from explore.probes.told import INDEPENDENT, check_condition
from explore.progress import Watch, quiet
from explore.results import Stored, table
from explore.samplers import Sampling, Step
from explore.seeds import seed_range
from explore.trajectories import MAX_IMAGES
from explore.values import choice, option, real, several, text, whole

CONDITION_HELP = (
    "Probes fitted while the model was told this t: random, fixed or such as fixed:0.5, nearest-wrong, true, or independent, "
    "the first that there are."
)


@dataclass(frozen=True)
class ClockRun(Stored):
    """Implied noise levels of one model at each of E evaluations along a sampling run.

    Attributes:
        model: Its name.
        sha256: Of its weights, None if unknown.
        conditioned: Whether the network uses its t input.
        target: What the probes predict, a key of ``TARGETS``.
        t: (E,), the true t.
        true: (E,), the target at the true t.
        given: (E,), the target at the t that the network is given.
        offset: Added to the network's input t.
        layers: As of :func:`explore.probes.implied_level_stream`.
    """

    model: str
    sha256: str | None
    conditioned: bool
    target: str
    t: list[float]
    true: list[float]
    given: list[float]
    offset: float
    layers: list[dict[str, Any]]


@dataclass(frozen=True)
class Clocks(Stored):
    """A run of each model from the same noise."""

    members: tuple[ClockRun, ...]


@dataclass(frozen=True)
class Clock(OfModels):
    """Reads the implied noise level at every evaluation of a sampling run, beside the true one.

    Both members of a pair start from the same noise.
    """

    verb: ClassVar[str] = "clock"
    reading: ClassVar[str] = "[(one.t, one.true, one.layers) for one in result.members]  # mean and std over the images"
    most_images: ClassVar[int | None] = 16
    written: ClassVar[tuple[str, ...]] = ("clock.json", "clock.html")

    probes: str | None = probes_option()
    layer: tuple[str, ...] | None = several(text("Hook point; `layers` lists them.", None))
    view: str = choice("view", lambda: VIEWS, "Features of the layers named.", "mean")
    condition: tuple[str, ...] = several(option(str, CONDITION_HELP, check_condition, (INDEPENDENT,)))
    clock_offset: float = real(-1, 1, "Give the network t plus this; the sampler keeps t.", 0.0)
    seed: int = seed_option()
    count: int = whole(1, MAX_IMAGES, "Images, 1 to 64.", 16)
    sampling: Sampling = sampling_field()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    def stream(
        self, denoisers: Sequence[Denoiser], fitted: Sequence[ProbeSet]
    ) -> Generator[tuple[list[Step], list[dict[str, Any]]], None, None]:
        """Each step of the runs, and the predictions so far, as :func:`explore.probes.implied_level_stream` yields them."""
        streams = []
        for denoiser, probe_set in zip(denoisers, fitted):
            streams.append(
                probes.implied_level_stream(
                    denoiser, probe_set, seed_range(self.seed, self.count), layers=self.layer, view=self.view,
                    given=self.condition if probe_set.regime != ANY else INDEPENDENT, offset=self.clock_offset,
                    **self.sampling.arguments,
                )
            )  # fmt: skip
        try:
            for members in zip(*streams):
                yield [step for step, _ in members], [run for _, run in members]
        finally:
            for stream in streams:
                stream.close()  # also when the run is stopped: hooks are gone

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Clocks:
        """The predictions of each model."""
        denoisers = self.models_from(load, self.precision)
        fitted = [probes_of(denoiser, self.probes) for denoiser in denoisers]
        for probe_set, layer, given in itertools.product(fitted, self.layer or (None,), self.condition):
            probe_set.probe(layer, self.view if layer else None, given)  # a mistake is named before there is a progress bar
        for _, runs in watch(self.stream(denoisers, fitted), total=self.sampling.steps + 1, unit="step"):
            last = runs
        return Clocks(
            tuple(
                ClockRun(**identity(denoiser), conditioned=probes.is_conditioned(denoiser), **run)
                for denoiser, run in zip(denoisers, last)
            )
        )

    def figures(self, result: Clocks) -> list[Any]:
        """One figure."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        colors = [figures.MEMBER_COLORS["timestep" if one.conditioned else "none"] for one in result.members]
        curves = figures.implied_level_curves(
            [vars(one) for one in result.members], [one.model for one in result.members], colors
        )
        return [curves]

    def summary(self, result: Clocks) -> str:
        """Predictions at a dozen evaluations."""
        rows = [
            {
                "model": one.model, "layer": row["name"], "fitted with": probes.told_label(row["told"]), "t": one.t[k],
                "true": one.true[k], "implied": row["mean"][k], "std over images": row["std"][k],
            }
            for one in result.members
            for row in one.layers
            for k in range(0, len(one.t), max(1, len(one.t) // 12))
        ]  # fmt: skip
        return f"{table(rows)}\n{self.count} images of {self.model or self.diffusers} ({self.sampling.flags}, seed {self.seed})"
