"""The controls of a sampling run: what they hold, their presets and menus, and how they follow pair and sampler.

Depends on pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from app import pairs
from explore.experiments import Compare
from explore.samplers import MAX_STEPS, SAMPLERS
from explore.samplers import options as sampler_options
from explore.trajectories import MAX_IMAGES
from explore.values import choose

# What the address holds and the controls set, in this order; the precision is the machine's own.
FIELDS = tuple(name for name in Compare.options() if name != "precision")


def read_settings(values: Mapping[str, Any]) -> Compare:
    """The request that controls or a call ask for; eta and clamp count only where the sampler has them.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    sampler = str(values.get("sampler"))
    has = sampler_options(sampler) if sampler in SAMPLERS else set()
    return Compare.parse({name: values.get(name) for name in FIELDS if name not in ("eta", "clamp") or name in has}, live=True)


def shown_values(request: Compare) -> dict[str, Any]:
    """Field -> what its control shows; eta and clamp rest at 0 and false where the sampler has none."""
    return {"eta": 0.0, "clamp": False, "start": None} | {
        name: request.values[name] for name in FIELDS if name in request.values
    }


def defaults(pair: str) -> Compare:
    """A pair with the sampler that suits it."""
    return Compare.parse({"pair": pair})


def presets() -> dict[str, Compare]:
    """Settings worth seeing, by name; the page opens on the first. Only those whose kind of pair is installed."""
    of_prediction: dict[str, str] = {}
    for pair in pairs.comparable_pairs():
        of_prediction.setdefault(pairs.members(pair)[0].prediction, pair)
    found = {}
    if "eps" in of_prediction:
        paper = defaults(of_prediction["eps"])  # DDIM with eta 1, clamped
        found["eps pair, ODE: eta 0, unclamped"] = replace(paper, sampling=replace(paper.sampling, eta=0.0, clamp=False))
        found["eps pair, as in the paper: eta 1, clamped"] = paper
    if "velocity" in of_prediction:
        found["flow pair, Heun"] = defaults(of_prediction["velocity"])
    return found or {"first pair": defaults(pairs.comparable_pairs()[0])}


def sampler_menu(pair: str) -> list[tuple[str, str]]:
    """Samplers by label; says which two are one on the linear path."""
    same = {"ddim": " (eta 0 = euler)", "euler": " (= ddim, eta 0)"} if pairs.members(pair)[0].schedule == "flow" else {}
    return [(name + same.get(name, ""), name) for name in SAMPLERS]


def sampler_note(pair: str, sampler: str) -> str:
    """First sentence of the sampler's own description, and whether another sampler is the same."""
    sentence = (SAMPLERS[sampler].__doc__ or "").strip().partition("\n\n")[0].partition(". On the linear")[0]
    note = " ".join(sentence.replace("``", "").split()).rstrip(".") + "."
    if pairs.members(pair)[0].schedule == "flow" and sampler in ("ddim", "euler"):
        note += " On this pair's linear path ddim with eta 0 is euler."
    return note


def build(at: Compare, prefix: str, count: int | None = None, tidy: bool = False) -> dict[str, Any]:
    """The controls by field, in the order of ``FIELDS``.

    Args:
        at: What they show at first.
        prefix: Of the components' ids.
        count: Images at first, in place of those of ``at``.
        tidy: Whether eta and clamp stand under Advanced.
    """
    values, has = shown_values(at), sampler_options(at.sampling.sampler)
    found: dict[str, Any] = {}

    def noise() -> None:
        with gr.Row():
            found["eta"] = gr.Number(
                values["eta"], label="eta", info="0: ODE, 1: DDPM", step=0.1, interactive="eta" in has, min_width=100,
                elem_id=f"{prefix}-eta",
            )  # fmt: skip
            found["clamp"] = gr.Checkbox(
                values["clamp"], label="clamp", info="x0_hat in [-1, 1]", interactive="clamp" in has, min_width=100,
                elem_id=f"{prefix}-clamp",
            )  # fmt: skip

    found["pair"] = pairs.menu(pairs.comparable_pairs(), at.pair, prefix)
    found["sampler"] = gr.Dropdown(
        sampler_menu(at.pair), value=values["sampler"], label="Sampler", filterable=False, elem_id=f"{prefix}-sampler",
        info=sampler_note(at.pair, values["sampler"]),
    )  # fmt: skip
    with gr.Row():
        for name, value, label, info in (
            ("steps", values["steps"], "Steps", f"1 to {MAX_STEPS}"),
            ("seed", values["seed"], "Seed", "of image 1"),
            ("count", count or values["count"], "Images", f"1 to {MAX_IMAGES}"),
        ):
            found[name] = gr.Number(value, label=label, info=info, min_width=80, elem_id=f"{prefix}-{name}")
    if not tidy:
        noise()
    with gr.Accordion("Advanced", open=False):
        if tidy:
            noise()
        found["start"] = gr.Number(
            values["start"], label="Start t", placeholder="the model's own",
            info="Above 0, at most 1; empty is the model's own.", elem_id=f"{prefix}-start",
        )  # fmt: skip
    return {name: found[name] for name in FIELDS}


def follow_sampler(controls: Mapping[str, Any], pair: str, sampler: str) -> dict[Any, Any]:
    """Changes of the controls when a sampler is chosen.

    Raises:
        ValueError: For an unknown sampler.
    """
    choose("sampler", sampler, SAMPLERS)
    able = {controls[name]: gr.update(interactive=name in sampler_options(sampler)) for name in ("eta", "clamp")}
    return {**able, controls["sampler"]: gr.update(info=sampler_note(pair, sampler))}


def fill(controls: Mapping[str, Any], settings: Compare) -> dict[Any, Any]:
    """Changes that set all controls to ``settings``."""
    changes = {controls[name]: gr.update(value=value) for name, value in shown_values(settings).items()}
    changes[controls["sampler"]]["choices"] = sampler_menu(settings.pair)
    for part, change in follow_sampler(controls, settings.pair, settings.sampling.sampler).items():
        changes[part] |= change
    return changes


def follow_pair(controls: Mapping[str, Any], pair: str) -> dict[Any, Any]:
    """Changes of the controls when a pair is chosen: the sampler that suits it; seed and count stay."""
    kept = controls["seed"], controls["count"]
    return {part: change for part, change in fill(controls, defaults(pair)).items() if part not in kept}
