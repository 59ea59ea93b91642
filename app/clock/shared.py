"""Shared by the sections of the tab Clock: atlases and small page parts."""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr

from app import pairs
from explore import files, probes, zoo
from explore.experiments import Clock
from explore.samplers import MAX_STEPS

UPDATE_SECONDS = 0.12  # at most one update of the page in this time
SECTIONS = {
    "clock-atlas": (
        "Atlas: where is the noise level represented?",
        "A linear probe predicts the noise level of the input from every layer. Each row is a layer, each column a noise "
        "level, and both models share one scale. While it was probed, the conditioned model was given the t that Told t names.",
    ),
    "clock-running": (
        "The model's clock",
        "Both models turn the same noise into images. At every step a probe predicts the noise level from the "
        "activations of each network: the implied noise level, or the model's clock. The dotted gray curve is the true level.",
    ),
    "clock-steering": (
        "Steering",
        "A layer's activations are moved along its probe's direction, as if the input were noisier or cleaner. The control is "
        "a step of the same length in a random direction.",
    ),
    "clock-ruler": (
        "Noise ruler",
        "Noise is added to one image. Its level is estimated by the probes of both networks, by classical estimators, and by "
        "exact posteriors under a Gaussian prior and given the clean image.",
    ),
}
# What each section runs when the pair changes: further inputs, outputs and the handler.
Change = tuple[list[Any], list[Any], Any]


@functools.lru_cache(maxsize=16)
def atlases(pair: str) -> list[dict[str, Any]]:
    """The contents of both members' ``atlas.json``.

    Raises:
        ValueError: If one is missing or belongs to other weights, or if their targets or noise levels differ.
    """
    pairs.clocks(pair)
    found = [files.read_json(zoo.folder(info.name) / "atlas.json") for info in pairs.members(pair)]
    if any((atlas["target"], atlas["levels"]) != (found[0]["target"], found[0]["levels"]) for atlas in found):
        raise ValueError(f"the atlases of {pair} have different targets or noise levels, and no common scale")
    return found


def regimes(pair: str) -> list[str]:
    """Regimes of the told t in which a conditioned member of the pair was probed, as both atlases hold them."""
    found = dict.fromkeys(told for atlas in atlases(pair) for told in probes.regimes(atlas) if told != probes.ANY)
    return [told for told in found if all({told, probes.ANY} & set(probes.regimes(atlas)) for atlas in atlases(pair))]


def atlases_in(pair: str, told: str) -> list[dict[str, Any]]:
    """Both members' atlases in one regime of the told t; that of a member without a t input has only one."""
    return [own.get(told) or own[probes.ANY] for own in map(probes.regimes, atlases(pair))]


@functools.lru_cache
def offered() -> tuple[list[str], dict[str, str]]:
    """Pairs with an atlas of both members; for every other pair, the reason why it is not offered."""
    able, refused = [], {}
    for pair in pairs.comparable_pairs():
        lacking = [info.name for info in pairs.members(pair) if not (zoo.folder(info.name) / "atlas.json").is_file()]
        try:
            if not lacking:
                atlases(pair)
                able.append(pair)
            else:
                refused[pair] = f"no atlas of {' and '.join(lacking)}"
        except (ValueError, KeyError) as error:
            refused[pair] = str(error)
    return able, refused


def number_fields(prefix: str) -> list[gr.Number]:
    """Number fields for seed, number of images and steps."""
    with gr.Row():
        return [
            gr.Number(0, label="Seed", info="of image 1", min_width=80, elem_id=f"{prefix}-seed"),
            gr.Number(4, label="Images", info=f"1 to {Clock.most_images}", min_width=80, elem_id=f"{prefix}-count"),
            gr.Number(25, label="Steps", info=f"1 to {MAX_STEPS}", min_width=80, elem_id=f"{prefix}-steps"),
        ]
