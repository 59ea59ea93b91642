"""What experiments share that measure both members of a pair on the same images. Depends on cards, model, request, zoo."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from explore import cards, zoo
from explore.denoiser import Denoiser
from explore.experiments.model import data_option, images_option, pair_option, seed_option, table
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet


@dataclass(frozen=True)
class OfMembers(Request):
    """An experiment with both members of a pair on held-out images, in float32.

    Attributes:
        pair: A pair of the checkpoint index.
        data: Source of images.
        images: Images of a split, at most.
        seed: First seed of the noise.
    """

    stores: ClassVar[bool] = True

    pair: str = pair_option()
    data: str = data_option()
    images: int = images_option(500)
    seed: int = seed_option()

    @abstractmethod
    def measure(self, denoisers: list[Denoiser], watch: Watch) -> dict[str, Any]:
        """Rows, and how they were measured."""

    @property
    def members(self) -> list[str]:
        """Names of the two models."""
        return zoo.members_of(self.pair)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> dict[str, Any]:
        """As :meth:`measure` returns it."""
        return self.measure([load(name, "float32") for name in self.members], watch)

    def record(self, result: dict[str, Any]) -> dict[str, Any]:
        """The rows, with how they were made."""
        return {"command": self.command, "request": self.to_json(), "members": self.members, **result}

    def store(self, result: dict[str, Any]) -> None:
        """Keeps the record in the metrics.json of both members."""
        for name in self.members:
            cards.store(name, self.verb, self.published.record(result))

    def summary(self, result: dict[str, Any]) -> str:
        """The rows as a table."""
        return table(result["rows"])
