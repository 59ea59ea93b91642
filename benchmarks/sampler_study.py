"""How much the answer depends on the sampler: ``python benchmarks/sampler_study.py [--count 256] [--only PART ...]``.

Four questions, asked of the shipped models and answered whichever way it comes out:

- ``ddim``: every CelebA U-Net of 32 px (the grid of predictions) under DDIM in 50 steps with eta 0 and 1, x0_hat clamped
  or not, started at t = .95, .991 and .999. An eps model that is not told the time is expected to fail under the plain
  ODE, the more the nearer to pure noise it starts; the others are not.
- ``solvers``: the velocity pairs under Euler and Heun at 5 to 100 steps, against evaluations of the network.
- ``wrong clock``: models that are told the time are told t plus an offset; models that are not cannot notice.
- ``constant``: pairs with a ``constant`` member (the layers of a clock, fed nothing): what is lost with the information,
  what with the parameters.

A cell is an evaluation as ``python -m explore evaluate`` makes it, of the same ``--count`` samples of one sampling seed.
Cells are kept as they are finished, so an interrupted study goes on where it was; cells of weights or of an encoder that were
replaced are measured again. The result is ``sampler_study.json`` beside this file, with the figures ``sampler_study_*.png``;
``--draw-only --fill README.md`` puts what is measured already into the README's tables.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from explore import cards, encoder, evaluation, files, zoo  # noqa: E402 (the path above comes first)
from explore.figures import MEMBER_COLORS  # noqa: E402
from explore.samplers import Sampling  # noqa: E402
from explore.zoo import TITLES  # noqa: E402

OUT = Path(__file__).with_suffix(".json")
STARTS = (0.95, 0.991, 0.999)
SOLVER_STEPS = (5, 10, 20, 50, 100)
OFFSETS = (-0.1, -0.05, -0.02, 0.02, 0.05, 0.1)
PARTS = ("ddim", "solvers", "wrong clock", "constant")
DASHES = {"timestep": "-", "constant": ":", "none": "--"}


def cells(parts: list[str]) -> Iterator[dict[str, Any]]:
    """What is measured: part, model, the sampler's settings and the offset of the clock."""
    infos = zoo.models()
    grid = [info for info in infos if info.dataset == "celeba" and info.architecture == "unet" and info.resolution == 32]
    if "ddim" in parts:
        for info in grid:
            for eta in (0.0, 1.0):
                for clamp in (False, True):
                    for start in STARTS:
                        settings = {"sampler": "ddim", "steps": 50, "eta": eta, "clamp": clamp, "start": start}
                        yield {"part": "ddim", "model": info.name, "settings": settings}
    if "solvers" in parts:
        for info in infos:
            for sampler in ("euler", "heun"):
                for steps in SOLVER_STEPS:
                    if info.prediction == "velocity" and info.resolution == 32 and info.architecture == "unet":
                        yield {"part": "solvers", "model": info.name, "settings": {"sampler": sampler, "steps": steps}}
    if "wrong clock" in parts:
        for info in grid:
            # One offset is enough to see that a model which is told nothing does not notice.
            for offset in (0.0, *(OFFSETS if info.time_conditioning == "timestep" else (0.1,))):
                yield {
                    "part": "wrong clock",
                    "model": info.name,
                    "settings": Sampling.for_model(info).arguments,
                    "clock_offset": offset,
                }
    if "constant" in parts:
        with_constant = {info.pair for info in infos if info.time_conditioning == "constant"}
        for info in infos:
            if info.pair in with_constant:
                yield {"part": "constant", "model": info.name, "settings": Sampling.for_model(info).arguments}


@functools.cache
def about(name: str) -> zoo.ModelInfo:
    """What is known of a model."""
    return zoo.info(name)


def key(cell: dict[str, Any]) -> str:
    """A cell's name, the same in every run; cells of several parts that ask the same have one name."""
    offset = cell.get("clock_offset", 0.0)
    return f"{cell['model']} {Sampling(**cell['settings']).flags}" + (f" --clock-offset {offset:g}" if offset else "")


def measure(cell: dict[str, Any], source: str, count: int, work: Path) -> dict[str, Any]:
    """One evaluation: distances, and what they were measured with."""
    denoiser = zoo.load(cell["model"], "float32")  # rounding would be a part of what is compared
    result = evaluation.evaluate(
        denoiser, source, count=count, seeds=[0], work=work, clock_offset=cell.get("clock_offset", 0.0), **cell["settings"]
    )
    shutil.rmtree(work)
    kept = ("distance", "reference", "split", "reference_images", "count", "seeds", "nfe", "dtype", "hardware")
    figures = ("fd", "kid", "precision", "recall", "images_per_second")
    return {name: value for name, value in result.to_json().items() if name in (*kept, *figures)}


