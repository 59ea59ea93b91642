"""What the claims on paths and maps are measured with.

``python benchmarks/trajectories.py [--only maps geometry] [--repeats 3] [--out FILE]``

``geometry``: how long the paths of two pairs are, and how many part, as the README states: the experiment `trajectories`.

``maps``: records 2 x 64 paths of 26 points of 32 px images (a shipped pair, 25 Heun steps) once, then times every projection
of the states xt in two and three dimensions:

- ``cold``: a fresh process from its start: imports, reading the recording, the map and its trustworthiness, and for UMAP
  everything it compiles at its first use.
- ``warm``: the same map again in the same process, without imports or reading.

Processes take turns, one at a time; medians with min and max are reported. That repeated maps have the same coordinates, in
one process and across processes, is checked on the way. Run this part on an idle machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from explore import files  # noqa: E402 (the path above comes first)
from explore.hardware import computed_with, dtype_name  # noqa: E402
from explore.seeds import seed_range  # noqa: E402

OUT = Path(__file__).with_suffix(".json")
PAIR, COUNT, STEPS, SEED = "celeba32-unet-velocity", 64, 25, 0
PAIRS = (PAIR, "celeba32-unet-eps")  # of the README's paragraph on two paths
PARTS = ("maps", "geometry")
CASES = [(projection, dimensions) for projection in ("pca", "umap") for dimensions in (2, 3)]
LIMITS = {"cold": 20.0, "warm": 12.0}  # seconds, promised on two idle cores


def child(recording: str, projection: str, dimensions: int, began: float) -> None:
    """Both timings of one process, printed as JSON; ``began`` is when its parent started it."""
    from explore import trajectories

    paths = trajectories.Trajectories.from_npz(recording)
    drawn = trajectories.project(paths, "xt", projection, dimensions, SEED)
    cold = time.time() - began
    again = time.perf_counter()
    second = trajectories.project(paths, "xt", projection, dimensions, SEED)
    warm = time.perf_counter() - again
    digests = [hashlib.sha256(one.coordinates.numpy().tobytes()).hexdigest() for one in (drawn, second)]
    print(json.dumps({"cold": cold, "warm": warm, "digests": digests, "map": drawn.to_json()}))


def record(path: Path) -> float:
    """Writes the recording; returns the seconds that sampling took."""
    from explore import trajectories, zoo

    denoisers = [zoo.load(name) for name in zoo.members_of(PAIR)]
    began = time.perf_counter()
    paths = trajectories.record(denoisers, seed_range(SEED, COUNT), "heun", STEPS, pair=PAIR, progress=True)
    seconds = time.perf_counter() - began
    path.write_bytes(paths.to_npz())
    return seconds


def measure(repeats: int) -> dict[str, Any]:
    """All cases, processes taking turns."""
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "trajectories.npz"
        sampling = record(recording)
        for _ in range(repeats):
            for projection, dimensions in CASES:
                command = [sys.executable, __file__, "--child", str(recording), projection, str(dimensions), str(time.time())]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[projection, dimensions].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for (projection, dimensions), found in runs.items():
        row: dict[str, Any] = {"projection": projection, "dimensions": dimensions}
        for name, limit in LIMITS.items():
            seconds = [run[name] for run in found]
            row[name] = {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds), "limit": limit}
        row["same_coordinates"] = len({digest for run in found for digest in run["digests"]}) == 1
        rows.append(row | {"map": found[0]["map"]})

    return {
        "command": f"python benchmarks/trajectories.py --only maps --repeats {repeats}", **computed_with(dtype_name("auto")),
        "pair": PAIR, "paths": [2, COUNT], "points_of_a_path": STEPS + 1, "seed": SEED, "sampling_seconds": sampling,
        "rows": rows,
    }  # fmt: skip


def geometry(pair: str) -> dict[str, Any]:
    """Length of a pair's paths over their chord (median over images) and divergence of the members, by space."""
    from explore.experiments import Trajectories

    asked = Trajectories(pair, seed=SEED, count=COUNT)
    record = asked.record(asked.run())
    spaces = {
        name: {
            "detour": {member: found["members"][member]["detour"]["median"] for member in record["members"]},
            "parting": {part: found["parting"][part] for part in ("threshold", "images_that_part", "images", "step")},
        }
        for name, found in record["spaces"].items()
    }
    return {**asked.provenance, "steps": record["steps"], "spaces": spaces}


def main() -> None:
    """Parses the command line, measures, prints and writes."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3, help="processes for each case")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file for the result")
    options = parser.parse_args()
    document = files.read_json(options.out) if options.out.exists() else {}
    if "geometry" in options.only:
        document["geometry"] = {pair: geometry(pair) for pair in PAIRS}
        print(json.dumps(document["geometry"], indent=2))
    if "maps" in options.only:
        document |= measure(options.repeats)
        show(document["rows"])
    files.write_atomically(options.out, json.dumps(document, indent=2) + "\n")


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the timings of the maps."""
    for row in rows:
        cold, warm = ({**row[name]} for name in LIMITS)
        print(
            f"{row['projection']:<5}{row['dimensions']}-D  cold {cold['median']:5.1f} s (limit {cold['limit']:g})  "
            f"warm {warm['median']:5.1f} s (limit {warm['limit']:g})  trustworthiness {row['map']['trustworthiness']:.3f}  "
            f"same coordinates: {'yes' if row['same_coordinates'] else 'NO'}"
        )


if __name__ == "__main__":
    main()
