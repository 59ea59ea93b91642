"""Runs of the tab Trajectories: the recorded paths of each session, and the code that reproduces them."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from app import pairs, runs, snippets, works
from explore import encoder, trajectories
from explore.activations import hook_points
from explore.experiments import Compare
from explore.probes import ProbeSet
from explore.trajectories import Map, Trajectories

VIEW = "mean_std"  # what is recorded of each activation
KIND = "paths"
UMAP_COMPILED = threading.Event()


@dataclass
class Run(runs.Run):
    """The last run of a session: its recorded paths and their cached maps."""

    paths: Trajectories | None = None
    maps: dict[tuple[str, str, int], Map] = field(default_factory=dict)

    def complete(self) -> bool:
        """Whether the paths are recorded."""
        return self.paths is not None

    def take(self, other: runs.Run) -> None:
        """Takes over the paths and maps of a complete run with the same settings."""
        assert isinstance(other, Run)
        self.paths, self.maps, self.seconds, self.again = other.paths, dict(other.maps), other.seconds, True

    def bytes(self) -> int:
        """Size of the recorded points of the complete run, which are float16."""
        settings = self.settings
        denoiser = pairs.denoisers(settings.pair)[0]
        features = 2 * sum(point.channels for point in hook_points(denoiser).values())
        kept = min(
            settings.sampling.steps + 1, trajectories.PATH_POINTS, max(2, trajectories.MAP_POINTS // (2 * settings.count))
        )
        return 2 * 2 * kept * settings.count * (2 * math.prod(denoiser.shape) + features)


RUNS = runs.Runs(Run)


def held(session: str) -> Run | None:
    """The session's run, or None if its paths are not recorded."""
    run = RUNS.get(session)
    return run if isinstance(run, Run) and run.paths is not None else None


def finished(session: str) -> bool:
    """Whether the session's last recording was completed, without an error or a stop."""
    work = works.WORKS.get(session, KIND)
    return work is not None and work.ended.is_set() and work.done == 1 and held(session) is not None


def clocks(pair: str) -> list[ProbeSet] | None:
    """The probes of both members, or None if they are missing."""
    with contextlib.suppress(ValueError):
        return pairs.clocks(pair)
    return None


def layers(pair: str) -> list[str]:
    """Hook points that both members have, in the order of evaluation."""
    first, second = (hook_points(denoiser) for denoiser in pairs.denoisers(pair))
    return [name for name in first if name in second]


def stream(settings: Compare) -> Iterator[tuple[list[Any], trajectories.Recorder]]:
    """Runs both members on copies of their networks. Yields their Steps and the recorder."""
    pair = settings.pair
    return trajectories.follow(
        pairs.copies(pair), settings.seeds, layers=layers(pair), view=VIEW, clocks=clocks(pair), pair=pair,
        titles=pairs.titles(pair), **settings.sampling.arguments,
    )  # fmt: skip


def finish(recorder: trajectories.Recorder) -> Trajectories:
    """The recorded paths; for CIFAR-10 models, with the classes that the shipped encoder predicts."""
    paths = recorder.result()
    if pairs.members(paths.pair)[0].dataset == "cifar10":
        with contextlib.suppress(ValueError):  # no encoder is shipped
            paths = replace(paths, classes=[encoder.name_classes(samples) for samples in paths.samples()])
    return paths


def as_code(settings: Compare, drawn: Map) -> str:
    """Python code that reproduces the paths and the map."""
    pair, hooked = settings.pair, [drawn.space] if drawn.space in layers(settings.pair) else []
    seeds = snippets.seeds(settings.seed, settings.count)
    paths = snippets.call(
        "trajectories.record", "=models", seeds, layers=hooked, view=VIEW, **settings.sampling.arguments
    )  # fmt: skip
    drawing = snippets.call(
        "trajectories.project", "=paths", drawn.space, drawn.projection, drawn.coordinates.shape[-1], seed=0
    )
    return f"""from explore import trajectories, zoo
from explore.seeds import seed_range
{snippets.loaded(pair)}
paths = {paths}
drawn = {drawing}
drawn.coordinates  # of both members, by image and step
"""


@functools.cache
def compile_umap() -> None:
    """Starts to compile UMAP in a background thread, once, because the next request may be a UMAP map.

    Not done at the start of the app, where it would slow down the first run of any other tab.
    """

    def work() -> None:
        points = torch.randn(100, 60, generator=torch.Generator().manual_seed(0))
        trajectories.umap(points, 2, 0)
        UMAP_COMPILED.set()

    threading.Thread(target=work, name="umap", daemon=True).start()


def nearest(paths: Trajectories, step: float) -> int:
    """Index of the recorded point nearest to a step."""
    return int((paths.index - float(step)).abs().argmin())


def chosen_image(paths: Trajectories, image: float) -> int:
    """The number of the chosen image, clamped to 1 to N, or 0 for none."""
    return min(max(int(image or 0), 0), len(paths.seeds))
