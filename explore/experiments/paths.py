"""Trajectories: the paths of both members from the same noise, and one map of them.

Depends on encoder, figures, model, probes, trajectories, zoo.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from explore import activations, encoder, probes, trajectories, zoo
from explore.experiments.model import pair_option, seed_option
from explore.experiments.request import PRECISIONS_HELP, Load, Request, sampling_field
from explore.hardware import PRECISIONS
from explore.progress import Watch, quiet
from explore.results import table
from explore.samplers import Sampling
from explore.seeds import seed_range
from explore.trajectories import MAX_IMAGES, Map
from explore.values import Note, choice, choose, text, whole

COLORS = ("member", "t", "implied-t", "class")


@dataclass(frozen=True)
class Paths:
    """Recorded paths and a map of them.

    Attributes:
        paths: Of both members.
        drawn: The map, fitted on the union of both members' points.
        implied_t: How the implied t was read, or why it was not.
    """

    paths: trajectories.Trajectories
    drawn: Map
    implied_t: str


@dataclass(frozen=True)
class Trajectories(Request):
    """Records both members' paths from the same noise, and draws one map of them.

    trajectories.json holds path length, curvature, distance between the members by t, divergence step, each with its
    definition, and the trustworthiness of the map. map.png needs an installed Chromium. Class: of CIFAR-10, as the shipped
    encoder classifies the finished samples.
    """

    verb: ClassVar[str] = "trajectories"
    reading: ClassVar[str] = "result.paths.geometry, result.drawn.coordinates  # figures by space, and the map"
    most_images: ClassVar[int | None] = MAX_IMAGES
    written: ClassVar[tuple[str, ...]] = (
        "trajectories.npz", "trajectories.json", "trajectory.gif", "map.html", "map.png",
    )  # fmt: skip

    pair: str = pair_option()
    seed: int = seed_option()
    count: int = whole(1, MAX_IMAGES, "Images, 1 to 64.", 64)
    sampling: Sampling = sampling_field()
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")
    space: str = choice("space", lambda: (*trajectories.SPACES, "activation"), "Of the map; activation: see --layer.", "xt")
    layer: str | None = text("Hook point that is recorded too; by default one in the middle.", None)
    view: str = choice("view", lambda: ("mean", "mean_std"), "What is kept of an activation.", "mean_std")
    projection: str = choice("projection", lambda: trajectories.PROJECTIONS, "Of the map; its seed is --seed.", "pca")
    dimensions: int = whole(2, 3, "Of the map: 2 or 3.", 2)
    color: str = choice("color", lambda: COLORS, "Of the map's points.", "member")

    def check(self) -> None:
        """Classes are those of CIFAR-10."""
        dataset = zoo.info(self.members[0]).dataset
        if self.color == "class" and dataset != "cifar10":
            raise ValueError(f"color class is for models of cifar10: the encoder names its classes; {self.pair} is {dataset}")

    def suits(self, **given: Any) -> Sampling:
        """What suits the pair's models."""
        return Sampling.for_model(zoo.info(self.members[0]), **given)

    @property
    def members(self) -> list[str]:
        """Names of the two models."""
        return zoo.members_of(self.pair)

    @functools.cached_property
    def _colors(self) -> list[str]:
        from explore import figures  # imported here: the trainer runs where there is no plotly

        return [figures.MEMBER_COLORS[zoo.info(name).time_conditioning] for name in self.members]

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Paths:
        """The paths with their geometry, and the map."""
        denoisers = [load(name, self.precision) for name in self.members]
        points = list(activations.hook_points(denoisers[0]))
        layer = choose("layer", self.layer, points) if self.layer else points[len(points) // 2]
        probe_sets, said = None, "read by each member's best probe, fitted to know the picture alone"
        try:
            probe_sets = [probes.load(name) for name in self.members]
        except ValueError as error:  # everything else can be measured without probes
            said = str(error)
        if self.color == "implied-t" and probe_sets is None:
            raise ValueError(f"color implied-t needs probes: {said}")
        stream = trajectories.follow(
            denoisers, seed_range(self.seed, self.count), layers=[layer], view=self.view, probe_sets=probe_sets, pair=self.pair,
            titles=[zoo.TITLES[zoo.info(name).time_conditioning] for name in self.members], **self.sampling.arguments,
        )  # fmt: skip
        for _, recorder in watch(stream, total=self.sampling.steps + 1, unit="step"):
            last = recorder
        paths = last.result()
        if zoo.info(self.members[0]).dataset == "cifar10":
            paths = replace(paths, classes=[encoder.name_classes(samples) for samples in paths.samples()])
        space = layer if self.space == "activation" else self.space
        return Paths(paths, trajectories.project(paths, space, self.projection, self.dimensions, self.seed), said)

    def record(self, result: Paths) -> dict[str, Any]:
        """The geometry and what is known of the map, with how they were made."""
        return {
            **self.provenance, **result.paths.to_json(), "map": result.drawn.to_json(), "implied_t": result.implied_t,
            "classes_by": encoder.NAME if result.paths.classes else None,
            "note": "one training seed: part of a difference between the members is chance. Intervals: quartiles over images",
        }  # fmt: skip

    def _figure(self, result: Paths) -> Any:
        """The map, in color."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        paths, drawn = result.paths, result.drawn
        values = {"t": paths.t.expand(2, self.count, -1), "implied-t": paths.implied_t}.get(self.color)
        return figures.trajectory_map(
            drawn.coordinates.tolist(), paths.titles, paths.t.tolist(), self._colors, indices=paths.index.tolist(),
            values=None if values is None else values.tolist(), value_title=self.color.replace("-", " "),
            classes=paths.classes if self.color == "class" else None, at=len(paths.t) - 1, axes=drawn.axes(),
        )  # fmt: skip

    def files(self, result: Paths) -> dict[str, Any]:
        """Paths, figures, film and map; without a browser the static map is left out, with a note."""
        from explore import figures

        figure = self._figure(result)
        found: dict[str, Any] = {
            "trajectories.npz": result.paths.to_npz(result.drawn), "trajectories.json": self.record(result),
            "trajectory.gif": result.paths.comparison().to_gif(self._colors), "map.html": figures.page(figure),
        }  # fmt: skip
        if figures.browser():
            return found | {"map.png": figures.static(figure)}
        warnings.warn(f"map.png is left out: {figures.NO_BROWSER}", Note, stacklevel=2)
        return found

    def downloads(self, result: Paths) -> dict[str, bytes]:
        """Paths with the map, and the map as a page."""
        from explore import figures

        page = figures.page(self._figure(result)).encode()
        return {"trajectories.npz": result.paths.to_npz(result.drawn), "map.html": page}

    def summary(self, result: Paths) -> str:
        """Medians over the images, and how far the map can be trusted."""
        drawn = result.drawn
        rows = [
            {"space": name, "model": member}
            | {what: figures[what]["median"] for what in ("length", "detour", "turning", "curvature")}
            | {"parting": f"{found['parting']['images_that_part']} of {self.count}"}
            | {"at step": f"{found['parting']['step']['median']:g}" if found["parting"]["step"] else "never"}
            for name, found in result.paths.to_json()["spaces"].items()
            for member, figures in found["members"].items()
        ]
        share = drawn.about.get("variance")
        kept = f", {sum(share):.1%} of the variance" if share else f", of {drawn.about['reduced_to']} principal components"
        return (
            f"{table(rows)}\nmedians over {self.count} images ({self.sampling.flags}, seed {self.seed}); parting is the\n"
            f"{trajectories.DEFINITIONS['parting'].partition(';')[0]}\n"
            f"map of {drawn.space}: {self.projection}{kept}, trustworthiness {drawn.trustworthiness:.3f}"
        )
