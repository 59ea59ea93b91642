"""The recorded sampling runs of sessions, with their files. Depends on pairs, works."""

from __future__ import annotations

import functools
import math
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from app import pairs, works
from explore.experiments import Compare
from explore.trajectories import MAX_FRAMES, Comparison

MEMORY = 400 * 2**20  # bytes of recorded frames over all sessions; the longest run takes 100 MB
MAX_RUNS = 24  # runs kept over all sessions, each with its files


@dataclass
class Run:
    """The last run of a session: its record and the folder of its files."""

    settings: Compare
    folder: Path
    comparison: Comparison | None = None
    seconds: float = 0.0
    again: bool = False  # taken from a run of the same settings
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def complete(self) -> bool:
        """Whether it came to its last step."""
        return self.comparison is not None and self.comparison.differences[-1]["index"] == self.settings.sampling.steps

    def take(self, other: Run) -> None:
        """What a complete run of the same settings has recorded."""
        self.comparison, self.seconds, self.again = other.comparison, other.seconds, True

    def bytes(self) -> int:
        """Of the frames when the run is complete: two members, state and estimate."""
        shape = pairs.denoisers(self.settings.pair)[0].shape
        return 4 * min(self.settings.sampling.steps + 1, MAX_FRAMES) * self.settings.count * math.prod(shape)


class Runs:
    """Run of each session, the least recently used dropped first, so that memory and disk stay bounded."""

    def __init__(self, kind: type[Run] = Run) -> None:
        self._kind = kind
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()

    @functools.cached_property
    def _folder(self) -> Path:
        # Gradio serves a static folder in place; otherwise it would copy each file and keep the copy.
        folder = tempfile.TemporaryDirectory(prefix="clockless-runs-", ignore_cleanup_errors=True)
        self._keep = folder  # removed with this object, or at exit
        gr.set_static_paths([folder.name])
        return Path(folder.name)

    def begin(self, session: str, settings: Compare, work: works.Work | None = None) -> Run:
        """A new run, which replaces the session's last one and may push out those of others; it stops with ``work``.

        If a complete run of the same settings is held, by whatever session, the new one has its record from the start.
        """
        with self._lock:
            same = next((run for run in self._runs.values() if run.settings == settings and run.complete()), None)
            self._drop(session)
            folder = self._folder / uuid.uuid4().hex
            folder.mkdir()
            self._runs[session] = self._kind(settings, folder, stop=work.stop if work else threading.Event())
            if same is not None:
                self._runs[session].take(same)
            while len(self._runs) > MAX_RUNS or (len(self._runs) > 1 and self._bytes() > MEMORY):
                self._drop(next(iter(self._runs)))
            return self._runs[session]

    def get(self, session: str) -> Run | None:
        """The session's run, if it is still held."""
        with self._lock:
            if session in self._runs:
                self._runs.move_to_end(session)
            return self._runs.get(session)

    def drop(self, session: str) -> None:
        """Ends and forgets the session's run."""
        with self._lock:
            self._drop(session)

    def _bytes(self) -> int:
        return sum(run.bytes() for run in self._runs.values())

    def _drop(self, session: str) -> None:
        run = self._runs.pop(session, None)
        if run:
            run.stop.set()
            shutil.rmtree(run.folder, ignore_errors=True)


RUNS = Runs()
