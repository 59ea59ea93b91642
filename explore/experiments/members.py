"""What experiments share that measure both members of a pair on the same images. Depends on model, request, zoo."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from explore import zoo
from explore.denoiser import Denoiser
from explore.experiments.model import data_option, images_option, pair_option, seed_option
from explore.experiments.request import Load, Request
from explore.progress import Watch, quiet
from explore.results import Stored


@dataclass(frozen=True)
class OfMembers(Request):
    """An experiment with both members of a pair on held-out images, in float32."""

    stores: ClassVar[bool] = True

    pair: str = pair_option()
    data: str = data_option()
    images: int = images_option(250)
    seed: int = seed_option()

    @abstractmethod
    def measure(self, denoisers: list[Denoiser], watch: Watch) -> Stored:
        """The comparison of the two models."""

    @property
    def members(self) -> list[str]:
        """Names of the two models."""
        return zoo.members_of(self.pair)

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Stored:
        """As :meth:`measure` returns it."""
        return self.measure([load(name, "float32") for name in self.members], watch)

    def record(self, result: Stored) -> dict[str, Any]:
        """The rows, with how they were made."""
        return super().record(result) | {"members": self.members}

    @property
    def holders(self) -> list[str]:
        """Both members."""
        return self.members
