"""What was measured, in figures and as Markdown tables: for the README, the command ``table`` and the app.

Depends on data, differences, evaluation, models, probes, store, zoo.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from explore import files, probes, zoo
from explore.cards.differences import differences
from explore.cards.store import atlas, by_seed, distances, metrics, yardsticks
from explore.evaluation import DENOISING_TIMES
from explore.models import ARCHITECTURES
from explore.statistics import Interval

if TYPE_CHECKING:
    from jinja2 import Environment

# Part of the differences -> its format in the README's table.
COMPARED = {"fd": "+.2f", "precision": "+.3f", "recall": "+.3f", **{f"denoising t={t}": "+.1%" for t in DENOISING_TIMES}}


def summary(info: zoo.ModelInfo) -> dict[str, Any]:
    """What is stored of a model, as the templates take it.

    Returns:
        ``info``; ``stored``, its metrics; ``distances`` and ``differences``; ``study``, the differences over the training seeds
        of seeds.json; ``atlas``, empty if there is none, with the rows ``best``, of its best layer, and ``alone``, of the
        baseline without a network that is best near the data; ``regimes``, the atlas in each regime of the t that the network
        was told, with such rows.
    """
    gaps, record = differences(info.name), atlas(info.name)
    best, alone = _best_rows(record) if record else (None, None)
    return {
        "info": info, "stored": metrics(info.name), "distances": distances(metrics(info.name)), "differences": gaps,
        "study": differences(info.name, study=True),
        "atlas": record, "best": best, "alone": alone,
        "regimes": {
            told: part | dict(zip(("row", "alone"), _best_rows(part)))
            for told, part in (probes.regimes(record) if record else {}).items()
        },
    }  # fmt: skip


def _best_rows(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    layers = [row for row in record["layers"] if row["name"] != "input"]
    [best] = [row for row in layers if {key: row[key] for key in ("name", "view")} == record["best"]]
    baselines = [row for row in record["layers"] if row["name"] == "input" and row["view"] != probes.TOLD_T]
    return best, min(baselines, key=lambda row: next(iter(row["error_by_region"].values())))


def figures(info: zoo.ModelInfo) -> dict[str, Any]:
    """What was measured of a model, in single figures; None where nothing was.

    Returns:
        ``distance`` (its name), ``fd, kid, precision, recall, features, reference, split, reference_images, count, sampler,
        steps, nfe, seeds, dtype, images_per_second`` of the distances in the first of ``FEATURES`` measured; ``step_error``
        (mean squared error of one denoising step at t = .5) and ``clock_error_near_data`` (of its best layer's probe, over
        the Cramer-Rao bound given x0).
    """
    stored, record = metrics(info.name), atlas(info.name)
    measured = distances(stored)
    keys = (
        "distance", "fd", "kid", "precision", "recall", "features", "reference", "split", "reference_images", "count",
        "sampler", "steps", "nfe", "seeds", "dtype", "images_per_second",
    )  # fmt: skip
    errors = {row["t"]: row["mse"] for row in stored.get("denoising", {}).get("rows", [])}
    error = next(iter(_best_rows(record)[0]["error_over_yardstick_by_region"].values()))["value"] if record else None
    found = {key: measured.get(key) for key in keys}
    return found | {"step_error": errors.get(0.5), "clock_error_near_data": error}


def rows() -> list[dict[str, Any]]:
    """Every model in figures: the fields of ``models``, those of :func:`figures`, what it costs, all metrics.

    Returns:
        Per model also ``training_seeds``, ``flops`` (of one evaluation of one image, a multiply-add is two), ``differences``
        (see :func:`differences`) and ``metrics``, all that is stored of the shipped weights.
    """
    found = []
    for info in zoo.models():
        config = files.read_json(zoo.folder(info.name) / "config.json")
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            network = ARCHITECTURES[info.architecture](info.time_conditioning, **config["network"]).requires_grad_(False)
            network(torch.empty(1, 3, info.resolution, info.resolution), torch.empty(1))
        found.append(
            {
                **asdict(info),
                **figures(info),
                "training_seeds": list(by_seed(info.name)),
                "flops": counter.get_total_flops(),
                "differences": differences(info.name),
                "metrics": metrics(info.name),
            }
        )
    return found


def tables() -> dict[str, str]:
    """The README's tables, in Markdown, from the index and the stored measurements; those without a line are left out."""
    template = environment().get_template("tables.md.j2")
    values = {
        "models": [summary(info) for info in zoo.models()], "yardsticks": yardsticks().values(),
        "denoising_times": DENOISING_TIMES,
        "compared": COMPARED,
    }  # fmt: skip
    found = {name: "".join(block(template.new_context(values))).strip() for name, block in template.blocks.items()}
    return {name: table for name, table in found.items() if table.count("\n") > 1}


