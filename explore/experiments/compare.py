"""Compare: both members of a pair denoise the same noise. Depends on cards, request, trajectories, zoo."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from explore import cards, trajectories, zoo
from explore.denoiser import Denoiser
from explore.experiments.request import PRECISIONS_HELP, Load, Request, sampling_field
from explore.hardware import PRECISIONS
from explore.progress import Watch, quiet
from explore.samplers import Sampling
from explore.seeds import MAX_SEED, seed_range
from explore.trajectories import MAX_IMAGES, Comparison, Frame
from explore.values import choice, whole


@dataclass(frozen=True)
class Compare(Request):
    """Denoises the same noise with both members of a pair.

    The result is a :class:`explore.trajectories.Comparison`: the finished samples of both members, and at every step the mean
    absolute difference between the members of xt and of x0_hat, images in [-1, 1].
    """

    verb: ClassVar[str] = "compare"
    reading: ClassVar[str] = (
        "result.samples, result.frames[-1].xt  # of both members: float32 (2, N, 3, H, W) in about [-1, 1], and uint8"
    )
    most_images: ClassVar[int | None] = MAX_IMAGES
    written: ClassVar[tuple[str, ...]] = ("grid.png", "trajectory.gif", "compare.json")
    stores: ClassVar[bool] = True

    pair: str = choice("pair", zoo.pairs, "Name of a pair, as listed by `models`.", positional=True)
    sampling: Sampling = sampling_field()
    seed: int = whole(0, MAX_SEED, "First seed, 0 to 4294967295; image i has seed + i.", 0)
    count: int = whole(1, 10_000, "Images, 1 to 10,000.", 16)
    precision: str = choice("precision", lambda: PRECISIONS, PRECISIONS_HELP, "auto")

    def suits(self, **given: Any) -> Sampling:
        """What suits the pair's models."""
        return Sampling.for_model(zoo.info(self.members[0]), **given)

    @property
    def members(self) -> list[str]:
        """Names of the two models."""
        return zoo.members_of(self.pair)

    @property
    def seeds(self) -> list[int]:
        """One an image."""
        return seed_range(self.seed, self.count)

    def stream(
        self, denoisers: Sequence[Denoiser] | None = None, seeds: Sequence[int] | None = None
    ) -> Generator[tuple[Frame, Comparison], None, None]:
        """Each step of a run of at most 64 images, and the record so far.

        Args:
            denoisers: The members, if they are loaded already.
            seeds: Some of the images'; by default all.
        """
        loaded = [zoo.load(name, self.precision) for name in self.members] if denoisers is None else denoisers
        titles = [zoo.TITLES[zoo.info(name).time_conditioning] for name in self.members]
        return trajectories.compare(
            loaded, self.seeds if seeds is None else seeds, pair=self.pair, titles=titles, **self.sampling.arguments
        )

    def run(self, watch: Watch = quiet, load: Load = zoo.load) -> Comparison:
        """The finished comparison; more than 64 images go through in several runs, whose frames are the first one's."""
        denoisers = [load(name, self.precision) for name in self.members]
        record: Comparison | None = None
        chunks = [self.seeds[first : first + MAX_IMAGES] for first in range(0, self.count, MAX_IMAGES)]
        for chunk in chunks if len(chunks) == 1 else watch(chunks, unit="batch"):
            steps = self.stream(denoisers, chunk)
            shown = watch(steps, total=self.sampling.steps + 1, unit="step") if len(chunks) == 1 else steps
            [(_, part)] = deque(shown, maxlen=1)  # the record grows along the stream
            record = part if record is None else record.merge(part)
        assert record is not None  # count is at least 1
        return record

    def files(self, record: Comparison) -> dict[str, Any]:
        """File name -> content of what the command line writes."""
        return {"grid.png": record.to_png(), "trajectory.gif": record.to_gif(), "compare.json": self.record(record)}

    def downloads(self, record: Comparison) -> dict[str, bytes]:
        """Both members' samples, and every recorded frame."""
        from explore import figures  # imported here: the trainer runs where there is no plotly

        colors = [figures.MEMBER_COLORS[zoo.info(name).time_conditioning] for name in self.members]
        return {"grid.png": record.to_png(colors), "frames.npz": record.to_npz()}

    def kept(self, record: Comparison) -> dict[str, Any]:
        """The final figures."""
        return {
            **self.provenance, "members": record.members, "difference": record.differences[-1]["xt"],
            "standard_deviation": record.spread,
        }  # fmt: skip

    def store(self, record: Comparison) -> None:
        """Keeps the final figures in the members' metrics.json, an entry for each setting of the sampler."""
        for name in self.members:
            entries = cards.metrics(name).get("comparisons", {})
            cards.store(name, "comparisons", {**entries, self.sampling.flags: self.kept(record)})

    def summary(self, record: Comparison) -> str:
        """What the command line says at the end."""
        difference, (conditioned, agnostic) = record.differences[-1]["xt"], record.spread
        return (
            f"{self.pair} ({self.sampling.flags}, {self.count} images from seed {self.seed}): the members' samples differ by\n"
            f"{difference:.4f} on average (images in [-1, 1]; their standard deviation is {conditioned:.3f} and {agnostic:.3f})"
        )
