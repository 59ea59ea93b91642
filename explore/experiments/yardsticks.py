"""Yardsticks: distances of known images, the scale for the distances of samples. Depends on cards, evaluation, model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from explore import cards, evaluation, zoo
from explore.data import MAX_RESOLUTION
from explore.experiments.model import data_option, seed_option
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet
from explore.values import choice, text, whole


@dataclass(frozen=True)
class Yardsticks(Request):
    """Distances of training images and of damaged held-out images from the held-out images: a scale for other distances."""

    verb: ClassVar[str] = "yardsticks"
    reading: ClassVar[str] = "result.rows  # by set of images: Fréchet distance, KID, precision, recall"
    stores: ClassVar[bool] = True

    data: str = data_option()
    resolution: int = whole(1, MAX_RESOLUTION, "To which the images are brought, in pixels.", 32)
    features: str = choice("features", lambda: evaluation.FEATURES, "Space in which images are compared.", "cifar-resnet")
    count: int | None = whole(evaluation.MIN_IMAGES, 1_000_000, "Training images; by default as many as held-out ones.", None)
    weights: str | None = text("File of Inception's standard weights; by default they are fetched.", None, source=True)
    seed: int = seed_option()

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> evaluation.YardsticksResult:
        """As :func:`explore.evaluation.yardsticks` returns it."""
        return evaluation.yardsticks(
            self.data, self.resolution, features=self.features, count=self.count, seed=self.seed,
            weights=Path(self.weights) if self.weights else None,
        )  # fmt: skip

    def store(self, result: evaluation.YardsticksResult) -> None:
        """Keeps the record with the encoder, and rewrites the encoder's card."""
        cards.store_yardsticks(self.kept(result))
        cards.write_encoder_card()
