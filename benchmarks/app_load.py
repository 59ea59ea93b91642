"""The app under load: ``python benchmarks/app_load.py [--clients 8] [--seconds 60] [--out FILE]``.

Starts the real server and drives it with concurrent clients over its API, as a lecture hall would: comparisons of a few
settings that repeat, as many of settings that nobody asked for before, and now and then the list of models. Reports
throughput, median and 95th percentile of the time an answer takes, requests that were turned away in words (the queue is
bounded), failures, whether the same settings gave the same bytes, also asked of a second server that holds no answer yet, and
the first server's resident memory after warm-up and at the end. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from app.screenshots import serving  # noqa: E402 (the path above comes first)
from explore import files  # noqa: E402
from explore.hardware import hardware_name  # noqa: E402

OUT = Path(__file__).with_suffix(".json")
WARM_UP_ROUNDS = 3
ASKED_AGAIN = 16  # settings, of a second server
# Requests of the same settings must give the same bytes, whoever else is asking.
COMPARISONS: list[dict[str, Any]] = [
    {"pair": pair, "sampler": sampler, "steps": steps, "seed": seed, "count": count, "eta": eta, "clamp": clamp}
    for pair, sampler, steps, eta, clamp in (
        ("celeba32-unet-velocity", "heun", 6, 0.0, False),
        ("celeba32-unet-eps", "ddim", 10, 1.0, True),
        ("celeba32-unet-velocity", "euler", 10, 0.0, False),
    )
    for seed, count in ((0, 1), (7, 4))
]


def resident(pid: int) -> float:
    """Resident memory of a process, MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Tally:
    """What the clients saw, put together under a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seconds: list[float] = []
        self.kinds: dict[str, list[float]] = {}
        self.turned_away: list[str] = []
        self.failures: list[str] = []
        self.digests: dict[str, set[str]] = {}

    def answered(self, kind: str, seconds: float, key: str = "", content: bytes = b"") -> None:
        """An answer, with what must be the same for the same ``key``."""
        with self.lock:
            self.seconds.append(seconds)
            self.kinds.setdefault(kind, []).append(seconds)
            if key:
                self.digests.setdefault(key, set()).add(hashlib.sha256(content).hexdigest())

    def refused(self, words: str) -> None:
        """A request that got no answer: turned away in words that say why, or failed."""
        with self.lock:
            full = any(part in words.lower() for part in ("queue is full", "too many", "pushed out"))
            (self.turned_away if full else self.failures).append(" ".join(words.split())[:300])


def ask(client: Any, number: int, tally: Tally, settings: dict[str, Any], kind: str) -> None:
    """One request: every seventh for the list of models, the others to compare with ``settings``."""
    began = time.monotonic()
    try:
        if number % 7 == 6:
            found = client.predict(api_name="/models")
            tally.answered("models", time.monotonic() - began, "models", json.dumps(found, sort_keys=True).encode())
            return
        _, png, _ = client.predict(**settings, api_name="/compare")
        tally.answered(kind, time.monotonic() - began, json.dumps(settings), Path(png).read_bytes())
    except Exception as error:  # whatever the client raises is what a person would be told
        tally.refused(f"{type(error).__name__}: {error}")


def drive(address: str, clients: int, seconds: float, tally: Tally, seed: int) -> float:
    """Runs the clients until the time is over; returns the seconds it took until the last answer.

    Every second comparison has a seed of its own, from ``seed`` on, so that no answer to it can be held.
    """
    from gradio_client import Client

    began = time.monotonic()
    until = began + seconds

    def person(index: int) -> None:
        client = Client(address, verbose=False, download_files=tempfile.mkdtemp(prefix="clockless-load-"))
        number = index
        while time.monotonic() < until:
            settings, kind = COMPARISONS[number % len(COMPARISONS)], "compare, settings that repeat"
            if (number - index) % 2:
                settings, kind = {**settings, "seed": seed + 10_000 * index + 10 * number}, "compare, new settings"
            ask(client, number, tally, settings, kind)
            number += 1

    threads = [threading.Thread(target=person, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def measure(clients: int, seconds: float) -> dict[str, Any]:
    """The whole run, with servers of its own."""
    from gradio_client import Client

    with serving() as (address, pid):
        warm = Tally()
        drive(address, clients, 0.0, warm, 10**6)  # connects
        for turn in range(WARM_UP_ROUNDS):
            drive(address, clients, 5.0, warm, 10**6 * (turn + 2))
        before = resident(pid)
        tally = Tally()
        took = drive(address, clients, seconds, tally, 10**8)
        after = resident(pid)
    again = Tally()
    with serving() as (address, _):
        client = Client(address, verbose=False, download_files=tempfile.mkdtemp(prefix="clockless-load-"))
        # The settings that repeat and the first few of the new ones.
        for number, key in enumerate([key for key in tally.digests if key != "models"][:ASKED_AGAIN]):
            ask(client, 7 * number, again, json.loads(key), "again")
    several = [key for key, found in tally.digests.items() if len(found | again.digests.get(key, set())) > 1]
    ordered = sorted(tally.seconds)
    return {
        "command": f"python benchmarks/app_load.py --clients {clients} --seconds {seconds:g}",
        "hardware": hardware_name("cpu"),
        "cpus": os.cpu_count(),
        "clients": clients,
        "seconds": round(took, 1),
        "answered": len(ordered),
        "by_kind": {kind: len(found) for kind, found in tally.kinds.items()},
        "median_seconds_by_kind": {kind: round(statistics.median(found), 2) for kind, found in tally.kinds.items()},
        "per_second": round(len(ordered) / took, 3),
        "median_seconds": round(statistics.median(ordered), 2) if ordered else None,
        "percentile_95_seconds": round(ordered[int(0.95 * (len(ordered) - 1))], 2) if ordered else None,
        "turned_away": len(tally.turned_away),
        "turned_away_words": sorted(set(tally.turned_away))[:3],
        "failed": len(tally.failures + again.failures),
        "failures": sorted(set(tally.failures + again.failures))[:5],
        "settings_with_several_pictures": len(several),
        "settings_asked_of_a_second_server": len(again.digests),
        "settings": len(tally.digests),
        "resident_mib_after_warm_up": round(before),
        "resident_mib_at_the_end": round(after),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="The app under load.")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.clients < 1 or options.seconds < 0:
        parser.error("--clients must be at least 1, and --seconds not negative")
    result = measure(options.clients, options.seconds)
    files.write_atomically(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
