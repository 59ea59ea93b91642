"""Both members of a pair from the same noise: a recorded run, and a run with settings to choose. Depends on panel."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from typing import Any

from explore import zoo
from explore.course.display import sheet
from explore.course.panel import Part, View, controls_of, following, menu, slider
from explore.experiments import Compare
from explore.samplers import options
from explore.trajectories import Comparison


def film(record: Comparison) -> View:
    """A recorded run of two members, step by step: states or estimates, and their difference."""

    def draw(step: int, shown: str) -> list[Part]:
        frame = record.frames[step]
        difference = f"{frame.difference_xt:.3f} of xt, {frame.difference_x0:.3f} of x0_hat"
        pictures = sheet(dict(zip(record.titles, getattr(frame, shown))))
        return [pictures, f"t = {frame.t:.2f}. Mean absolute difference: {difference}."]

    last = len(record.frames) - 1
    controls = {"step": slider("step", last, 0, last, 1), "shown": menu("shown", ["xt", "x0_hat"])}
    examples = [{"step": number} for number in (0, last // 2, 3 * last // 4, last)]
    return View(draw, controls, f"{record.pair}: both members at several steps of {record.sampler}.", examples)


def compare(pairs: Sequence[str], count: int = 6, **first: Any) -> View:
    """Both members of a pair from the same noise, with the settings of the sampler to choose.

    Args:
        pairs: Names of pairs.
        count: Images.
        first: Settings to begin with: sampler, steps, eta, clamp, seed.
    """
    members = functools.cache(lambda pair: [zoo.load(name) for name in zoo.members_of(pair)])

    def draw(sampler: str, eta: float, clamp: bool, **asked: Any) -> Generator[str, None, list[Part]]:
        chosen = {name: value for name, value in {"eta": eta, "clamp": clamp}.items() if name in options(sampler)}
        request = Compare.parse({"sampler": sampler, "count": count} | asked | chosen, live=True)
        _, record = yield from following(request.stream(members(request.pair)), request.pair, request.sampling.steps)
        conditioned, agnostic = record.spread
        said = (
            f"Mean absolute difference of the samples: {record.differences[-1]['xt']:.3f}. Standard deviation of their values: "
            f"{conditioned:.3f} and {agnostic:.3f} (photographs: about 0.5). Evaluations of each network: {record.evaluations}."
        )
        return [sheet(dict(zip(record.titles, record.frames[-1].xt))), said, request]

    start = {"sampler": "heun", "steps": 10, "eta": None, "clamp": None, "seed": None} | first
    controls = controls_of(Compare, pair=list(pairs), **start)
    examples = [{"pair": pair} for pair in pairs]
    return View(draw, controls, "Samples of both members from the same noise.", examples, button="Sample")
