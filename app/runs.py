"""Recorded sampling runs of pairs, one recorder for Compare, Trajectories and Saliency. Depends on pairs and works.

A record holds all that the three tabs show, so that none samples again what another has sampled: the frames of Compare (uint8
states and estimates, at most 128 steps), the paths of Trajectories (float16, at most 4,000 points of both members, in every
space) and for Saliency the states of the frames' steps (float32). The activations cost about a tenth of a run's time. 64
images of 32 px in 128 frames or more, the largest run, take 100 MB of frames, 200 MB of states and 60 MB of paths; 16 images
in 50 steps take 10, 20 and 15 MB. Runs with the same settings share one record, which stays after its session as long as there
is memory: visitors press the same buttons.
"""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
import tempfile
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import pairs, works
from explore import encoder, trajectories
from explore.experiments import Compare
from explore.samplers import evaluations
from explore.trajectories import MAX_FRAMES, Comparison, Frame, Map, Trajectories

MEMORY = 400 * 2**20  # bytes of records over all sessions
MAX_RUNS = 48  # kept over all sessions, each with its files
VIEW = "mean_std"  # what is recorded of each activation


@dataclass
class Record:
    """One sampling run of both members.

    Attributes:
        settings: What was asked for.
        comparison: Its frames and differences so far; None before the first step.
        states: Step of each frame -> states of both members, float32 (2, N, C, H, W).
        seconds: It took so far.
        maps: Space, projection and dimensions -> map of the paths.
    """

    settings: Compare
    comparison: Comparison | None = None
    states: dict[int, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    maps: dict[tuple[str, str, int], Map] = field(default_factory=dict)
    recorder: trajectories.Recorder | None = None

    @property
    def complete(self) -> bool:
        """Whether it came to its last step."""
        return self.comparison is not None and self.comparison.samples is not None

    @functools.cached_property
    def paths(self) -> Trajectories:
        """The paths of a complete run; for CIFAR-10 models, with the classes that the shipped encoder predicts."""
        assert self.complete and self.recorder is not None
        paths, self.recorder = self.recorder.result(), None
        if pairs.members(paths.pair)[0].dataset == "cifar10":
            with contextlib.suppress(ValueError):  # no encoder is shipped
                paths = replace(paths, classes=[encoder.name_classes(samples) for samples in paths.samples()])
        return paths

    def stream(self) -> Iterator[Frame]:
        """Samples with copies of both networks and records every step; frames come at once if that is done already."""
        if self.complete:
            assert self.comparison is not None
            yield from self.comparison.frames
            return
        settings, began = self.settings, time.monotonic()
        pair, sampling, titles = settings.pair, settings.sampling, pairs.titles(settings.pair)
        comparison = Comparison(
            pair, [one.name for one in pairs.members(pair)], titles, settings.seeds, sampling.sampler, sampling.steps,
            sampling.options, evaluations(sampling.sampler, sampling.steps),
        )  # fmt: skip
        kept = set(trajectories.evenly(sampling.steps + 1, MAX_FRAMES))
        with (
            pairs.copies(pair) as copies,
            contextlib.closing(trajectories.follow(
                copies, settings.seeds, layers=pairs.layers(pair), view=VIEW, pair=pair, titles=titles,
                probe_sets=pairs.clocks(pair) if pairs.has_clocks(pair) else None, **sampling.arguments,
            )) as stream,  # when the run is stopped too: hooks and tensors go now
        ):  # fmt: skip
            for both, self.recorder in stream:
                frame = trajectories.frame_of(both)
                comparison.add(frame, keep=frame.index in kept)
                xt = torch.stack([step.xt for step in both]).float().cpu()
                if frame.index in kept:
                    self.states[frame.index] = xt
                if frame.index == sampling.steps:
                    comparison.samples = xt
                self.comparison, self.seconds = comparison, time.monotonic() - began
                yield frame

    def frame(self, index: float) -> Frame:
        """The recorded frame nearest to a step."""
        assert self.comparison is not None
        return min(self.comparison.frames, key=lambda frame: abs(frame.index - index))

    def bytes(self) -> int:
        """Size of the complete record: frames in one byte and states in four, paths in two."""
        settings = self.settings
        denoiser = pairs.denoisers(settings.pair)[0]
        pixels, steps = math.prod(denoiser.shape), settings.sampling.steps + 1
        features = 2 * pairs.channels(settings.pair)  # mean and std
        points = min(steps, trajectories.PATH_POINTS, max(2, trajectories.MAP_POINTS // (2 * settings.count)))
        frames = min(steps, MAX_FRAMES) * pixels * (2 + 4)
        return 2 * settings.count * (frames + 2 * points * (2 * pixels + features))


@dataclass
class Run:
    """The last run of a session in a tab: its record, and the folder of its files.

    Attributes:
        record: Perhaps shared with other runs.
        folder: For files.
        again: Whether the record was complete at the start.
        stop: Set when the run is stopped, ``ended`` when it has ended.
    """

    record: Record
    folder: Path
    again: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def settings(self) -> Compare:
        """What was asked for."""
        return self.record.settings

    def stream(self) -> Iterator[Frame]:
        """Frames as they come; ends early when the run is told to stop."""
        stream: Any = self.record.stream()
        try:
            for frame in stream:
                yield frame
                if self.stop.is_set():
                    break
        finally:
            self.ended.set()
            stream.close()

    def path(self, ending: str) -> Path:
        """Where a file of the run is written; its name says what was run."""
        settings, sampling = self.settings, self.settings.sampling
        parts = [settings.pair, sampling.sampler, sampling.steps, f"seed-{settings.seed}", f"count-{settings.count}"]
        parts += [f"{name}-{float(value):g}" for name, value in sampling.options.items()]
        return self.folder / f"{'-'.join(map(str, parts))}{ending}"


class Runs:
    """Run of each session in each tab, the least recently used dropped first, so that memory and disk stay bounded.

    Complete records that no session holds any more go before those of sessions.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
        self._left: OrderedDict[Compare, Record] = OrderedDict()
        self._lock = threading.Lock()

    @functools.cached_property
    def _folder(self) -> Path:
        # Gradio serves a static folder in place; otherwise it would copy each file and keep the copy.
        folder = tempfile.TemporaryDirectory(prefix="clockless-runs-", ignore_cleanup_errors=True)
        self._keep = folder  # removed with this object, or at exit
        gr.set_static_paths([folder.name])
        return Path(folder.name)

    def begin(self, session: str, kind: str, settings: Compare) -> Run:
        """A new run, which replaces the session's last one of its kind and may push out those of others.

        If a complete record of the same settings is there, of whatever session, it is taken. The run stops with the session's
        work of this kind.
        """
        work = works.WORKS.get(session, kind)
        with self._lock:
            self._drop((session, kind))
            same = next((record for record in self._complete() if record.settings == settings), None)
            self._left.pop(settings, None)
            folder = self._folder / uuid.uuid4().hex
            folder.mkdir()
            stop = work.stop if work else threading.Event()
            run = self._runs[session, kind] = Run(same or Record(settings), folder, same is not None, stop)
            self._shrink()
            return run

    def get(self, session: str, kind: str) -> Run | None:
        """The session's run, if it is still held."""
        with self._lock:
            if (session, kind) in self._runs:
                self._runs.move_to_end((session, kind))
            return self._runs.get((session, kind))

    def holding(self, settings: Compare, seed: int) -> Record | None:
        """A complete record of this pair and sampler that holds the image of ``seed``."""
        with self._lock:
            for record in self._complete():
                own = record.settings
                if replace(settings, seed=own.seed, count=own.count) == own and seed in own.seeds:
                    return record
        return None

    def drop(self, session: str, kind: str | None = None) -> None:
        """Ends and forgets the session's run, or with no ``kind`` all of them."""
        with self._lock:
            for key in [key for key in self._runs if key[0] == session and kind in (None, key[1])]:
                self._drop(key)

    def _complete(self) -> Iterator[Record]:
        yield from (run.record for run in self._runs.values() if run.record.complete)
        yield from self._left.values()

    def _bytes(self) -> int:
        held = [*(run.record for run in self._runs.values()), *self._left.values()]
        return sum({id(record): record.bytes() for record in held}.values())

    def _drop(self, key: tuple[str, str]) -> None:
        run = self._runs.pop(key, None)
        if run:
            run.stop.set()
            shutil.rmtree(run.folder, ignore_errors=True)
            if run.record.complete:
                self._left[run.settings] = run.record
                self._left.move_to_end(run.settings)

    def _shrink(self) -> None:
        """Forgets what is too much: records that no session holds first, then runs, of both the least recently used."""
        while len(self._runs) > MAX_RUNS:
            self._drop(next(iter(self._runs)))
        while len(self._left) > MAX_RUNS or (self._left and self._bytes() > MEMORY):
            self._left.popitem(last=False)
        while len(self._runs) > 1 and self._bytes() > MEMORY:
            self._drop(next(iter(self._runs)))
            self._left.clear()  # the run's own record, the only one there


RUNS = Runs()


def forget(request: gr.Request) -> None:
    """Ends a session's work and frees its runs when its page is closed."""
    works.forget(request)
    RUNS.drop(str(request.session_hash))
