"""What a layer's probe predicts, and what follows if t or a layer is changed. Depends on interventions, panel, probes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from explore import figures, interventions, probes
from explore.course.display import sheet
from explore.course.panel import Part, View, menu, slider, titles_of
from explore.denoiser import Denoiser
from explore.probes import Clock
from explore.seeds import seed_range


def layer_reading(atlases: Sequence[Mapping[str, Any]]) -> View:
    """What a layer's probe reads at every noise level, both members, from their atlases.

    Args:
        atlases: What ``atlas.json`` of the members holds.
    """
    titles = titles_of(atlas["model"] for atlas in atlases)
    names = [row["name"] for row in atlases[0]["layers"] if row["view"] == "mean_std" and row["name"] != "input"]

    def draw(layer: str, view: str) -> list[Part]:
        said = []
        for title, atlas in zip(titles, atlases):
            row = next(row for row in atlas["layers"] if (row["name"], row["view"]) == (layer, view))
            error, gain = row["error_over_yardstick_by_region"]["near the data"][0], row["gain_by_region"]["near the data"][0]
            said.append(f"{title}: {error:.1f} yardsticks, {gain:.2f} times as near as a random network")
        return [
            figures.reading_curve(list(map(dict, atlases)), titles, layer, view),
            "Error near the data. " + "; ".join(said) + ".",
        ]

    controls = {"layer": menu("layer", names, "down.2.block.0" if "down.2.block.0" in names else names[-1]),
                "view": menu("features", ["mean_std", "mean"])}  # fmt: skip
    words = "Read against true noise level of a layer of both members."
    return View(draw, controls, words, [{"layer": name} for name in (names[0], names[len(names) // 2])])


def lied_to(denoisers: Sequence[Denoiser], clocks: Sequence[Clock], count: int = 6, steps: int = 8) -> View:
    """Samples of both members while they are told t plus an offset, and the clocks that their best layers imply.

    Args:
        denoisers: Two members of a pair.
        clocks: Their probes.
        count: Images.
        steps: Of Heun's method.
    """
    titles = titles_of(denoiser.name for denoiser in denoisers)

    def draw(offset: float, seed: int) -> list[Part]:
        rows, runs, seeds = {}, [], seed_range(seed, count)
        for title, denoiser, clock in zip(titles, denoisers, clocks):
            stream = probes.clock_stream(denoiser, clock, seeds, offset=offset, steps=steps)
            [(step, run)] = deque(stream, maxlen=1)
            rows[title] = step.xt
            runs.append(run)
        spread = ", ".join(f"{title} {images.std().item():.3f}" for title, images in rows.items())
        said = f"Told t {offset:+g}. Standard deviation of the samples' values: {spread}."
        return [sheet(rows), said, figures.clock_curves(runs, titles).update_layout(title=None)]  # said above

    controls = {"offset": slider("told t plus", 0.0, -0.2, 0.2, 0.05), "seed": slider("seed", 0, 0, 1000, 1)}
    words = "Samples and implied clocks of both members, told the truth and told a wrong time."
    return View(draw, controls, words, [{"offset": 0.0}, {"offset": 0.15}], button="Sample")


def steering(denoiser: Denoiser, clock: Clock, layers: Sequence[str], count: int = 6, steps: int = 8) -> View:
    """Samples as they are, steered along a layer's direction, and steered along a random one of the same length.

    Args:
        denoiser: The model.
        clock: Its probes.
        layers: Hook points to choose from.
        count: Images.
        steps: Of Heun's method.
    """

    def draw(layer: str, dose: float, direction: str) -> list[Part]:
        found = interventions.steered_samples(
            denoiser, clock, seed_range(0, count), layer, dose, direction=direction, sampler="heun", steps=steps
        )
        gap = found["difference"]
        said = (
            f"Mean absolute difference from the samples as they are: steered {gap['steered']:.3f}, random {gap['control']:.3f}."
        )
        titles = {
            "plain": "as it is",
            "steered": f"reading moved by {dose:+g}",
            "control": "random direction of the same length",
        }
        return [sheet({titles[name]: images for name, images in found["images"].items()}), said]

    controls = {"layer": menu("layer", layers), "dose": slider("dose", -2.0, -4.0, 4.0, 0.5),
                "direction": menu("direction", interventions.DIRECTIONS)}  # fmt: skip
    words = "Samples as they are, steered, and steered at random."
    return View(draw, controls, words, [{"dose": -2.0}, {"dose": 2.0}], button="Sample")
