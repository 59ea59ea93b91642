"""What a layer's probe predicts, and what follows if t or a layer is changed. Depends on interventions, panel."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from explore import figures, interventions, probes
from explore.course.display import sheet
from explore.course.panel import Part, View, controls_of, following, menu, slider, titles_of
from explore.denoiser import Denoiser
from explore.experiments import Clock, Steering


def atlas_titles(atlases: Sequence[dict[str, Any]]) -> list[str]:
    """Titles of the members, with the t that a conditioned one was told: ``conditioned (random t)``.

    Args:
        atlases: Contents of the members' ``atlas.json``.
    """
    told = [next(iter(probes.regimes(atlas))) for atlas in atlases]
    titles = titles_of(atlas["model"] for atlas in atlases)
    return [title if one == probes.ANY else f"{title} ({probes.told_label(one)})" for title, one in zip(titles, told)]


def atlas_errors(atlases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors over the bound by region: of each member's best layer, then of the baselines without a network.

    Args:
        atlases: Contents of the members' ``atlas.json``.
    """
    best = [
        next(row for row in atlas["layers"] if {"name": row["name"], "view": row["view"]} == atlas["best"]) for atlas in atlases
    ]
    own = [(f"{title}: {row['name']}", row) for title, row in zip(atlas_titles(atlases), best)]
    baselines = [row for row in atlases[0]["layers"] if row["name"] == "input" and row["view"] != probes.TOLD_T]
    rows = []
    for name, row in [*own, *((f"picture alone: {row['view']}", row) for row in baselines)]:
        errors = {region.replace("_", " "): one["value"] for region, one in row["error_over_yardstick_by_region"].items()}
        gain = row["gain_by_region"].get("near_the_data")
        rows.append({"estimator": name, **errors, "gain over random": gain and gain["value"]})
    return rows


def layer_reading(atlases: Sequence[dict[str, Any]]) -> View:
    """What a layer's probe predicts at every noise level, for both members.

    Args:
        atlases: Contents of the members' ``atlas.json``.
    """
    titles = atlas_titles(atlases)
    names = [row["name"] for row in atlases[0]["layers"] if row["view"] == "mean_std" and row["name"] != "input"]

    def draw(layer: str, view: str) -> list[Part]:
        said = []
        for title, atlas in zip(titles, atlases):
            row = next(row for row in atlas["layers"] if (row["name"], row["view"]) == (layer, view))
            error, gain = (row[name]["near_the_data"]["value"] for name in ("error_over_yardstick_by_region", "gain_by_region"))
            said.append(f"{title}: {error:.1f} times the bound, {gain:.2f} times smaller than with a random network")
        drawn = figures.reading_curve(atlases, titles, layer, view)
        return [drawn, "Error near the data. " + "; ".join(said) + "."]

    first = "down.2.block.0" if "down.2.block.0" in names else names[-1]
    controls = {"layer": menu("layer", names, first), "view": menu("features", ["mean_std", "mean"])}
    words = "Probe prediction against true noise level for a layer of both members."
    return View(draw, controls, words, [{"layer": name} for name in (names[0], names[len(names) // 2])])


def lied_to(denoisers: Sequence[Denoiser], probe_sets: Sequence[probes.ProbeSet], count: int = 6, steps: int = 8) -> View:
    """Samples of both members when they are given t plus an offset, and the noise levels that their best layers imply.

    Args:
        denoisers: Two members of a pair.
        probe_sets: Their probes.
        count: Images.
        steps: Of Heun's method.
    """
    titles = titles_of(denoiser.name for denoiser in denoisers)

    def draw(clock_offset: float, seed: int) -> Generator[str, None, list[Part]]:
        rows, runs, requests = {}, [], []
        for title, denoiser, probe_set in zip(titles, denoisers, probe_sets):
            asked = {"model": denoiser.name, "sampler": "heun", "steps": steps, "seed": seed, "count": count}
            requests.append(Clock.parse(asked | {"clock_offset": clock_offset}, live=True))
            [step], [run] = yield from following(requests[-1].stream([denoiser], [probe_set]), title, steps)
            rows[title] = step.xt
            runs.append(run)
        spread = ", ".join(f"{title} {images.std().item():.3f}" for title, images in rows.items())
        said = f"Given t {clock_offset:+g}. Standard deviation of the samples' values: {spread}."
        return [
            sheet(rows),
            said,
            figures.implied_level_curves(runs, titles).update_layout(title=None),
            *requests,
        ]  # title: said above

    controls = controls_of(Clock, clock_offset=None, seed=None)
    words = "Samples and implied noise levels of both members, with the true t and with a wrong one."
    return View(draw, controls, words, [{"clock_offset": 0.0}, {"clock_offset": 0.15}], button="Sample")


def steering(denoiser: Denoiser, probe_set: probes.ProbeSet, layers: Sequence[str], count: int = 6, steps: int = 8) -> View:
    """Samples of the unchanged model, steered along a layer's direction, and along a random direction of the same length.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        layers: Hook points to choose from.
        count: Images.
        steps: Of Heun's method.
    """

    def draw(layer: str, dose: float, direction: str) -> Generator[str, None, list[Part]]:
        values = {"model": denoiser.name, "layer": layer, "dose": dose, "direction": direction, "count": count}
        asked = Steering.parse(values | {"sampler": "heun", "steps": steps})
        images = {}
        for run, step in asked.stream(denoiser, probe_set):
            images[run] = step.xt
            yield f"{run}: step {step.index} of {steps}"
        gap = interventions.steered_figures(images)["difference"]
        said = f"Mean absolute difference from unchanged samples: steered {gap['steered']:.3f}, random {gap['control']:.3f}."
        titles = {
            "plain": "unchanged", "steered": f"probe prediction moved by {dose:+g}",
            "control": "random direction of the same length",
        }  # fmt: skip
        return [sheet({titles[run]: one for run, one in images.items()}), said, asked]

    doses = interventions.DOSES
    controls = {
        **controls_of(Steering, layer=list(layers)), "dose": slider("dose", -2.0, min(doses), max(doses), 0.5),
        **controls_of(Steering, direction=None),
    }  # fmt: skip
    words = "Unchanged samples, steered samples, and samples steered along a random direction."
    return View(draw, controls, words, [{"dose": -2.0}, {"dose": 2.0}], button="Sample")