def study(parts: list[str], count: int, sources: dict[str, str], out: Path) -> dict[str, Any]:
    """Measures every cell that is not there yet; writes ``out`` after each."""
    known = {name: entry["sha256"] for name, entry in zoo.index().items()}
    found: dict[str, Any] = json.loads(out.read_text())["cells"] if out.exists() else {}
    found = {
        name: cell
        for name, cell in found.items()
        if known.get(cell["model"]) == cell["sha256"] and cell["encoder_sha256"] == encoder.sha256() and cell["count"] == count
    }
    wanted = {key(cell): cell for cell in cells(parts)}
    for number, (name, cell) in enumerate(wanted.items()):
        if name in found:
            continue
        print(f"{number + 1} of {len(wanted)}: {name}", file=sys.stderr, flush=True)
        source = sources[about(cell["model"]).dataset]
        work = out.with_suffix(".part") / hashlib.sha256(f"{count} {name}".encode()).hexdigest()[:16]
        result = measure(cell, source, count, work)
        asked = {name: value for name, value in cell.items() if name != "part"}
        found[name] = {**asked, "sha256": known[cell["model"]], "encoder_sha256": encoder.sha256(), **result}
        document = {
            "command": f"python benchmarks/sampler_study.py --count {count}",
            "torch": torch.__version__,
            "cells": found,
        }
        files.write_atomically(out, json.dumps(document, indent=1) + "\n")
    shutil.rmtree(out.with_suffix(".part"), ignore_errors=True)
    return {name: found[name] for name in wanted if name in found}


# Figures ---------------------------------------------------------------------------------------------------------------


