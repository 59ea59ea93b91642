"""LearningCurve: how the price of being time-agnostic changes with training. Depends on evaluation, figures, model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from explore import evaluation, zoo
from explore.evaluation import LearningCurves
from explore.experiments.model import data_option, images_option, seed_option
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet
from explore.results import table
from explore.values import text, whole


@dataclass(frozen=True)
class LearningCurve(Request):
    """Held-out loss of both members of a training run at each snapshot of their weights, by t.

    The gap is the loss of the time-agnostic minus that of the conditioned member, relative to the latter. The learning rate
    decays during a run, so an early snapshot is not a model that was trained for a short time.
    """

    verb: ClassVar[str] = "learning-curve"
    reading: ClassVar[str] = "[(row.images_seen, row.t, row.gap.value) for row in result.rows]"
    written: ClassVar[tuple[str, ...]] = ("learning-curve.json", "learning-curve.html")
    stores: ClassVar[bool] = True

    training: str = text("Folder of a training run, with weights in snapshots/IMAGES/MEMBER.", positional=True, source=True)
    data: str = data_option()
    images: int = images_option(200)
    noise_draws: int = whole(2, 100, "Noises for each image, 2 to 100.", 4)
    seed: int = seed_option()

    @property
    def holders(self) -> list[str]:
        """Both members."""
        return [folder.name for folder in evaluation.snapshots(Path(self.training)).popitem()[1]]

    def check_store(self) -> None:
        """Results are kept with members that have been released."""
        for name in self.holders:
            zoo.info(name)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> LearningCurves:
        """The losses and gaps."""
        return evaluation.learning_curves(
            Path(self.training), self.data, self.images, self.noise_draws, self.seed, watch=watch
        )  # fmt: skip

    def figures(self, result: LearningCurves) -> list[Any]:
        """The gap against images seen."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        return [figures.learning_curves(result.to_json()["rows"])]

    def summary(self, result: LearningCurves) -> str:
        """The gap by images seen (rows) and t (columns)."""
        by_seen: dict[int, dict[str, Any]] = {}
        for row in result.rows:
            by_seen.setdefault(row.images_seen, {"images seen": row.images_seen})[f"t = {row.t:g}"] = f"{row.gap:+.1%}"
        about = f"{result.images} images x {result.noise_draws} noise draws; 95 % intervals over both"
        return f"{table(by_seen.values())}\n{about}"
