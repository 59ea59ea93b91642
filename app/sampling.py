"""Controls of a sampling run of a pair: presets, menus and reading of values. Depends on pairs and ui."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app import pairs, ui
from explore.experiments import Compare
from explore.samplers import MAX_STEPS, SAMPLERS, suited
from explore.samplers import options as sampler_options
from explore.trajectories import MAX_IMAGES
from explore.values import choose

# What the address holds and the controls set, in this order; the precision is the machine's own.
FIELDS = tuple(name for name in Compare.options() if name != "precision")
OF_SAMPLERS = ("eta", "clamp", "step_size")  # fields that only some samplers have
PAIR_INFO = "Members differ only in time conditioning."


def read_settings(values: Mapping[str, Any]) -> Compare:
    """The request that controls or a call ask for; those of some samplers count only where the sampler has them.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    sampler = str(values.get("sampler"))
    has = sampler_options(sampler) if sampler in SAMPLERS else set()
    return Compare.parse({name: values.get(name) for name in FIELDS if name not in OF_SAMPLERS or name in has}, live=True)


def shown_values(request: Compare) -> dict[str, Any]:
    """Field -> what its control shows; eta and clamp rest at 0 and false where the sampler has none."""
    return {"eta": 0.0, "clamp": False, "start": None, "step_size": None} | {
        name: request.values[name] for name in FIELDS if name in request.values
    }


def defaults(pair: str) -> Compare:
    """A pair with the sampler that suits it."""
    return Compare.parse({"pair": pair})


@functools.lru_cache
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
    """Samplers that work with a pair, by label; says which two are one on the linear path."""
    prediction = pairs.members(pair)[0].prediction
    same = {"ddim": " (eta 0 = euler)", "euler": " (= ddim, eta 0)"} if pairs.members(pair)[0].schedule == "flow" else {}
    return [(name + same.get(name, ""), name) for name in SAMPLERS if suited(name, prediction)]


def sampler_note(pair: str, sampler: str) -> str:
    """First sentence of the sampler's own description, and whether another sampler is the same."""
    sentence = (SAMPLERS[sampler].__doc__ or "").strip().partition("\n\n")[0].partition(". On the linear")[0]
    note = " ".join(sentence.replace("``", "").split()).rstrip(".") + "."
    if pairs.members(pair)[0].schedule == "flow" and sampler in ("ddim", "euler"):
        note += " On this pair's linear path ddim with eta 0 is euler."
    return note


@dataclass(frozen=True)
class Controls:
    """Controls of all ``FIELDS``, by name in that order."""

    parts: dict[str, Any]

    @staticmethod
    def build(prefix: str, opening: Compare) -> Controls:
        """Lays them out with ids ``PREFIX-FIELD``, at the settings ``opening``."""
        has, at = sampler_options(opening.sampling.sampler), shown_values(opening)
        parts: dict[str, Any] = {}
        parts["pair"] = gr.Dropdown(
            pairs.comparable_pairs(), value=opening.pair, label="Pair", filterable=False, info=PAIR_INFO,
            elem_id=f"{prefix}-pair",
        )  # fmt: skip
        parts["sampler"] = gr.Dropdown(
            sampler_menu(opening.pair), value=at["sampler"], label="Sampler", filterable=False, elem_id=f"{prefix}-sampler",
            info=sampler_note(opening.pair, at["sampler"]),
        )  # fmt: skip

        def numbers(**about: tuple[str, str, dict[str, Any]]) -> None:
            with gr.Row():
                for name, (label, info, more) in about.items():
                    kind = gr.Checkbox if name == "clamp" else gr.Number
                    parts[name] = kind(at[name], label=label, info=info, elem_id=f"{prefix}-{name}", min_width=80, **more)

        numbers(
            steps=("Steps", f"1 to {MAX_STEPS}", {}),
            seed=("Seed", "of image 1", {}),
            count=("Images", f"1 to {MAX_IMAGES}", {}),
        )
        numbers(
            eta=("eta", "0: ODE, 1: DDPM", {"step": 0.1, "interactive": "eta" in has}),
            clamp=("clamp", "x0_hat in [-1, 1]", {"interactive": "clamp" in has}),
        )
        with gr.Accordion("Advanced", open=False):
            start = "Above 0, at most 1; empty is the model's own."
            size = {"placeholder": "the sampler's own", "interactive": "step_size" in has}
            numbers(
                start=("Start t", start, {"placeholder": "the model's own"}),
                step_size=("Step size", "Of descent, at most 1.", size),
            )
        found = Controls({name: parts[name] for name in FIELDS})
        pair, sampler = parts["pair"], parts["sampler"]
        sampler.input(found.choose_sampler, [pair, sampler], [sampler, *(parts[name] for name in OF_SAMPLERS)], **ui.AT_ONCE)
        return found

    @property
    def listed(self) -> list[Any]:
        """All of them."""
        return list(self.parts.values())

    def fill(self, settings: Compare) -> dict[Any, Any]:
        """Updates that set all controls to ``settings``."""
        changes = {self.parts[name]: gr.update(value=value) for name, value in shown_values(settings).items()}
        changes[self.parts["sampler"]]["choices"] = sampler_menu(settings.pair)
        for part, change in self.choose_sampler(settings.pair, settings.sampling.sampler).items():
            changes[part] |= change
        return changes

    def fill_sampling(self, pair: str) -> dict[Any, Any]:
        """Updates that set the sampler's controls to what suits a pair that was chosen."""
        kept = [self.parts[name] for name in ("pair", "seed", "count")]
        return {part: change for part, change in self.fill(defaults(pair)).items() if part not in kept}

    def choose_sampler(self, pair: str, sampler: str) -> dict[Any, Any]:
        """Updates for a sampler that was chosen: its note, and which of its options can be set."""
        choose("sampler", sampler, SAMPLERS)
        able = {self.parts[name]: gr.update(interactive=name in sampler_options(sampler)) for name in OF_SAMPLERS}
        return {**able, self.parts["sampler"]: gr.update(info=sampler_note(pair, sampler))}