def draw(parts: list[str], found: dict[str, Any], folder: Path) -> list[Path]:
    """One picture a part that has cells; Fréchet distance upward, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    of = {part: [(cell, found[key(cell)]) for cell in cells([part]) if key(cell) in found] for part in parts}
    written = []
    for part, rows in of.items():
        if not rows:
            continue
        pairs = list(dict.fromkeys(about(cell["model"]).pair for cell, _ in rows))
        width = max(4.0, 3.1 * len(pairs))
        figure, axes = pyplot.subplots(1, len(pairs), figsize=(width, 3.6), sharey=True, squeeze=False, layout="constrained")
        for axis, pair in zip(axes[0], pairs):
            mine = [(cell, result) for cell, result in rows if about(cell["model"]).pair == pair]
            PAINT[part](axis, mine)
            axis.set_title(pair, fontsize=9)
            axis.set_yscale("log")
            axis.tick_params(labelsize=8)
            axis.grid(alpha=0.25)
        first = rows[0][1]
        axes[0][0].set_ylabel(f"{first['distance']}, {first['count']} samples", fontsize=9)
        handles, labels = axes[0][0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8)
        path = folder / f"{OUT.stem}_{part.replace(' ', '_')}.png"
        temporary = path.with_name(f".{path.name}.tmp")
        figure.savefig(temporary, format="png", dpi=110)
        temporary.replace(path)
        pyplot.close(figure)
        written.append(path)
    return written


def _conditioning(cell: dict[str, Any]) -> str:
    return about(cell["model"]).time_conditioning


def _paint_ddim(axis: Any, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for told in dict.fromkeys(_conditioning(cell) for cell, _ in rows):
        for eta, clamp, marker in ((0.0, False, "o"), (0.0, True, "s"), (1.0, False, "^"), (1.0, True, "D")):
            line = [
                (cell["settings"]["start"], result["fd"])
                for cell, result in rows
                if _conditioning(cell) == told and (cell["settings"]["eta"], cell["settings"]["clamp"]) == (eta, clamp)
            ]
            if line:
                label = f"{TITLES[told]}, eta {eta:g}{', clamped' if clamp else ''}"
                places = [STARTS.index(start) for start, _ in line]
                axis.plot(
                    places, [fd for _, fd in line], DASHES[told], color=MEMBER_COLORS[told], marker=marker, markersize=5,
                    label=label, alpha=0.55 if clamp else 1.0,
                )  # fmt: skip
    axis.set_xticks(range(len(STARTS)), [f"{start:g}" for start in STARTS])
    axis.set_xlabel("start of sampling, t", fontsize=9)


def _paint_solvers(axis: Any, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for told in dict.fromkeys(_conditioning(cell) for cell, _ in rows):
        for sampler, marker in (("euler", "o"), ("heun", "^")):
            line = [
                (result["nfe"], result["fd"])
                for cell, result in rows
                if _conditioning(cell) == told and cell["settings"]["sampler"] == sampler
            ]
            if line:
                label = f"{TITLES[told]}, {sampler}"
                axis.plot(*zip(*line), DASHES[told], color=MEMBER_COLORS[told], marker=marker, markersize=5, label=label)
    axis.set_xscale("log")
    axis.set_xlabel("evaluations of the network", fontsize=9)


def _paint_clock(axis: Any, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for told in dict.fromkeys(_conditioning(cell) for cell, _ in rows):
        line = sorted((cell["clock_offset"], result["fd"]) for cell, result in rows if _conditioning(cell) == told)
        axis.plot(*zip(*line), DASHES[told], color=MEMBER_COLORS[told], marker="o", markersize=5, label=TITLES[told])
    axis.set_xlabel("told t minus true t", fontsize=9)


def _paint_constant(axis: Any, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    names = [_conditioning(cell) for cell, _ in rows]
    axis.plot(names, [result["fd"] for _, result in rows], "o", color="#333333")
    axis.margins(x=0.2)


# Tables ----------------------------------------------------------------------------------------------------------------


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The README's tables of the study, in Markdown: Fréchet distances; cells not measured yet are empty."""

    def fd(model: str, settings: dict[str, Any], offset: float = 0.0) -> str:
        cell = found.get(key({"model": model, "settings": settings, "clock_offset": offset}))
        return f"{cell['fd']:.2f}" if cell else ""

    def members(part: str) -> dict[str, dict[str, str]]:
        """Pair -> what its members are told -> model, of the models in a part of the study."""
        by_pair: dict[str, dict[str, str]] = {}
        for model in dict.fromkeys(cell["model"] for cell in cells([part])):
            by_pair.setdefault(about(model).pair, {})[about(model).time_conditioning] = model
        return by_pair

    ddim = [
        [pair, f"{eta:g}", "yes" if clamp else "no"]
        + [
            fd(by[told], {"sampler": "ddim", "steps": 50, "eta": eta, "clamp": clamp, "start": start})
            for told in ("timestep", "none")
            for start in STARTS
        ]
        for pair, by in members("ddim").items()
        for eta in (0.0, 1.0)
        for clamp in (False, True)
    ]
    solvers = [
        [model, sampler, *(fd(model, {"sampler": sampler, "steps": steps}) for steps in SOLVER_STEPS)]
        for by in members("solvers").values()
        for model in by.values()
        for sampler in ("euler", "heun")
    ]
    offsets = sorted([0.0, *OFFSETS])
    clocks = [
        [model, *(fd(model, Sampling.for_model(about(model)).arguments, offset) for offset in offsets)]
        for by in members("wrong clock").values()
        for model in by.values()
    ]
    controls = [
        [pair, *(fd(by[told], Sampling.for_model(about(by[told])).arguments) for told in TITLES)]
        for pair, by in members("constant").items()
    ]
    starts = [f"from t = {start:g}" for start in STARTS]
    made = {
        "ddim": (
            ["Pair, DDIM in 50 steps", "eta", "x0_hat clamped"],
            [f"{told}: {start}" for told in ("told", "never told") for start in starts],
            ddim,
        ),
        "solvers": (["Model, velocity", "Solver"], [f"{steps} steps" for steps in SOLVER_STEPS], solvers),
        "wrong clock": (["Model, told t plus"], [f"{offset:+g}" if offset else "0" for offset in offsets], clocks),
        "constant": (["Pair, its own sampler"], list(TITLES.values()), controls),
    }
    lines = {name: [row for row in rows if any(row[len(of) :])] for name, (of, _, rows) in made.items()}
    return {name: cards.markdown([*made[name][0], *made[name][1]], rows) for name, rows in lines.items() if rows}


PAINT = {"ddim": _paint_ddim, "solvers": _paint_solvers, "wrong clock": _paint_clock, "constant": _paint_constant}


def main() -> int:
    parser = argparse.ArgumentParser(description="How much the answer depends on the sampler.")
    parser.add_argument("--count", type=int, default=256, help="samples a cell")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts of the study")
    parser.add_argument("--celeba", default="celeba", help="source of CelebA's images")
    parser.add_argument("--cifar10", default="cifar10", help="source of CIFAR-10's images")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--draw-only", action="store_true", help="draw what is measured already")
    parser.add_argument("--fill", type=Path, help="put the tables where their headers stand in this Markdown file")
    arguments = parser.parse_args()
    sources = {"celeba": arguments.celeba, "cifar10": arguments.cifar10}
    try:
        if arguments.draw_only:
            found = files.read_json(arguments.out)["cells"]
        else:
            found = study(arguments.only, arguments.count, sources, arguments.out)
        for path in draw(arguments.only, found, arguments.out.parent):
            print(path)
        if arguments.fill:
            files.write_atomically(arguments.fill, cards.fill(arguments.fill.read_text(), tables(found)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
