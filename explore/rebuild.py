"""Everything that is computed from a model's weights: what it is made of, what is stale, and how it is made again.

One line in ``RESULTS`` registers a result. Each result names the sha256 of the weights and the settings that it was computed
with; where the index has other weights or the registry other settings, the result is stale. :func:`rebuild` computes what is
stale and stores each result when it is finished, so an interrupted rebuild continues where it stopped. :func:`reproduce` runs
stored commands again and compares the numbers. Depends on bank, encoder, cards, experiments, files and zoo.
"""

from __future__ import annotations

import functools
import math
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from explore import bank, cards, encoder, files, zoo
from explore.experiments import (
    Compare,
    Denoising,
    Evaluate,
    Fidelity,
    Intervene,
    Losses,
    Neighbors,
    Probe,
    Reading,
    Request,
    TwoStage,
    Yardsticks,
    from_command,
)
from explore.progress import Watch, quiet
from explore.samplers import Sampling
from explore.values import choose

# Settings of the eps pairs whose samples are compared: the plain ODE, with clamping, with fresh noise, with both.
EPS_SETTINGS = tuple(Sampling("ddim", 50, eta, clamp) for eta in (0.0, 1.0) for clamp in (False, True))
README = zoo.SHIPPED.parent / "README.md"
# Files that name the models and sha256 that they show: the films of the app, and notebooks -> the arguments of Python that make
# them.
COMMANDS = {zoo.SHIPPED.parent / "app" / "start.json": ("-m", "app.start")} | {
    path: ("-m", "explore", "course", "--execute", path.stem)
    for path in sorted((zoo.SHIPPED.parent / "notebooks").glob("*.ipynb"))
}
WORK = Path("out") / "rebuild"
# Not compared by reproduce: these differ between machines and runs.
INCOMPARABLE = ("command", "request", "sha256", "encoder_sha256", "seconds", "images_per_second", "hardware", "torch", "dtype")


@dataclass(frozen=True)
class Result:
    """One kind of result that is computed from a model's weights.

    Attributes:
        requests: (model or pair, data) -> what computes it; empty where the result does not apply.
        of_pair: Whether it belongs to a pair, not to one model.
        tolerance: Largest deviation of a number that :func:`reproduce` accepts, over the largest stored number of its name.
        quick: Whether ``reproduce --quick`` runs it: no data set is needed.
    """

    requests: Callable[[str, str], Sequence[Request]]
    of_pair: bool = False
    tolerance: float = 0.01
    quick: bool = False


def _comparisons(pair: str, data: str) -> list[Request]:
    eps = zoo.info(zoo.members_of(pair)[0]).prediction == "eps"
    return [Compare(pair, sampling, count=64) for sampling in EPS_SETTINGS] if eps else [Compare(pair, count=64)]


def _evaluation(model: str, data: str) -> list[Request]:
    return [Evaluate(model, reference=data, count=500, seeds=(0, 1, 2))]


def _steering(model: str, data: str) -> list[Request]:
    """Of models that are given no t, at the lowest resolution of the U-Net or in the middle of the DiT."""
    if zoo.info(model).time_conditioning == "timestep":
        return []
    network = files.read_json(zoo.folder(model) / "config.json")["network"]
    layer = (
        f"down.{len(network['multipliers']) - 1}.block.0" if "multipliers" in network else f"block.{network['depth'] // 2 - 1}"
    )
    return [Intervene(model, data=data, kind="steer", layer=layer)]


def _atlas(model: str, data: str) -> list[Request]:
    """Random t first, then a fixed t near the data and in the middle, and nearly the right one."""
    told = ("random", "fixed", "fixed:0.5", "nearest-wrong") if zoo.info(model).time_conditioning == "timestep" else ("random",)
    return [Probe(model, data=data, precision="float32", told=told)]


def _lie(model: str, data: str) -> list[Request]:
    return [Intervene(model, data=data, kind="lie")] if zoo.info(model).time_conditioning == "timestep" else []


# In the order in which they are computed: what follows the atlas needs its probes.
RESULTS: dict[str, Result] = {
    "comparisons": Result(_comparisons, of_pair=True, tolerance=0.05, quick=True),
    "denoising": Result(lambda model, data: [Denoising(model, data=data)]),
    "losses": Result(lambda pair, data: [Losses(pair, data=data)], of_pair=True),
    "fidelity": Result(lambda pair, data: [Fidelity(pair, data=data)], of_pair=True),
    "neighbors": Result(lambda model, data: [Neighbors(model, data=data)]),
    "distances-cifar-resnet": Result(_evaluation, tolerance=0.03),
    "atlas": Result(_atlas, tolerance=0.05),
    "two-stage": Result(lambda pair, data: [TwoStage(pair, data=data, images=64, noise_draws=4)], of_pair=True),
    "lie": Result(_lie, tolerance=0.05),
    "steer": Result(_steering, tolerance=0.05),
    "saliency": Result(lambda model, data: [Reading(model, data=data, attributed=32, steps=32)], tolerance=0.05),
}


