"""The stream of Steps, recorded: two members of a pair from the same noise, what they did, and maps of the paths they took.

``compare`` runs both members in step; ``Comparison`` is the record, with the difference between the members at every
step, and knows how to save itself as PNG, GIF, npz and JSON. ``follow`` and ``record`` keep the paths themselves, in image
space and in the space of any hook point: ``Trajectories`` holds them with their geometry, ``project`` draws one map of both
members. Depends on activations, data, denoiser, images, probes, samplers, seeds, zoo; scikit-learn and UMAP are imported where
they are used.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import threading
import warnings
import zipfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from explore.activations import VIEWS, capture, hook_points
from explore.data import to_uint8
from explore.denoiser import Denoiser
from explore.images import channels_last, grid, png, side_by_side
from explore.probes import TARGETS, Clock
from explore.samplers import MAX_STEPS, SAMPLERS, Step, check_options, evaluations
from explore.seeds import check_seeds, keyed_noise
from explore.values import choose, plain_number, whole_number
from explore.zoo import TITLES

# Frames kept of a long run, evenly spread: 64 images of 32 px in 128 frames are 100 MB for both members.
MAX_FRAMES = 128
GIF_FRAMES = 60
GAINS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of difference images; beyond 8, rounding to grey levels would show
MAX_IMAGES = 64  # images recorded and shown at once


@dataclass(frozen=True)
class Frame:
    """Both members at one step.

    Attributes:
        index: 0 to ``steps``.
        t: Time of the states.
        xt: uint8 (2, N, 3, H, W), states clamped to [-1, 1] for display.
        x0_hat: uint8 (2, N, 3, H, W), the estimates of the clean image.
        difference_xt: Mean absolute difference between the members' states, on the scale of [-1, 1].
        difference_x0: The same for the estimates.
    """

    index: int
    t: float
    xt: Tensor
    x0_hat: Tensor
    difference_xt: float
    difference_x0: float


@dataclass
class Comparison:
    """A recorded run of two members from the same noise.

    Attributes:
        pair: Name of the pair.
        members: Names of the two models.
        titles: What each is, in words.
        seeds: One an image.
        sampler: Key of ``SAMPLERS``.
        steps: Steps of the sampler.
        options: The sampler's options, such as ``eta``.
        evaluations: Calls of each network.
        differences: Per step: index, t, difference of xt and of x0_hat.
        frames: The recorded frames, at most ``MAX_FRAMES``; the first and the last step are always among them.
        samples: Finished samples as the samplers gave them, float32 (2, N, 3, H, W).
    """

    pair: str
    members: list[str]
    titles: list[str]
    seeds: list[int]
    sampler: str
    steps: int
    options: dict[str, Any]
    evaluations: int
    differences: list[dict[str, float]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    samples: Tensor | None = None

    def add(self, frame: Frame, keep: bool) -> None:
        """Takes a frame's figures, and the frame itself if ``keep``."""
        self.differences.append({"index": frame.index, "t": frame.t, "xt": frame.difference_xt, "x0_hat": frame.difference_x0})
        if keep:
            self.frames.append(frame)

    def merge(self, other: Comparison) -> Comparison:
        """Takes in a run of the same settings on other seeds: figures are over all images, frames stay the first run's."""
        assert self.samples is not None and other.samples is not None  # both are finished
        share = len(other.seeds) / (len(self.seeds) + len(other.seeds))
        for row, added in zip(self.differences, other.differences):
            for part in ("xt", "x0_hat"):
                row[part] += share * (added[part] - row[part])
        self.samples = torch.cat([self.samples, other.samples], dim=1)
        self.seeds = self.seeds + other.seeds
        return self

    @property
    def spread(self) -> list[float]:
        """Standard deviation of each member's finished samples over all pixels; about 0.5 for photographs in [-1, 1]."""
        assert self.samples is not None  # the run is finished
        return [part.std().item() for part in self.samples]

    def to_json(self) -> dict[str, Any]:
        """Settings and differences; differences are mean absolute, on the scale of [-1, 1]."""
        return {
            "pair": self.pair,
            "members": self.members,
            "sampler": self.sampler,
            "steps": self.steps,
            "options": self.options,
            "evaluations": self.evaluations,
            "seeds": self.seeds,
            "standard_deviation": self.spread if self.samples is not None else None,
            "difference": "mean absolute difference between the members, images in [-1, 1]",
            "per_step": self.differences,
        }

    def to_npz(self) -> bytes:
        """``t``, ``index`` (F,); ``xt``, ``x0_hat`` uint8 (2, F, N, H, W, 3); ``images`` uint8 (2, N, H, W, 3); ``seeds``."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            members=np.array(self.members),
            seeds=np.array(self.seeds, dtype=np.uint32),
            index=np.array([frame.index for frame in self.frames]),
            t=np.array([frame.t for frame in self.frames]),
            xt=channels_last(torch.stack([frame.xt for frame in self.frames], dim=1)),
            x0_hat=channels_last(torch.stack([frame.x0_hat for frame in self.frames], dim=1)),
            images=channels_last(self.frames[-1].xt),
        )
        return buffer.getvalue()

    def to_png(self, colours: Sequence[str] = ("black", "black")) -> bytes:
        """The last recorded states of both members (the samples, if finished) side by side, titles in ``colours``."""
        last = self.frames[-1]
        rows = [[grid(last.xt[0]), grid(last.xt[1])]]
        return png(side_by_side(self.titles, rows, caption=self._caption(last), colours=colours))

    def to_gif(self, colours: Sequence[str] = ("black", "black")) -> bytes:
        """Both members' states (upper row) and estimates (lower row) over time; the last frame stays for two seconds."""
        picked = _evenly(len(self.frames), GIF_FRAMES)
        pictures = []
        for frame in (self.frames[i] for i in picked):
            scale = 2 if len(self.seeds) <= 36 else 1
            rows = [[grid(part[0], scale), grid(part[1], scale)] for part in (frame.xt, frame.x0_hat)]
            caption = self._caption(frame)
            pictures.append(side_by_side(self.titles, rows, caption, rows=("xt", "x0_hat"), colours=colours))
        buffer = io.BytesIO()
        durations = [max(40, 4000 // len(pictures))] * (len(pictures) - 1) + [2000]
        palettes = [picture.quantize(256, dither=Image.Dither.NONE) for picture in pictures]
        palettes[0].save(
            buffer, format="GIF", save_all=True, append_images=palettes[1:], duration=durations, loop=0, optimize=False
        )
        return buffer.getvalue()

    def _caption(self, frame: Frame) -> str:
        return f"{self.sampler}, step {frame.index} of {self.steps}, t = {frame.t:.3f}"


def compare(
    denoisers: Sequence[Denoiser],
    seeds: Sequence[int],
    sampler: str = "heun",
    steps: int = 25,
    *,
    pair: str = "",
    titles: Sequence[str] = (TITLES["timestep"], TITLES["none"]),
    **options: Any,
) -> Generator[tuple[Frame, Comparison], None, None]:
    """Samples with two members from the same noise, step by step.

    Args:
        denoisers: Two models with images of one shape and one schedule.
        seeds: N seeds, one an image; they fix the starting noise and the noise of every stochastic step.
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        pair: Recorded.
        titles: What each member is, in words.
        **options: The sampler's options (``eta``, ``clamp``) and ``start``.

    Yields:
        Each step's Frame and the Comparison so far (one object that grows).

    Raises:
        ValueError: For a setting that is out of range or that the sampler does not have.
    """
    _check_members("compare", denoisers)
    seeds = check_seeds(seeds)
    if len(seeds) < 1:
        raise ValueError("count must be at least 1")
    check_options(sampler, options)
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    noise = keyed_noise(seeds, denoisers[0].shape)
    record = Comparison(
        pair=pair,
        members=[denoiser.name for denoiser in denoisers],
        titles=list(titles),
        seeds=list(seeds),
        sampler=sampler,
        steps=steps,
        options=options,
        evaluations=evaluations(sampler, steps),
    )
    runs = [SAMPLERS[sampler](denoiser, noise, steps, seeds=seeds, **options) for denoiser in denoisers]
    kept = set(_evenly(steps + 1, MAX_FRAMES))
    for both in zip(*runs):
        frame = _frame(both)
        record.add(frame, keep=frame.index in kept)
        if frame.index == steps:
            record.samples = torch.stack([step.xt for step in both])
        yield frame, record


def _check_members(what: str, denoisers: Sequence[Denoiser]) -> None:
    if len(denoisers) != 2 or denoisers[0].shape != denoisers[1].shape:
        raise ValueError(f"{what} takes two models with images of one shape")
    if denoisers[0].schedule is not denoisers[1].schedule:
        raise ValueError(f"{what} takes two models of one schedule: their steps would be at different noise levels")


def _frame(steps: Sequence[Step]) -> Frame:
    told, untold = steps
    return Frame(
        index=told.index,
        t=told.t,
        xt=to_uint8(torch.stack([told.xt, untold.xt])),
        x0_hat=to_uint8(torch.stack([told.x0_hat, untold.x0_hat])),
        difference_xt=(told.xt - untold.xt).abs().mean().item(),
        difference_x0=(told.x0_hat - untold.x0_hat).abs().mean().item(),
    )


def difference_image(frame: Frame, of: str = "xt", gain: float = 0.5) -> Tensor:
    """Signed difference between the members, untold minus told, as uint8 (N, 3, H, W) around mid-grey.

    At ``gain`` 0.5 every difference fits; at a higher one what does not fit is cut off.
    """
    choose("picture", of, ("xt", "x0_hat"))
    images = getattr(frame, of).float()
    return ((images[1] - images[0]) * gain + 128).floor().clamp(0, 255).to(torch.uint8)


def difference_gain(frame: Frame, of: str = "xt") -> float:
    """The largest of ``GAINS`` at which 99 of 100 values of :func:`difference_image` fit."""
    choose("picture", of, ("xt", "x0_hat"))
    images = getattr(frame, of).int()
    counts = torch.bincount((images[1] - images[0]).abs().flatten(), minlength=256)
    large = int((counts.cumsum(0) >= 0.99 * counts.sum()).nonzero()[0])  # the 99th percentile, in grey levels
    return max(gain for gain in GAINS if gain == GAINS[0] or gain * large <= 127)


def _evenly(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``range(count)``, evenly spread, first and last included."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})


# Paths: every state of both members, their geometry, and maps of them --------------------------------------------------

MAP_POINTS = 4000  # of both members' paths together: UMAP compares all pairs of fewer than 4096 points, else it guesses
PATH_POINTS = 65  # of one path, evenly spread, when few images would allow more
PARTED = 0.1  # of the distance between unrelated pictures
NEIGHBOURS = 15
REDUCED = 50  # dimensions that UMAP is given
SPACES = ("xt", "x0_hat")  # always recorded; beside them the hook points that were asked for

DEFINITIONS = {
    "distance unit": "root mean square per value; images have values in [-1, 1], activations their own unit",
    "length": "sum of the distances between consecutive steps, over all steps of the sampler",
    "detour": "length over the distance from the first state to the last; 1 is a straight line",
    "turning": "sum of the angles between consecutive steps, in radians",
    "curvature": "turning over the length that it is spread over (half of the first and last step left out), in radians per "
    "unit of length; a circle of radius r has 1 / r",
    "between": "distance between the members at a step, for each image",
    "relative": "distance between the members over sqrt(|a|^2 + |b|^2): 0 where equal, 1 where unrelated (orthogonal)",
    "strangers": "distance between two different images of one member at that step, the yardstick for `between`",
    "parting": f"first step from which on `relative` stays at {PARTED} or above to the end; null for images that never part",
}


@dataclass(frozen=True)
class Geometry:
    """Paths of N images by both members, measured in one space at every step of the sampler; see ``DEFINITIONS``.

    Attributes:
        length: float64 (2, N), root mean square per value, as all distances here.
        chord: float64 (2, N), from the first point to the last.
        turning: float64 (2, N), radians, the sum over all inner points.
        arc: float64 (2, N), the length that the turning is spread over: ``length`` without half of its first and last step.
        between: float64 (S, N), distance between the members at each of the S points of the path.
        relative: float64 (S, N), the same from 0 (equal) over 1 (orthogonal) to sqrt(2) (opposite), free of scale.
        strangers: float64 (S,), distance between two images of one member; nan for a single image.
    """

    length: Tensor
    chord: Tensor
    turning: Tensor
    arc: Tensor
    between: Tensor
    relative: Tensor
    strangers: Tensor

    @property
    def curvature(self) -> Tensor:
        """(2, N), radians per unit of length; 0 where nothing moves."""
        return torch.where(self.arc > 0, self.turning / self.arc.clamp(min=1e-300), 0.0)

    @property
    def detour(self) -> Tensor:
        """(2, N), length over chord, at least 1; nan where the path ends where it began."""
        return self.length / self.chord

    def parting(self, threshold: float = PARTED) -> Tensor:
        """int64 (N,): the first step from which on ``relative`` stays at ``threshold`` or above; -1 if there is none."""
        stays = (self.relative >= threshold).long().flip(0).cumprod(0).sum(0)  # how many points at the end
        return torch.where(stays > 0, len(self.relative) - stays, -1)


class _Surveyor:
    """Measures paths while they pass: only the first and the last two points are held."""

    def __init__(self) -> None:
        self.first: Tensor | None = None
        self.last: Tensor | None = None
        self.segment: Tensor | None = None  # of the last step, (2, N, D)
        self.length, self.turning, self.arc = (torch.zeros(()) for _ in range(3))
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, points: Tensor) -> None:
        """Takes the next point (2, N, D) of every path."""
        points = points.double()
        told, untold = points
        gap = (told - untold).square().mean(-1)
        size = told.square().mean(-1) + untold.square().mean(-1)
        apart = (2 * points.var(1).mean()).sqrt() if points.shape[1] > 1 else torch.tensor(math.nan, dtype=torch.float64)
        self.rows.append((gap.sqrt(), (gap / size.clamp(min=1e-300)).sqrt(), apart))
        if self.last is not None:
            segment = points - self.last
            width = _size(segment)
            self.length = self.length + width
            if self.segment is not None:
                before = _size(self.segment)
                # Kahan's angle: accurate for the small ones, where the arc cosine of a scalar product is not.
                a, b = self.segment * width[..., None], segment * before[..., None]
                self.turning = self.turning + 2 * torch.atan2(_size(a - b), _size(a + b))
                self.arc = self.arc + (before + width) / 2
            self.segment = segment
        self.first = points if self.first is None else self.first
        self.last = points

    def result(self) -> Geometry:
        """Of the points so far."""
        assert self.first is not None and self.last is not None  # at least one point was added
        nothing = torch.zeros(self.first.shape[:2], dtype=torch.float64)
        between, relative, strangers = (torch.stack(column) for column in zip(*self.rows))
        return Geometry(
            length=nothing + self.length, chord=_size(self.last - self.first), turning=nothing + self.turning,
            arc=nothing + self.arc, between=between, relative=relative, strangers=strangers,
        )  # fmt: skip


def _size(vectors: Tensor) -> Tensor:
    """Root mean square over the last axis."""
    return vectors.square().mean(-1).sqrt()


def geometry(points: Tensor) -> Geometry:
    """Measures paths that are at hand as a whole.

    Args:
        points: (2, N, S, D): for two members N paths of S points each.

    Raises:
        ValueError: For another shape, or no points.
    """
    if points.ndim != 4 or points.shape[0] != 2 or min(points.shape) < 1:
        raise ValueError(f"points must have the shape (2, images, steps, values), got {tuple(points.shape)}")
    surveyor = _Surveyor()
    for step in points.unbind(2):
        surveyor.add(step)
    return surveyor.result()


@dataclass(frozen=True)
class Trajectories:
    """The recorded paths of two members from the same noise.

    Attributes:
        pair: Name of the pair.
        members: Names of the two models.
        titles: What each is, in words.
        seeds: N, one an image.
        sampler: Key of ``SAMPLERS``.
        steps: Steps of the sampler.
        options: The sampler's options, such as ``eta``.
        view: Key of ``VIEWS``: what is kept of an activation.
        index: int64 (F,), the steps whose points are kept; with many steps or images not all of them.
        t: float64 (F,), their times.
        times: float64 (S,), the times of all steps, kept or not.
        points: Space -> float16 (2, N, F, ...): ``xt`` and ``x0_hat`` (..., C, H, W), and for each recorded hook point the
            ``view`` of its activation (..., D). At t = 0 ``x0_hat`` is the finished sample, and an activation is what the
            network makes of it when told 0.
        geometry: Space -> what was measured at every step, in full precision.
        implied_t: float64 (2, N, F): the time that each network's best probe reads, as far as it reads it from the picture
            alone; None without probes.
        classes: For each member and image the name of a class, from whoever named it; None if nobody did.
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
        """uint8 (2, 3, H, W): the ``xt`` or ``x0_hat`` of one image by both members at the kept point number ``frame``."""
        choose("picture", space, SPACES)
        return to_uint8(self.points[space][:, image, frame].float())

    def samples(self) -> Tensor:
        """The last kept states, float32 (2, N, 3, H, W); the finished samples if the run was not cut short."""
        return self.points["xt"][:, :, -1].float()

    def comparison(self) -> Comparison:
        """The same run as a :class:`Comparison`, for its grid and film."""
        record = Comparison(
            self.pair, self.members, self.titles, self.seeds, self.sampler, self.steps, self.options,
            evaluations(self.sampler, self.steps), samples=self.samples(),
        )  # fmt: skip
        for number, (index, t) in enumerate(zip(self.index.tolist(), self.t.tolist())):
            xt, x0_hat = (self.points[space][:, :, number].float() for space in SPACES)
            gaps = [(told - untold).abs().mean().item() for told, untold in (xt, x0_hat)]
            record.add(Frame(index, t, to_uint8(xt), to_uint8(x0_hat), *gaps), keep=True)
        return record

    def to_json(self) -> dict[str, Any]:
        """Settings, and for each space the figures of ``DEFINITIONS``: for each image, and as median and quartiles."""
        spaces = {}
        for space, found in self.geometry.items():
            parted = found.parting()
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
        """Everything, for :meth:`from_npz`: ``xt``, ``x0_hat``, ``activation/NAME``, ``geometry/SPACE/FIGURE``, ``index``,
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
        """Reads what :meth:`to_npz` wrote; nothing in the file is executed.

        Raises:
            ValueError: If it is something else.
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
    """Median, lower and upper quartile, and the values themselves; what is not a number is null."""
    known = values[values.isfinite()]
    middle = known.quantile(torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)).tolist() if len(known) else [None] * 3
    found = dict(zip(("median", "low", "high"), middle))
    return found | {"per_image": [_finite(value) for value in values.tolist()]} if each else found


class Recorder:
    """Takes both members' steps as they come, measures all of them, and keeps as many as a map can show."""

    def __init__(self, about: dict[str, Any], denoisers: Sequence[Denoiser]) -> None:
        self.about, self.schedule = about, denoisers[0].schedule
        steps, count = about["steps"], len(about["seeds"])
        limit = max(2, min(PATH_POINTS, MAP_POINTS // (2 * count)))
        self.kept = set(_evenly(steps + 1, limit))
        self.index: list[int] = []
        self.t: list[float] = []
        self.times: list[float] = []
        self.points: dict[str, list[Tensor]] = {}
        self.implied: list[Tensor] = []
        self.surveyors: dict[str, _Surveyor] = {}

    def add(self, both: Sequence[Step], features: dict[str, Tensor], implied: Tensor | None) -> None:
        """Takes one step: the members' Steps, layer -> (2, N, D), and the implied t (2, N)."""
        spaces = {name: torch.stack([getattr(step, name) for step in both]).float().cpu() for name in SPACES} | features
        for name, points in spaces.items():
            self.surveyors.setdefault(name, _Surveyor()).add(points.flatten(2))
        self.times.append(both[0].t)
        if both[0].index in self.kept:
            self.index.append(both[0].index)
            self.t.append(both[0].t)
            for name, points in spaces.items():
                self.points.setdefault(name, []).append(points.half())
            if implied is not None:
                self.implied.append(implied)

    def result(self) -> Trajectories:
        """The paths so far.

        Raises:
            ValueError: Before the first step.
        """
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
    clocks: Sequence[Clock] | None = None,
    pair: str = "",
    titles: Sequence[str] = (TITLES["timestep"], TITLES["none"]),
    **options: Any,
) -> Generator[tuple[list[Step], Recorder], None, None]:
    """Samples with two members from the same noise and records their paths, step by step.

    While it is suspended its hooks stay on the networks: close it before they are put to other uses.

    Args:
        denoisers: Two models with images of one shape and one schedule.
        seeds: N seeds, 1 to 64 of them, one an image.
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        layers: Hook points whose activations are recorded; both networks must have them.
        view: ``mean`` or ``mean_std``: what is kept of an activation.
        clocks: The members' probes, to record the implied t.
        pair: Recorded.
        titles: What each member is, in words.
        **options: The sampler's options (``eta``, ``clamp``) and ``start``.

    Yields:
        Both members' Steps, and the Recorder, whose ``result()`` are the paths so far.

    Raises:
        ValueError: For a setting that is out of range, an unknown hook point, or an option that the sampler does not have.
    """
    _check_members("trajectories", denoisers)
    seeds = check_seeds(seeds)
    if not 1 <= len(seeds) <= MAX_IMAGES:
        raise ValueError(f"count must be from 1 to {MAX_IMAGES}, got {len(seeds)}")
    check_options(sampler, options)
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    choose("view", view, ("mean", "mean_std"))
    for layer in layers:
        for denoiser in denoisers:
            choose("layer", layer, hook_points(denoiser))
    about = {
        "pair": pair, "members": [denoiser.name for denoiser in denoisers], "titles": list(titles), "seeds": list(seeds),
        "sampler": sampler, "steps": steps, "options": options, "view": view,
    }  # fmt: skip
    recorder = Recorder(about, denoisers)
    noise = keyed_noise(seeds, denoisers[0].shape)
    with contextlib.ExitStack() as stack:
        caches = []
        for number, denoiser in enumerate(denoisers):
            names = dict.fromkeys([*layers, *([clocks[number].best[0]] if clocks else [])])
            caches.append(stack.enter_context(capture(denoiser, list(names))))
        runs = [SAMPLERS[sampler](one, noise.to(one.device), steps, seeds=list(seeds), **options) for one in denoisers]
        for both in zip(*runs):
            if both[0].index == steps and (layers or clocks):
                for denoiser, step in zip(denoisers, both):
                    denoiser.output(step.xt, step.t)  # the sampler is done and asks no more; the activations of the sample
            features = {
                layer: torch.stack([VIEWS[view](cache[layer]).float().cpu() for cache in caches]) for layer in layers
            }  # fmt: skip
            implied = torch.stack([_implied(*one) for one in zip(clocks, caches)]) if clocks else None
            recorder.add(both, features, implied)
            yield list(both), recorder


def _implied(clock: Clock, cache: dict[str, Tensor]) -> Tensor:
    """The t (N,) that a model's best probe reads from what was captured last; held where its target is finite."""
    layer, view = clock.best
    reading = clock.probe().predict(VIEWS[view](cache[layer]).cpu()).numpy()
    t = torch.linspace(1e-4, 1 - 1e-4, 10_001, dtype=torch.float64)
    values = TARGETS[clock.target].values(clock.schedule, t)
    order = values.argsort()
    return torch.from_numpy(np.interp(reading, values[order].numpy(), t[order].numpy()))


def record(
    denoisers: Sequence[Denoiser], seeds: Sequence[int], sampler: str = "heun", steps: int = 25, *, progress: bool = False,
    **settings: Any,
) -> Trajectories:  # fmt: skip
    """The paths of a whole run; arguments as for :func:`follow`, and whether to show a progress bar."""
    stream = follow(denoisers, seeds, sampler, steps, **settings)
    _, recorder = next(stream)  # checks the settings, before there is a bar
    for _ in tqdm(stream, total=steps + 1, initial=1, unit="step", disable=not progress):
        pass
    return recorder.result()


# Projections: points (n, D) -> coordinates (n, dimensions) and what is to be said of them ----------------------------------


def principal(points: Tensor, components: int, seed: int = 0) -> tuple[Tensor, list[float]]:
    """Principal components.

    With at most 1,024 points or dimensions by eigenvectors of the smaller of the two products, else by a randomised block
    Krylov method, which finds the leading components to float32's accuracy at a small part of the cost.

    Args:
        points: (n, D), any unit.
        components: At most min(n, D) are found.
        seed: Of the random start; it decides the last bits only.

    Returns:
        Coordinates float32 (n, components), each axis with its largest coordinate positive, zero where there are no more
        components; and the share of the variance on each axis, from 0 to 1.

    Source: Musco and Musco, arXiv 1504.05477, algorithm 2.
    """
    centred = points.double() if min(points.shape) <= 1024 else points.float()
    centred = centred - centred.mean(0)
    n, width = centred.shape
    found = min(components, n, width)
    if min(n, width) <= 1024:
        gram = centred.T @ centred if width <= n else centred @ centred.T
        vectors = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :found]
        coordinates = centred @ vectors if width <= n else vectors * (vectors.T @ centred).norm(dim=1)
    else:
        generator = torch.Generator().manual_seed(seed)
        block = torch.linalg.qr(torch.randn(width, found + 8, generator=generator)).Q
        blocks = [block]
        for _ in range(8 if found > 10 else 16):
            blocks.append(torch.linalg.qr(centred.T @ (centred @ blocks[-1])).Q)
        basis = torch.linalg.qr(torch.cat(blocks, dim=1)).Q
        inside = centred @ basis
        vectors = torch.linalg.eigh((inside.T @ inside).double()).eigenvectors.flip(1)[:, :found]
        coordinates = inside.double() @ vectors
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    coordinates = coordinates * torch.where(largest < 0, -1.0, 1.0)
    total = centred.double().square().sum().clamp(min=1e-300)
    shares = (coordinates.square().sum(0) / total).tolist()
    missing = components - found
    return torch.nn.functional.pad(coordinates.float(), (0, missing)), shares + [0.0] * missing


def pca(points: Tensor, dimensions: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """The axes along which the union of all points spreads most: :func:`principal`."""
    coordinates, shares = principal(points, dimensions, seed)
    return coordinates, {"variance": shares}


_ONE_UMAP = threading.Lock()  # numba's default threads end the process when two calls overlap


def umap(points: Tensor, dimensions: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """UMAP of the first 50 principal components: keeps neighbours together, and says nothing of distances.

    It begins at the principal components and is seeded, hence single-threaded and the same at every call on a machine. The
    first call in a process compiles for several seconds.

    Source: McInnes, Healy and Melville, arXiv 1802.03426; a start at the principal components after Kobak and Linderman,
    Nature Biotechnology 39 (2021).
    """
    neighbours = min(NEIGHBOURS, len(points) - 1)
    if len(points) < 2 * dimensions + 4:
        raise ValueError(f"umap needs at least {2 * dimensions + 4} points, got {len(points)}: take more images or steps")
    import umap as library  # here, where it is used: it takes seconds

    reduced, shares = principal(points, min(REDUCED, *points.shape), seed)
    begin = torch.nn.functional.pad(reduced[:, :dimensions], (0, max(0, dimensions - reduced.shape[1]))).double().numpy()
    # An axis on which nothing differs would be divided by 0.
    begin = begin / max(begin.std(), 1e-12) + 1e-3 * np.random.default_rng(seed).normal(size=begin.shape)
    # Distances are computed here: UMAP would call Python for every pair of points.
    apart = torch.cdist(reduced, reduced).fill_diagonal_(0).numpy()
    fit = library.UMAP(
        n_neighbors=neighbours, n_components=dimensions, metric="precomputed", init=begin, random_state=seed, n_jobs=1,
        n_epochs=300,
    )  # fmt: skip
    with _ONE_UMAP, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="using precomputed metric")  # it could not place new points: none come
        coordinates = torch.from_numpy(np.asarray(fit.fit_transform(apart), dtype=np.float32))
    return coordinates, {"reduced_to": reduced.shape[1], "variance_before_umap": sum(shares), "neighbours": neighbours}


@dataclass(frozen=True)
class Map:
    """One projection of both members' paths, fitted on the union of their points.

    Attributes:
        space: ``xt``, ``x0_hat`` or a hook point.
        projection: Key of ``PROJECTIONS``.
        seed: Of the projection.
        coordinates: float32 (2, N, F, dimensions).
        trustworthiness: 0 to 1, scikit-learn's: how far the neighbours on the map are neighbours in the space.
        neighbours: How many were asked for.
        about: What the projection says of itself, such as the ``variance`` on each axis of PCA.
    """

    space: str
    projection: str
    seed: int
    coordinates: Tensor
    trustworthiness: float
    neighbours: int
    about: dict[str, Any]

    def axes(self) -> list[str]:
        """Titles of the axes: of PCA with the share of the variance that each holds."""
        shares = self.about.get("variance", [None] * self.coordinates.shape[-1])
        name = {"pca": "PC"}.get(self.projection, self.projection.upper())
        return [f"{name} {k}" + (f" ({share:.1%})" if share is not None else "") for k, share in enumerate(shares, start=1)]

    def to_json(self) -> dict[str, Any]:
        """All but the coordinates."""
        return {
            "space": self.space, "projection": self.projection, "dimensions": self.coordinates.shape[-1], "seed": self.seed,
            "points": self.coordinates[..., 0].numel(), "fitted_on": "the union of both members' points",
            "trustworthiness": self.trustworthiness, "neighbours": self.neighbours, **self.about,
        }  # fmt: skip


def project(paths: Trajectories, space: str = "xt", projection: str = "pca", dimensions: int = 2, seed: int = 0) -> Map:
    """One map for both members.

    Args:
        paths: What was recorded.
        space: ``xt``, ``x0_hat`` or a recorded hook point. In an activation's space the two networks' channels are axes of
            their own: that members lie apart there means little.
        projection: A key of ``PROJECTIONS``.
        dimensions: 2 or 3.
        seed: 0 to 2^32 - 1; the same one gives the same coordinates on the same machine.

    Raises:
        ValueError: For an unknown space or projection, other dimensions, or too few points.

    Source of the trustworthiness: Venna and Kaski, ICANN 2001; scikit-learn, on distances in the full space.
    """
    choose("space", space, paths.points)
    choose("projection", projection, PROJECTIONS)
    check_seeds([seed])
    if plain_number(dimensions) not in (2, 3):
        raise ValueError(f"dimensions must be 2 or 3, got {dimensions}")
    dimensions = int(dimensions)
    points = paths.points[space].float()
    shape, points = points.shape[:3], points.flatten(3).flatten(0, 2)  # (2 N F, D)
    coordinates, about = PROJECTIONS[projection](points, dimensions, seed)
    from sklearn.manifold import trustworthiness

    neighbours = min(NEIGHBOURS, (len(points) - 1) // 2)
    apart = torch.cdist(points, points).fill_diagonal_(0).numpy()
    trust = float(trustworthiness(apart, coordinates.numpy(), n_neighbors=neighbours, metric="precomputed"))
    return Map(space, projection, seed, coordinates.unflatten(0, shape), trust, neighbours, about)


PROJECTIONS: dict[str, Callable[[Tensor, int, int], tuple[Tensor, dict[str, Any]]]] = {"pca": pca, "umap": umap}