def fill(text: str, tables: dict[str, str]) -> str:
    """``text`` with every table that has the header of one of ``tables`` replaced by it.

    Raises:
        ValueError: If a table's header is not there exactly once: write it where the table should stand.
    """
    for name, table in tables.items():
        header = table.splitlines()[0]
        lines = text.splitlines()
        if lines.count(header) != 1:
            raise ValueError(f"the header of the table of {name} must be there once, is {lines.count(header)} times: {header}")
        first = lines.index(header)
        last = next((i for i in range(first, len(lines)) if not lines[i].startswith("|")), len(lines))
        text = "\n".join([*lines[:first], *table.splitlines(), *lines[last:]]) + "\n"
    return text


# What the templates call ---------------------------------------------------------------------------------------------------


def _row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _head(*names: str) -> str:
    return f"{_row(*names)}\n{_row(*['---'] * len(names))}"


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table, or nothing where there are no lines."""
    return "\n".join([_head(*header), *(_row(*cells) for cells in lines)]) if lines else ""


def _seeds_compared(gaps: dict[str, Any]) -> str:
    """How many training seeds differences are over: ``1``, or ``1 (distances) or 3`` where fewer have distances."""
    counts = {part: len(gap["seeds"]) for part, gap in gaps.items() if part != "losses"}
    fewest, most = min(counts.values()), max(counts.values())
    if fewest == most:
        return str(most)
    return f"{fewest} (distances) or {most}" if counts.get("fd") == fewest else f"{fewest} or {most}"


def _interval(stored: dict[str, Any], form: str = ".1f", scale: float = 1) -> str:
    """A stored :class:`explore.statistics.Interval`, each number times ``scale``; the estimate alone if it has no ends."""
    value, low, high = (math.nan if stored[name] is None else scale * stored[name] for name in ("value", "low", "high"))
    return format(value, form) if math.isnan(low) or math.isnan(high) else f"{Interval(value, low, high):{form}}"


def _noise_draws(record: dict[str, Any]) -> str:
    """How many noises each image of a record has; records without the field have one."""
    count = record.get("noise_draws", 1)
    return "one noise draw each" if count == 1 else f"{count} noise draws each"


def _noise_over(record: dict[str, Any]) -> str:
    """What the intervals of a record are over."""
    return "images, one noise draw each" if record.get("noise_draws", 1) == 1 else "images and noise draws"


def _at(rows: list[dict[str, Any]], times: tuple[float, ...]) -> list[dict[str, Any]]:
    return [row for t in times for row in rows if math.isclose(row["t"], t)]


@functools.cache
def environment() -> Environment:
    """The templates, with the functions that they call."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # imported here: the trainer runs where there is no Jinja

    made = Environment(
        loader=PackageLoader("explore.cards"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    made.filters |= {"f": format, "at": _at}
    made.globals |= {"row": _row, "head": _head, "interval": _interval, "seeds_compared": _seeds_compared}
    made.globals |= {"noise_draws": _noise_draws, "noise_over": _noise_over}
    made.globals |= {"bias_share": probes.bias_share, "posterior_wins": probes.posterior_wins}
    return made