def _stored(name: str, result: str) -> list[dict[str, Any]]:
    """Records of one result that belong to the weights, and for distances to the encoder, as they are now."""
    record = cards.atlas(name) if result == "atlas" else cards.metrics(name).get(result)
    if not record:
        return []
    if result == "comparisons":
        return [entry for entry in record.values() if isinstance(entry, dict)]
    if record.get("features") == encoder.NAME and record["encoder_sha256"] != encoder.sha256():
        return []
    return [record]


def _targets(pair: str) -> Iterator[tuple[str, str, list[str]]]:
    """(result, model or pair, models that hold it) for all results of a pair, in the order of ``RESULTS``."""
    names = zoo.pairs()[choose("pair", pair, zoo.pairs())]
    for name, result in RESULTS.items():
        if not result.of_pair:
            yield from ((name, model, [model]) for model in names)
        elif len(names) > 1:
            yield name, pair, zoo.members_of(pair)


def _settings(request: Request) -> dict[str, Any]:
    """A request as results store it, without the places of the images: these differ between machines."""
    options = {part.name for part in fields(request) if "option" in part.metadata and part.metadata["option"].source}
    return {name: value for name, value in files.plain(request.to_json()).items() if name not in options}


def _made_by(record: dict[str, Any], request: Request) -> bool:
    """Whether a stored record names the settings of ``request``; older records name none."""
    return _settings(request).items() <= record.get("request", {}).items()


def stale(pair: str, data: str, settings: bool = True) -> list[tuple[str, str, Request]]:
    """Results of a pair that were not computed as they would be now: (result, model or pair, what computes it).

    That is with other weights, or for distances with another encoder, and the yardsticks of the pair's data set with another
    encoder.

    Args:
        pair: A pair of the checkpoint index.
        data: The source of images that the pair was trained on.
        settings: Also those computed with other settings than the present request has, and those that do not name theirs.
    """
    found: list[tuple[str, str, Request]] = []
    info = zoo.info(zoo.pairs()[choose("pair", pair, zoo.pairs())][0])
    own_encoder = (zoo.folder(encoder.NAME)).is_dir()  # else it is borrowed from the shipped models
    if own_encoder and f"{info.dataset}-{encoder.NAME}" not in cards.yardsticks():
        found.append(("yardsticks", info.dataset, Yardsticks(data=data, resolution=info.resolution)))
    for name, target, holders in _targets(pair):
        for request in RESULTS[name].requests(target, data):
            if name == "comparisons":  # several settings of the sampler, each an entry of its own
                flags = request.sampling.flags  # type: ignore[attr-defined]
                kept = [cards.metrics(holder).get(name, {}).get(flags) for holder in holders]
            else:
                kept = [next(iter(_stored(holder, name)), None) for holder in holders]
            if not all(record and (_made_by(record, request) or not settings) for record in kept):
                found.append((name, target, request))
    return found


def stale_files(pair: str) -> dict[str, Callable[[], object]]:
    """Files that show samples of other weights than a pair has now: what it is -> what makes it."""
    names = zoo.pairs()[pair]
    found: dict[str, Callable[[], object]] = {
        f"samples of {name}": functools.partial(cards.write_card, name, sampled=True)
        for name in names
        if "samples" not in cards.metrics(name)
    }
    for name, record in bank.records().items():
        model = record["model"]
        if model in names and record["weights_sha256"] != zoo.index()[model]["sha256"]:
            found[f"bank:{name}"] = functools.partial(bank.make, name, model, record["seeds"][0])
    index = zoo.index()
    for path, command in COMMANDS.items():
        if path.is_file() and any(name in names and sha != index[name]["sha256"] for name, sha in _named(path)):
            found[path.name] = functools.partial(subprocess.run, [sys.executable, *command], check=True)
    return found


def _named(path: Path) -> Iterator[tuple[str, str]]:
    """(model, sha256) of everything that a file of ``COMMANDS`` shows."""
    found = files.read_json(path)
    yield from found.get("metadata", {}).get("clockless", {}).get("weights", {}).items()
    for case in found.get("cases", ()):
        yield from zip(case["members"], case["sha256"])


def stale_lines(pair: str) -> list[str]:
    """What is stale of a pair, a line each; what only has other settings than it would have now says so."""
    dataset = zoo.info(zoo.pairs()[pair][0]).dataset
    missing = [part[:2] for part in stale(pair, dataset, settings=False)]
    results = [
        f"{name} of {target}{'' if (name, target) in missing else ' (made with other settings)'}"
        for name, target, _ in stale(pair, dataset)
    ]
    return [f"{pair}: {line}" for line in [*dict.fromkeys(results), *stale_files(pair)]]


