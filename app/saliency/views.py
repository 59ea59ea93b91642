"""How the tab Saliency shows its maps, checks and images."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import torch

from app import pairs, ui
from app.saliency.asking import Shown, unit
from explore import figures, saliency
from explore.data import to_uint8
from explore.experiments import Saliency
from explore.saliency import Attribution, Routes


def maps_figure(asked: Saliency, shown: Shown, found: list[Attribution]) -> Any:
    """Both maps on one scale."""
    pair = str(asked.model)
    grounds = [one.permute(1, 2, 0).tolist() for one in shown.ground]
    maps = [one.map[0].tolist() for one in found]
    signed = found[0].signed
    value = f"contribution, {unit(asked)}" if signed else "sensitivity"
    if found[0].domain == "frequencies":
        grounds = [[[[128]] * len(line) for line in one] for one in maps]
        value = f"change, {unit(asked)}"
    limit = saliency.scale_of([one.map for one in found])
    figure = figures.saliency_maps(
        grounds, maps, pairs.titles(pair), limit, signed=signed, value=value, colors=pairs.colors(pair)
    )
    return figure.update_layout(height=None)  # see CSS: square maps that are narrow are also low


def curves_figure(asked: Saliency, found: list[Attribution]) -> Any:
    """Deletion and insertion of both members."""
    pair = str(asked.model)
    curves = [one.quality["curves"] for one in found]
    return figures.deletion_curves(curves, pairs.titles(pair), unit(asked), pairs.colors(pair))


def routes_figure(asked: Saliency, through: list[Routes]) -> Any:
    """What comes through the t input, block by block."""
    pair = str(asked.model)
    parts = [one.to_json() for one in through]
    return figures.routes_bars(parts, pairs.titles(pair), pairs.colors(pair), unit(asked))


def pictures_view(pair: str, shown: Shown | None) -> str:
    """What the members are shown."""
    if shown is None:
        return ""
    title = "the clean image" if shown.x0 is not None else "its estimate of the clean image"
    cells = []
    same = torch.equal(shown.xt[0], shown.xt[1])
    for number, (name, color) in enumerate(zip(pairs.titles(pair), pairs.colors(pair))):
        if same and number:
            break
        who, tint = ("both", ui.GRAY) if same else (name, color)
        seen = ui.picture(to_uint8(shown.xt[number]), f"what {who} sees")
        cells.append(ui.cell("seen", tint, f"shown to {who}", f"t = {shown.t:.3f}", seen))
        cells.append(ui.cell("ground", tint, title, "", ui.picture(shown.ground[number][None], title)))
    return ui.pair_view(cells, "saliency-shown")


def _share(value: float | None) -> str:
    return "does not apply" if value is None else f"{value:.2%}" if value < 0.1 else f"{value:.0%}"


def quality_table(asked: Saliency, found: list[Attribution], through: list[Routes]) -> str:
    """The figures beside the maps, as far as they are there."""
    pair = str(asked.model)

    def row(name: str, pick: Callable[[int], str]) -> list[str]:
        return [name, *(pick(number) for number in range(len(found)))]

    def completeness(number: int) -> str:
        part = found[number].quality.get("completeness")
        if part is None:
            return "does not apply to this method"
        if found[number].domain == "layer":
            return f"{part['share']:.0%} passes through the block"
        return f"gap of {part['relative_gap']:.2%} in {found[number].steps} steps"

    def area(name: str) -> Callable[[int], str]:
        def pick(number: int) -> str:
            curves = found[number].quality.get("curves")
            if curves is None:
                return "does not apply" if found[number].domain == "frequencies" else "&hellip;"
            return f"{curves[f'{name}_area']:.3f} <small>(random order {curves[f'{name}_random_area']:.3f})</small>"

        return pick

    def drawn(number: int) -> str:
        check = found[number].quality.get("randomization")
        if check is None:
            return "&hellip;"
        if check["rank_correlation"] is None:
            return f"not defined <small>({html.escape(check['why'])})</small>"
        passed = "passes" if check["passes"] else "<b>fails</b>"
        return f"{check['rank_correlation']:+.2f}, of magnitudes {check['of_sizes']:+.2f}: {passed}"

    def clock(number: int) -> str:
        if number >= len(through):
            return "&hellip;"
        way = through[number]
        return "0, by definition" if way.steps == 0 and not way.given_t.any() else f"{way.given_t[0]:+.3f}"

    place = f"{found[0].layer} <small>({found[0].view})</small>" if found[0].layer else "network output"
    lines = [
        row("layer", lambda number: place),
        row("value of the target", lambda number: f"{found[number].output[0]:.3f}"),
        row("completeness of the map", completeness),
        row("deletion: mean change", area("deletion")),
        row("insertion: mean distance", area("insertion")),
        row("rank correlation with a reinitialized network", drawn),
        row("contribution of the t input", clock),
        row("contribution of the image", lambda n: f"{through[n].image[0]:+.3f}" if n < len(through) else "&hellip;"),
    ]
    if found[0].band_shares is not None:
        high = [saliency.high_pass(one.band_shares[0]).item() for one in found if one.band_shares is not None]
        lines.append(["share above a quarter of a cycle per pixel", *(_share(one) for one in high)])
    head = [ui.swatch(color) + html.escape(title) for title, color in zip(pairs.titles(pair), pairs.colors(pair))][: len(found)]
    said = [f"{html.escape(one.model)}: {html.escape(note)}" for one in found for note in one.notes]
    notes = "".join(f"<li>{note}</li>" for note in said)
    return ui.table("", ["", *head], lines) + (f"<ul class='note'>{notes}</ul>" if notes else "")


NOTE = (
    "<p class='note'>Green raises the target, purple lowers it, in the target's own unit; both maps have one scale. The "
    "image shows through where a map is near 0. <b>Deletion</b>: pixels in the map's order get the image's mean color and "
    "noise of the same level, so that the noise level stays; the change should be larger than in a random order. "
    "<b>Insertion</b> is the reverse; the distance should be smaller. <b>Reinitialized network</b>: if a network with random "
    "parameters gives nearly the same map (rank correlation of 0.3 or more), the map says nothing about this model. Not "
    f"offered: {', '.join(saliency.NEVER_OFFERED)}, which on these networks do not run or silently compute something else.</p>"
)
CSS = """
.saliency-shown { grid-template-columns: repeat(4, minmax(0, 1fr)); max-width: 40rem; }
#saliency-figure .js-plotly-plot { height: clamp(280px, 75vw, 420px); }
#saliency-table ul.note { padding-left: 1.1rem; margin-top: 6px; }
@media (max-width: 640px) { .saliency-shown { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""
