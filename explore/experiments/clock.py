"""Clock: the noise level that a model implies while it samples. Depends on figures, model, probes, samplers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from explore import probes, zoo
from explore.activations import VIEWS
from explore.denoiser import Denoiser
from explore.experiments.model import OfModel, identity, probes_of, probes_option, seed_option
from explore.experiments.request import PRECISIONS_HELP, Load, sampling_field
from explore.files import to_json
from explore.hardware import PRECISIONS
from explore.probes import ProbeSet
from explore.progress import Watch, quiet
from explore.results import table
from explore.samplers import Sampling, Step
from explore.seeds import seed_range
from explore.trajectories import MAX_IMAGES
from explore.values import choice, real, several, text, whole


@dataclass(frozen=True)
class Clock(OfModel):
    """Reads the implied noise level at every evaluation of a sampling run, beside the true one.

    Attributes:
        probes: Folder of fitted probes; by default the model's own.
        layer: Hook points; by default the best one, in the view in which it is best.
        view: A key of ``VIEWS``, of the layers that are named.
        clock_offset: The network is given t plus this; the sampler keeps t.
        seed: Seed of the first image.
        count: Images, 1 to 64.
        sampling: The sampler with its settings.
        precision: ``auto``, ``float32`` or ``bfloat16``.
    """

    verb: ClassVar[str] = "clock"
    reading: ClassVar[str] = 'result["t"], result["true"], result["layers"]  # by evaluation; mean and std over the images'
    written: ClassVar[tuple[str, ...]] = ("clock.json", "clock.html")

    probes: str | None = probes_option()
    layer: tuple[str, ...] | None = several(text("Hook point; `layers` lists them.", None))
    view: str = choice("view", lambda: VIEWS, "Features of the layers named.", "mean")
    clock_offset: float = real(-1, 1, "Give the network t plus this; the sampler keeps t.", 0.0)
    seed: int = seed_option()
    count: int = whole(1, MAX_IMAGES, "Images, 1 to 64.", 16)
    sampling: Sampling = sampling_field()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    def stream(self, denoiser: Denoiser, fitted: ProbeSet) -> Iterator[tuple[Step, dict[str, Any]]]:
        """Each step of the run, and the predictions so far."""
        return probes.clock_stream(
            denoiser, fitted, seed_range(self.seed, self.count), layers=self.layer, view=self.view,
            offset=self.clock_offset, **self.sampling.arguments,
        )  # fmt: skip

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> dict[str, Any]:
        """As :func:`explore.probes.clock_stream` yields it at the end, with the model."""
        denoiser = self.model_from(load, self.precision)
        fitted = probes_of(denoiser, self.probes)
        for layer in self.layer or ():
            fitted.probe(layer, self.view)  # a mistake is named before there is a progress bar
        for _, run in watch(self.stream(denoiser, fitted), total=self.sampling.steps + 1, unit="step"):
            last = run
        return {**identity(denoiser), "conditioned": probes.is_conditioned(denoiser), **last}

    def record(self, result: dict[str, Any]) -> dict[str, Any]:
        """The readings, with how they were made."""
        settings = {"seed": self.seed, "count": self.count, **self.sampling.arguments}
        return {"command": self.command, "request": self.to_json(), **settings, **result}

    def files(self, result: dict[str, Any]) -> dict[str, Any]:
        """The record and a figure."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        color = figures.MEMBER_COLORS["timestep" if result["conditioned"] else "none"]
        curves = figures.clock_curves([result], [result["model"]], [color])
        return {"clock.json": to_json(self.record(result)) + "\n", "clock.html": figures.page(curves)}

    def summary(self, result: dict[str, Any]) -> str:
        """Readings at a dozen evaluations."""
        rows = [
            {"layer": row["name"], "t": t, "true": true, "implied": mean, "std over images": std}
            for row in result["layers"]
            for t, true, mean, std in list(zip(result["t"], result["true"], row["mean"], row["std"]))[
                :: max(1, len(result["t"]) // 12)
            ]
        ]
        about = f"{self.count} images of {result['model']} ({self.sampling.flags}, seed {self.seed})"
        return f"{table(rows)}\n{about}"