def rebuild(pair: str, data: str, watch: Watch = quiet) -> list[str]:
    """Computes all stale results of a pair, then its samples, cards and bank, and the tables of README.md.

    Args:
        pair: A pair of the checkpoint index.
        data: The source of images that the pair was trained on.
        watch: Shows progress.

    Returns:
        What was computed, one line each.
    """
    done = []
    for name, target, request in watch(stale(pair, data), desc=pair, unit="result"):
        if request.resumes:
            work = WORK / f"{target}-{name}.part"
            with files.claimed(work, "rebuild"):
                request.store(request.run(work=work))
            shutil.rmtree(work)
        else:
            request.store(request.run())
        done.append(f"{name} of {target}")
    for name, make in stale_files(pair).items():
        make()
        done.append(name)
    for model in zoo.pairs()[pair]:
        cards.write_card(model, sampled=False)
    if README.is_file() and zoo.default().root == zoo.SHIPPED:
        files.write_atomically(README, cards.fill(README.read_text(), cards.tables()))
    return done


# Reproduction --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reproduction:
    """A stored result beside the same command run again.

    Attributes:
        model: Which model's result it is.
        result: A key of ``RESULTS``.
        command: The stored command.
        deviation: Largest deviation of a number, over the largest stored number of the same name.
        where: The name of that number.
        tolerance: What is accepted.
    """

    model: str
    result: str
    command: str
    deviation: float
    where: str
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether every number lies within the tolerance."""
        return self.deviation <= self.tolerance


def _numbers(record: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], float]]:
    """(name, place, value) of every number; the name is the place without positions in lists.

    Rows of an atlas are placed by their name and view, as later versions have more of them.
    """
    if isinstance(record, dict):
        for key, value in record.items():
            if key not in INCOMPARABLE:
                yield from _numbers(value, (*path, f".{key}"))
    elif isinstance(record, (list, tuple)):
        for place, value in enumerate(record):
            named = path[-1:] == (".layers",) and isinstance(value, dict) and "r2" in value
            yield from _numbers(value, (*path, f"{value['name']} {value['view']}" if named else str(place)))
    elif isinstance(record, (int, float)) and not isinstance(record, bool):
        yield tuple(part for part in path if part[0] == "."), path, float(record)


def deviation(stored: dict[str, Any], again: dict[str, Any]) -> tuple[float, str]:
    """The largest difference between numbers of two records, over the largest stored number of its name, and that name.

    Only what both hold is compared: records of later versions can hold more.

    Returns:
        The deviation, infinite if a number is missing or not finite on one side only or if nothing can be compared; the name.
    """
    mine, other = (files.plain(record) for record in (stored, again))
    shared = {key: value for key, value in mine.items() if key in other}
    numbers = list(_numbers(shared))
    found = {place: value for _, place, value in _numbers({key: other[key] for key in shared})}
    scale: dict[tuple[str, ...], float] = defaultdict(float)
    for name, _, value in numbers:
        scale[name] = max(scale[name], abs(value))
    worst, where = (0.0, "") if numbers else (math.inf, "no number is in both")
    for name, place, value in numbers:
        difference = abs(found.get(place, math.inf) - value)
        relative = 0.0 if difference == 0 else difference / scale[name] if scale[name] else math.inf
        if relative > worst:
            worst, where = relative, "".join(name).removeprefix(".")
    return worst, where


def stored_records(names: Iterable[str] = (), quick: bool = False) -> list[tuple[str, str, dict[str, Any]]]:
    """(model, result, record) of what is stored, each command once.

    Args:
        names: Models, pairs or results to which this is restricted; all by default.
        quick: Only results that need no data set.

    Raises:
        ValueError: For an unknown name.
    """
    known = [*zoo.index(), *zoo.pairs(), *RESULTS]
    wanted = {choose("model, pair or result", name, known) for name in names}
    models = {model for model, entry in zoo.index().items() if {model, entry["pair"]} & wanted} or set(zoo.index())
    results = (wanted & set(RESULTS)) or set(RESULTS)
    seen: set[str] = set()
    found = []
    for model in zoo.index():
        for name, result in RESULTS.items():
            if model in models and name in results and (result.quick or not quick):
                for record in _stored(model, name):
                    if record["command"] not in seen:
                        seen.add(record["command"])
                        found.append((model, name, record))
    return found


def reproduce(
    records: Iterable[tuple[str, str, dict[str, Any]]], load: Callable[[str, str], Any] = zoo.load
) -> Iterator[Reproduction]:
    """Runs stored commands again, one by one, and compares the numbers.

    Args:
        records: As :func:`stored_records` returns them.
        load: (name, precision) -> model.
    """
    for model, name, record in records:
        request = from_command(record["command"])
        again = request.kept(request.run(load=load))
        worst, where = deviation(record, again)
        yield Reproduction(model, name, record["command"], worst, where, RESULTS[name].tolerance)
