"""Work that goes on for a session: planned, begun, stopped, forgotten."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

MAX_WORKS = 256  # pieces of work remembered over all sessions


@dataclass
class Work:
    """A run of a session.

    Attributes:
        press: When its button was pressed, in the page's milliseconds; 0 if there was none.
        stop: Set to end it.
        ended: Set when it has ended.
        begun: Whether it has had its turn.
        failed: Whether something was wrong with what was asked.
        said: How far it came, in words.
        done: The same as a share.
    """

    press: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    begun: bool = False
    failed: bool = False
    said: str = ""
    done: float = 0.0


class Works:
    """The work of each session, one of each kind at a time; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._works: OrderedDict[tuple[str, str], Work] = OrderedDict()
        self._lock = threading.Lock()

    def plan(self, session: str, kind: str, press: float = 0.0) -> Work:
        """New work that waits for its turn, and can be stopped while it does; ends the session's last one of its kind.

        Work of the same press that has not begun is kept, with its stop.
        """
        with self._lock:
            return self._plan(session, kind, press)

    def _plan(self, session: str, kind: str, press: float) -> Work:
        work = self._works.pop((session, kind), None)  # the new one stands last
        if work is not None:
            if work.press == press and not work.begun:
                self._works[session, kind] = work
                return work
            work.stop.set()
        work = self._works[session, kind] = Work(press)
        while len(self._works) > MAX_WORKS:
            self._works.popitem(last=False)[1].stop.set()
        return work

    def begin(self, session: str, kind: str, press: float = 0.0) -> Work:
        """The work that was planned, whose turn it is now, perhaps stopped already; without a plan, new work.

        A press before the session's last one gets work that is stopped: what the last one planned is left to it.
        """
        with self._lock:
            last = self._works.get((session, kind))
            if last is not None and press < last.press:
                late = Work(press, begun=True)
                late.stop.set()
                return late
            work = self._plan(session, kind, press)
            work.begun = True
            return work

    def before(self, work: Work) -> int:
        """Pieces of work, of all pages, that began to wait before ``work`` and have not ended."""
        with self._lock:
            count = 0
            for other in self._works.values():
                if other is work:
                    break
                count += not other.ended.is_set() and (other.begun or not other.stop.is_set())
            return count

    def get(self, session: str, kind: str) -> Work | None:
        """The session's last work of this kind."""
        with self._lock:
            return self._works.get((session, kind))

    def end(self, session: str, kind: str | None = None) -> None:
        """Ends and forgets a session's work, of all kinds if none is named; what still waits is told when it begins."""
        with self._lock:
            for key in [key for key in self._works if key[0] == session and kind in (None, key[1])]:
                work = self._works[key]
                work.stop.set()
                if work.begun or kind is None:
                    del self._works[key]

    def done(self, session: str, kind: str) -> None:
        """Forgets work that has ended by itself."""
        with self._lock:
            work = self._works.pop((session, kind), None)
            if work is not None:  # not if its client has left
                work.ended.set()


WORKS = Works()


def forget(request: gr.Request) -> None:
    """Ends a session's work when its page is closed."""
    WORKS.end(str(request.session_hash))


@contextlib.contextmanager
def calling(request: gr.Request | None) -> Iterator[Work]:
    """The work of one call of an endpoint; it is told to stop when its client leaves."""
    session, kind = str(request.session_hash if request else None), f"call {uuid.uuid4().hex}"
    work = WORKS.begin(session, kind)
    try:
        yield work
    finally:
        WORKS.done(session, kind)


def going_on(steps: Iterable[Any], work: Work) -> Iterator[Any]:
    """``steps``, as long as the work is not stopped.

    Raises:
        ValueError: When it is.
    """
    for step in steps:
        if work.stop.is_set():
            raise ValueError("the run was stopped; ask again")
        yield step
