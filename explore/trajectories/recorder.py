"""Recorded paths of both members from the same noise, in image space and at hook points, and their export as npz and JSON.

Depends on activations, comparison, data, denoiser, maps, measures, probes, samplers, seeds, values, zoo.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import math
import zipfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from explore.activations import VIEWS, capture, hook_points
from explore.data import to_uint8
from explore.denoiser import Denoiser
from explore.probes import TARGETS, ProbeSet
from explore.samplers import MAX_STEPS, SAMPLERS, Step, check_options, evaluations
from explore.seeds import check_seeds, keyed_noise
from explore.trajectories.comparison import MAX_IMAGES, Comparison, Frame, check_members, evenly
from explore.trajectories.maps import Map
from explore.trajectories.measures import DEFINITIONS, PARTED, Geometry, Surveyor
from explore.values import choose, whole_number
from explore.zoo import TITLES

MAP_POINTS = 4000  # limit for both members together: from 4096 points on, UMAP approximates the nearest neighbors
PATH_POINTS = 65  # limit for one path, evenly spaced, even if few images would allow more
SPACES = ("xt", "x0_hat")  # always recorded, in addition to the requested hook points


@dataclass(frozen=True)
class Trajectories:
    """The recorded paths of two members from the same noise.

    Attributes:
        pair: Name of the pair.
        members: Names of the two models.
        titles: Display names of the models.
        seeds: N seeds, one for each image.
        sampler: Key of ``SAMPLERS``.
        steps: Steps of the sampler.
        options: The sampler's options, such as ``eta``.
        view: Key of ``VIEWS``: the summary of an activation that is recorded.
        index: int64 (F,), the steps whose points are kept: a subset if there are many steps or images.
        t: float64 (F,), timesteps of the kept points, in [0, 1].
        times: float64 (S,), timesteps of all steps.
        points: Space -> float16 (2, N, F, ...): ``xt`` and ``x0_hat`` (..., C, H, W), and for each recorded hook point the
            ``view`` of its activation (..., D). At t = 0, ``x0_hat`` is the finished sample, and activations are those of the
            finished sample at t = 0.
        geometry: Space -> geometry of the paths over all steps, computed before the rounding to float16.
        implied_t: float64 (2, N, F), the timestep that corresponds to the implied noise level: the prediction of the best
            probe of each network; None without probes.
        classes: Name of a class for each member and image, from a classifier; None if none was run.
    """

    pair: str
    members: list[str]
    titles: list[str]
    seeds: list[int]
    sampler: str
    steps: int
    options: dict[str, Any]
    view: str
    index: Tensor
    t: Tensor
    times: Tensor
    points: dict[str, Tensor]
    geometry: dict[str, Geometry]
    implied_t: Tensor | None = None
    classes: list[list[str]] | None = None

    def pictures(self, space: str, image: int, frame: int) -> Tensor:
        """Returns ``xt`` or ``x0_hat`` of one image by both members at the kept point number ``frame``, uint8 (2, 3, H, W)."""
        choose("picture", space, SPACES)
        return to_uint8(self.points[space][:, image, frame].float())

    def samples(self) -> Tensor:
        """Returns the last kept states, float32 (2, N, 3, H, W): the finished samples, unless the run was stopped early."""
        return self.points["xt"][:, :, -1].float()

    def comparison(self) -> Comparison:
        """Returns the run as a :class:`Comparison`, for its image grid and animation."""
        record = Comparison(
            self.pair, self.members, self.titles, self.seeds, self.sampler, self.steps, self.options,
            evaluations(self.sampler, self.steps), samples=self.samples(),
        )  # fmt: skip
        for number, (index, t) in enumerate(zip(self.index.tolist(), self.t.tolist())):
            xt, x0_hat = (self.points[space][:, :, number].float() for space in SPACES)
            gaps = [(conditioned - agnostic).abs().mean().item() for conditioned, agnostic in (xt, x0_hat)]
            record.add(Frame(index, t, to_uint8(xt), to_uint8(x0_hat), *gaps), keep=True)
        return record

    def to_json(self) -> dict[str, Any]:
        """Returns the settings, and the measures of ``DEFINITIONS`` for each space: per image, and as median and quartiles."""
        spaces = {}
        for space, found in self.geometry.items():
            parted = found.divergence_step()
            steps = parted[parted >= 0].double()
            spaces[space] = {
                "members": {
                    name: {
                        what: _spread(getattr(found, what)[member])
                        for what in ("length", "detour", "turning", "curvature")
                    }
                    for member, name in enumerate(self.members)
                },
                "between": {"per_step": [_spread(row, each=False) for row in found.between]},
                "relative": {"per_step": [_spread(row, each=False) for row in found.relative]},
                "strangers": {"per_step": [_finite(value) for value in found.strangers.tolist()]},
                "parting": {
                    "threshold": PARTED,
                    "images_that_part": len(steps),
                    "images": len(parted),
                    "step": _spread(steps, each=False) if len(steps) else None,
                    "per_image": [step if step >= 0 else None for step in parted.tolist()],
                },
            }  # fmt: skip
        return {
            "pair": self.pair, "members": self.members, "sampler": self.sampler, "steps": self.steps, "options": self.options,
            "evaluations": evaluations(self.sampler, self.steps), "seeds": self.seeds, "view": self.view,
            "index": self.index.tolist(), "t": self.t.tolist(), "times": self.times.tolist(), "definitions": DEFINITIONS,
            "spaces": spaces, "classes": self.classes,
        }  # fmt: skip

    def to_npz(self, drawn: Map | None = None) -> bytes:
        """All data, for :meth:`from_npz`: ``xt``, ``x0_hat``, ``activation/NAME``, ``geometry/SPACE/FIGURE``, ``index``,
        ``t``, ``implied_t``, ``about`` (JSON); and ``map`` (2, N, F, dimensions), the coordinates of ``drawn``.
        """
        arrays = {
            name if name in SPACES else f"activation/{name}": points.numpy() for name, points in self.points.items()
        }  # fmt: skip
        arrays |= {name: getattr(self, name).numpy() for name in ("index", "t", "times")}
        for space, found in self.geometry.items():
            arrays |= {f"geometry/{space}/{entry.name}": getattr(found, entry.name).numpy() for entry in fields(Geometry)}
        if self.implied_t is not None:
            arrays["implied_t"] = self.implied_t.numpy()
        if drawn is not None:
            arrays["map"] = drawn.coordinates.numpy()
        about = {name: getattr(self, name) for name in _ABOUT} | ({"map": drawn.to_json()} if drawn else {})
        buffer = io.BytesIO()
        np.savez(buffer, **{**arrays, "about": np.array(json.dumps(about))})  # type: ignore[arg-type]
        return buffer.getvalue()

    @staticmethod
    def from_npz(file: str | Path | bytes) -> Trajectories:
        """Reads a file of :meth:`to_npz`, without unpickling.

        Raises:
            ValueError: For any other file.
        """
        try:
            with np.load(io.BytesIO(file) if isinstance(file, bytes) else file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            about = json.loads(str(arrays.pop("about")))
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            measured: dict[str, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith("geometry/"):
                    _, space, what = name.split("/")
                    measured.setdefault(space, {})[what] = tensor
            return Trajectories(
                **{name: about[name] for name in _ABOUT},
                index=tensors["index"], t=tensors["t"], times=tensors["times"], implied_t=tensors.get("implied_t"),
                points={space: tensors[space if space in SPACES else f"activation/{space}"] for space in measured},
                geometry={space: Geometry(**parts) for space, parts in measured.items()},
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, ValueError) as error:
            name = "the file" if isinstance(file, bytes) else str(file)
            raise ValueError(f"{name} does not hold recorded trajectories") from error


_ABOUT = ("pair", "members", "titles", "seeds", "sampler", "steps", "options", "view", "classes")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _spread(values: Tensor, each: bool = True) -> dict[str, Any]:
    """Returns median, quartiles and values; values that are not finite become null."""
    known = values[values.isfinite()]
    middle = known.quantile(torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)).tolist() if len(known) else [None] * 3
    found = dict(zip(("median", "low", "high"), middle))
    return found | {"per_image": [_finite(value) for value in values.tolist()]} if each else found


class Recorder:
    """Records both members' steps: measures every step, and keeps as many points as a map can show."""

    def __init__(self, about: dict[str, Any], denoisers: Sequence[Denoiser]) -> None:
        self.about, self.schedule = about, denoisers[0].schedule
        steps, count = about["steps"], len(about["seeds"])
        limit = max(2, min(PATH_POINTS, MAP_POINTS // (2 * count)))
        self.kept = set(evenly(steps + 1, limit))
        self.index: list[int] = []
        self.t: list[float] = []
        self.times: list[float] = []
        self.points: dict[str, list[Tensor]] = {}
        self.implied: list[Tensor] = []
        self.surveyors: dict[str, Surveyor] = {}
        self._last: Callable[[], None] | None = None  # measures the step that waits for it

    def add(self, both: Sequence[Step], measure: Callable[[], tuple[dict[str, Tensor], Tensor | None]]) -> None:
        """Adds one step, which is measured when the next one comes or the result is asked for: what shows it need not wait.

        Args:
            both: The members' Steps.
            measure: Returns the features by layer (2, N, D), and the implied t (2, N).
        """
        self.finish()
        self._last = functools.partial(self._measure, both, measure)

    def finish(self) -> None:
        """Measures the last step, if that has not been done."""
        last, self._last = self._last, None
        if last is not None:
            last()

    def _measure(self, both: Sequence[Step], measure: Callable[[], tuple[dict[str, Tensor], Tensor | None]]) -> None:
        features, implied = measure()
        spaces = {name: torch.stack([getattr(step, name) for step in both]).float().cpu() for name in SPACES} | features
        for name, points in spaces.items():
            self.surveyors.setdefault(name, Surveyor()).add(points.flatten(2))
        self.times.append(both[0].t)
        if both[0].index in self.kept:
            self.index.append(both[0].index)
            self.t.append(both[0].t)
            for name, points in spaces.items():
                self.points.setdefault(name, []).append(points.half())
            if implied is not None:
                self.implied.append(implied)

    def result(self) -> Trajectories:
        """Returns the paths so far.

        Raises:
            ValueError: Before the first step.
        """
        self.finish()
        if not self.index:
            raise ValueError("nothing has been recorded yet")
        return Trajectories(
            **self.about,
            index=torch.tensor(self.index),
            t=torch.tensor(self.t, dtype=torch.float64),
            times=torch.tensor(self.times, dtype=torch.float64),
            points={name: torch.stack(points, dim=2) for name, points in self.points.items()},
            geometry={name: surveyor.result() for name, surveyor in self.surveyors.items()},
            implied_t=torch.stack(self.implied, dim=2) if self.implied else None,
        )


@torch.no_grad()
def follow(
    denoisers: Sequence[Denoiser],
    seeds: Sequence[int],
    sampler: str = "heun",
    steps: int = 25,
    *,
    layers: Sequence[str] = (),
    view: str = "mean_std",
    probe_sets: Sequence[ProbeSet] | None = None,
    pair: str = "",
    titles: Sequence[str] = (TITLES["timestep"], TITLES["none"]),
    **options: Any,
) -> Generator[tuple[list[Step], Recorder], None, None]:
    """Samples with both members from the same noise and records their paths, step by step.

    The hooks stay on the networks while the generator is suspended: close it before you use the networks elsewhere.

    Args:
        denoisers: Two models with images of one shape and one schedule.
        seeds: 1 to 64 seeds, one for each image.
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        layers: Hook points whose activations are recorded; both networks must have them.
        view: ``mean`` or ``mean_std``: the summary of an activation that is recorded.
        probe_sets: The members' probes, to record the implied t.
        pair: Name of the pair, stored in the record.
        titles: Display names of the models.
        **options: The sampler's options (``eta``, ``clamp``) and ``start``.

    Yields:
        Both members' Steps, and the Recorder. Its ``result()`` returns the paths so far.

    Raises:
        ValueError: For a setting out of range, an unknown hook point, or an option that the sampler does not support.
    """
    check_members("trajectories", denoisers)
    seeds = check_seeds(seeds)
    whole_number("count", len(seeds), 1, MAX_IMAGES)
    check_options(sampler, options)
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    choose("view", view, ("mean", "mean_std"))
    for points in [hook_points(denoiser) for denoiser in denoisers] if layers else []:
        for layer in layers:
            choose("layer", layer, points)
    about = {
        "pair": pair, "members": [denoiser.name for denoiser in denoisers], "titles": list(titles), "seeds": list(seeds),
        "sampler": sampler, "steps": steps, "options": options, "view": view,
    }  # fmt: skip
    recorder = Recorder(about, denoisers)
    noise = keyed_noise(seeds, denoisers[0].shape)
    with contextlib.ExitStack() as stack:
        stack.callback(recorder.finish)  # what it waits with holds the activations of a step
        caches = []
        for number, denoiser in enumerate(denoisers):
            names = dict.fromkeys([*layers, *([probe_sets[number].best[0]] if probe_sets else [])])
            caches.append(stack.enter_context(capture(denoiser, list(names))))
        runs = [SAMPLERS[sampler](one, noise.to(one.device), steps, seeds=list(seeds), **options) for one in denoisers]
        for both in zip(*runs):
            if both[0].index == steps and (layers or probe_sets):
                for denoiser, step in zip(denoisers, both):
                    denoiser.output(step.xt, step.t)  # the sampler makes no call at t = 0: this one is for the activations
            recorder.add(both, functools.partial(_measured, [copy.copy(cache) for cache in caches], layers, view, probe_sets))
            yield list(both), recorder


@torch.no_grad()
def _measured(
    caches: Sequence[dict[str, Tensor]], layers: Sequence[str], view: str, probe_sets: Sequence[ProbeSet] | None
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Returns the features by layer (2, N, D), and the implied t (2, N) if there are probes, from captured activations."""
    features = {layer: torch.stack([VIEWS[view](cache[layer]).float().cpu() for cache in caches]) for layer in layers}
    return features, torch.stack([_implied(*one) for one in zip(probe_sets, caches)]) if probe_sets else None


def _implied(probe_set: ProbeSet, cache: dict[str, Tensor]) -> Tensor:
    """Returns the t (N,) that a model's best probe predicts from the last captured activations, in [1e-4, 1 - 1e-4]."""
    layer, view = probe_set.best
    reading = probe_set.probe().predict(VIEWS[view](cache[layer]).cpu()).numpy()
    t = torch.linspace(1e-4, 1 - 1e-4, 10_001, dtype=torch.float64)
    values = TARGETS[probe_set.target].values(probe_set.schedule, t)
    order = values.argsort()
    return torch.from_numpy(np.interp(reading, values[order].numpy(), t[order].numpy()))


def record(
    denoisers: Sequence[Denoiser], seeds: Sequence[int], sampler: str = "heun", steps: int = 25, *, progress: bool = False,
    **settings: Any,
) -> Trajectories:  # fmt: skip
    """Returns the paths of a complete run. Arguments as for :func:`follow`; ``progress`` shows a progress bar."""
    stream = follow(denoisers, seeds, sampler, steps, **settings)
    _, recorder = next(stream)  # checks the settings before the progress bar appears
    for _ in tqdm(stream, total=steps + 1, initial=1, unit="step", disable=not progress):
        pass
    return recorder.result()
