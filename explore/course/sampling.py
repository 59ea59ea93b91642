"""Both members of a pair from the same noise: a recorded run, and a run with settings to choose. Depends on experiments."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

from explore import zoo
from explore.course.display import sheet
from explore.course.panel import Part, View, menu, slider
from explore.experiments import Compare
from explore.samplers import SAMPLERS, options
from explore.trajectories import Comparison


def film(record: Comparison) -> View:
    """A recorded run of two members, step by step: states or estimates, and how far apart they are."""
    frames = record.frames

    def draw(step: int, shown: str) -> list[Part]:
        frame = frames[step]
        pictures = getattr(frame, shown)
        apart = f"{frame.difference_xt:.3f} of xt, {frame.difference_x0:.3f} of x0_hat"
        return [sheet(dict(zip(record.titles, pictures))), f"t = {frame.t:.2f}. Mean absolute difference: {apart}."]

    last = len(frames) - 1
    controls = {"step": slider("step", last, 0, last, 1), "shown": menu("shown", ["xt", "x0_hat"])}
    examples = [{"step": number} for number in (0, last // 2, 3 * last // 4, last)]
    return View(draw, controls, f"{record.pair}: both members at several steps of {record.sampler}.", examples)


def compare(pairs: Sequence[str], count: int = 6, **first: Any) -> View:
    """Both members of a pair from the same noise, with the sampler's settings to choose.

    Args:
        pairs: Names of pairs.
        count: Images.
        first: Settings to begin with: sampler, steps, eta, clamp, seed.
    """
    start: dict[str, Any] = {"sampler": "heun", "steps": 10, "eta": 0.0, "clamp": False, "seed": 0} | first
    members = functools.cache(lambda pair: [zoo.load(name) for name in zoo.members_of(pair)])

    def draw(pair: str, sampler: str, steps: int, eta: float, clamp: bool, seed: int) -> list[Part]:
        wanted: dict[str, Any] = {"eta": eta, "clamp": clamp}
        chosen = {name: value for name, value in wanted.items() if name in options(sampler)}
        asked = {"pair": pair, "sampler": sampler, "steps": steps, "seed": seed, "count": count}
        [(_, record)] = deque(Compare.parse(asked | chosen, live=True).stream(members(pair)), maxlen=1)
        told, untold = record.spread
        said = f"Mean absolute difference of the samples: {record.differences[-1]['xt']:.3f}; standard deviations of their "
        said += (
            f"values {told:.3f} and {untold:.3f} (photographs: about 0.5). {record.evaluations} evaluations of each network."
        )
        return [sheet(dict(zip(record.titles, record.frames[-1].xt))), said]

    controls = {
        "pair": menu("pair", pairs), "sampler": menu("sampler", SAMPLERS, start["sampler"]),
        "steps": slider("steps", start["steps"], 1, 50, 1), "eta": slider("eta", start["eta"], 0.0, 1.0, 0.1),
        "clamp": widgets.Checkbox(start["clamp"], description="clamp x0_hat"),
        "seed": slider("seed", start["seed"], 0, 1000, 1),
    }  # fmt: skip
    examples = [{"pair": pair} for pair in pairs]
    return View(draw, controls, "Samples of both members from the same noise.", examples, button="Sample")
