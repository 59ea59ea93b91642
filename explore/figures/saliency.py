"""Figures of saliency: attribution maps, deletion and insertion, and image features that set the implied noise level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explore.figures.style import CONDITIONED, TIME_AGNOSTIC, UNITS, add_band, apply_style, error_bars, rgba

LESS, MORE = "#762A83", "#1B7837"  # ends of ColorBrewer's PRGn; no member of a pair has these colors
_CIVIDIS = ("#00224E", "#123570", "#3B496C", "#575D6D", "#707173", "#8A8678", "#A59C74", "#C3B369", "#E1CC55", "#FEE838")


def saliency_maps(
    pictures: Sequence[Any], maps: Sequence[Any], titles: Sequence[str], limit: float, *, signed: bool = True,
    value: str = "contribution", colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC),
) -> go.Figure:  # fmt: skip
    """Attribution maps over their images, one panel per model on one scale. Small values are transparent.

    Args:
        pictures: Images, uint8 arrays (H, W, 3 or 1).
        maps: Arrays (H, W), or (h, w) in the frequency plane.
        titles: Title of each panel.
        limit: Value of the full color, shared by all panels.
        signed: Use a diverging scale from -limit to limit; otherwise the scale starts at 0.
        value: Title of the color bar, with its unit.
        colors: Color of each title.
    """
    figure = make_subplots(cols=len(maps), subplot_titles=list(titles), horizontal_spacing=0.04)
    clear = [rgba(MORE, 0.0), rgba(LESS, 0.0)]
    steps = [(0.0, 0.0), (0.1, 0.04), (0.3, 0.35), (0.6, 0.75), (1.0, 0.95)]
    scale = [[0.5 + share / 2 if signed else share, rgba(MORE, opacity)] for share, opacity in steps]
    if signed:
        scale = (
            [[0.5 - share / 2, rgba(LESS, opacity)] for share, opacity in reversed(steps[1:])] + [[0.5, clear[0]]] + scale[1:]
        )
    bar: dict[str, Any] = {"orientation": "h", "thickness": 10, "y": -0.04, "yanchor": "top", "len": 0.9, "nticks": 7}
    bar["title"] = {"text": value, "side": "bottom"}
    for column, (picture, values) in enumerate(zip(pictures, maps), start=1):
        # Pale gray, so that the map is visible on dark parts of the image.
        gray = [[[round(90 + 0.6 * sum(map(int, pixel)) / len(pixel))] * 3 for pixel in line] for line in picture]
        figure.add_image(z=gray, hoverinfo="skip", row=1, col=column)
        figure.add_heatmap(
            z=[[float(one) for one in line] for line in values], zmin=-limit if signed else 0.0, zmax=limit, colorscale=scale,
            showscale=column == len(maps), colorbar=bar,
            hovertemplate="row %{y}, column %{x}: %{z:.4g}<extra></extra>", row=1, col=column,
        )  # fmt: skip
    apply_style(figure, "", "")
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    for column in range(1, len(maps) + 1):
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(scaleanchor=anchor, scaleratio=1, row=1, col=column)
    for annotation, color in zip(figure.layout.annotations, colors):
        annotation.font = {"color": color, "size": 14}
    figure.update_layout(height=420, hovermode="closest", margin={"l": 8, "r": 8, "t": 36, "b": 76})
    return figure


def deletion_curves(
    curves: Sequence[dict[str, Any]],
    titles: Sequence[str],
    unit: str = "target",
    colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC),
) -> go.Figure:
    """Deletion and insertion curves: pixels in the order of the map (solid) and in random orders (dotted).

    Args:
        curves: Results of the check ``curves`` of an attribution, one per model.
        titles: Title of each model.
        unit: Unit of the target.
        colors: Color of each model.
    """
    figure = make_subplots(cols=2, shared_yaxes=True, subplot_titles=["deletion", "insertion"], horizontal_spacing=0.04)
    for curve, title, color in zip(curves, titles, colors):
        for column, name in enumerate(("deletion", "insertion"), start=1):
            for ending, words, dash in (("", "map order", "solid"), ("_random", "random order", "dot")):
                figure.add_scatter(
                    x=[100 * share for share in curve["fractions"]], y=curve[f"{name}{ending}"], name=f"{title}, {words}",
                    mode="lines+markers" if not ending else "lines", marker={"size": 5}, showlegend=column == 1,
                    line={"color": color, "width": 2.5 if not ending else 1.8, "dash": dash}, hovertemplate="%{y:.3f}",
                    row=1, col=column,
                )  # fmt: skip
    apply_style(figure, "pixels, %", "")
    figure.update_yaxes(title=unit, row=1, col=1)
    figure.update_layout(height=340, margin={"t": 76}, legend={"y": 1.12})
    return figure


def band_shares(records: Sequence[Any], titles: Sequence[str], method: str = "integrated-gradients") -> go.Figure:
    """Share of the attribution of the implied noise level in each frequency band, by noise level. One panel per model.

    Args:
        records: Results of ``explore.saliency.reading``, one per model.
        titles: Title of each model.
        method: Attribution method, one of those in the records.
    """
    figure = make_subplots(cols=len(records), shared_yaxes=True, subplot_titles=list(titles), horizontal_spacing=0.04)
    for column, record in enumerate(records, start=1):
        rows = [row for row in record.where if row.method == method]
        levels = [f"{row.logsnr:g}" for row in rows] + ["evenly"]
        for band, (low, high) in enumerate(record.bands.edges):
            share = [row.bands[band] for row in rows]
            even = record.bands.if_spread_evenly[band]
            tone = _CIVIDIS[band * (len(_CIVIDIS) - 1) // max(1, len(record.bands.edges) - 1)]
            figure.add_bar(
                x=levels, y=[100 * one.value for one in share] + [100 * even], marker={"color": tone, "line": {"width": 0}},
                name=f"{low:.2g} to {high:.2g}", showlegend=column == 1,
                customdata=[*(one.ends for one in share), [even, even]],
                hovertemplate="%{y:.1f} % (%{customdata[0]:.3f} to %{customdata[1]:.3f})", row=1, col=column,
            )  # fmt: skip
    apply_style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(title="share of attribution, %", range=[0, 100], row=1, col=1)
    figure.update_xaxes(type="category")
    figure.update_layout(
        barmode="stack", height=400, margin={"t": 92}, legend={"y": 1.13, "title": {"text": "cycles a pixel"}}, bargap=0.15
    )
    return figure


def reading_shares(
    records: Sequence[Any], titles: Sequence[str], method: str = "integrated-gradients",
    colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC),
) -> go.Figure:  # fmt: skip
    """Share of the attribution in high frequencies, flat patches and textured patches, by noise level.

    The dotted line is the same share for the noisy image itself.

    Args:
        records: Results of ``explore.saliency.reading``, one per model.
        titles: Title of each model.
        method: Attribution method, one of those in the records.
        colors: Color of each model.
    """
    panels = {
        "high frequencies": lambda row: (row.high_pass, row.high_pass_power),
        "flat patches": lambda row: (row.texture["flat"], row.texture_of_image["flat"]),
        "textured patches": lambda row: (row.texture["textured"], row.texture_of_image["textured"]),
    }
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), horizontal_spacing=0.06)
    for column, pick in enumerate(panels.values(), start=1):
        place = {"row": 1, "col": column}
        for number, (record, title, color) in enumerate(zip(records, titles, colors)):
            rows = [row for row in record.where if row.method == method]
            levels = [row.logsnr for row in rows]
            shares, own = [pick(row)[0] for row in rows], [pick(row)[1] for row in rows]
            low, high = (
                [100 * (one.value if end is None else end) for one in shares for end in [one.ends[at]]] for at in (0, 1)
            )
            add_band(figure, levels, low, high, color, **place)
            figure.add_scatter(
                x=levels, y=[100 * one.value for one in shares], name=title, mode="lines+markers", showlegend=column == 1,
                line={"color": color, "width": 2.5}, marker={"size": 6}, hovertemplate="%{y:.1f} %", **place,
            )  # fmt: skip
            if number == 0:
                figure.add_scatter(
                    x=levels, y=[100 * one.value for one in own], name="the noisy image itself", mode="lines",
                    showlegend=column == 1, line={"color": "#7f7f7f", "width": 1.8, "dash": "dot"},
                    hovertemplate="%{y:.1f} %", **place,
                )  # fmt: skip
    apply_style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(title="share, %", row=1, col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(height=360, margin={"t": 76}, legend={"y": 1.12})
    return figure


def clock_shift(
    records: Sequence[Any], titles: Sequence[str], colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC)
) -> go.Figure:
    """Shift of the implied noise level when x_t gets the norm or the high-pass content of another noise level.

    Args:
        records: Results of ``explore.saliency.reading``, one per model.
        titles: Title of each model.
        colors: Color of each model.
    """
    shifts = sorted({row.other_logsnr - row.logsnr for record in records for row in record.norm_or_high_pass})
    names = [f"other level {shift:+g}: {'noisier' if shift < 0 else 'cleaner'}" for shift in shifts]
    figure = make_subplots(cols=len(shifts), subplot_titles=names, horizontal_spacing=0.07)
    kinds = (("norm_patched", "norm of the other level", "solid", "circle"),
             ("high_pass_patched_norm_kept", "high-pass content, norm kept", "dash", "diamond"),
             ("whole", "the other image", "dot", None))  # fmt: skip
    for record, title, color in zip(records, titles, colors):
        for column, shift in enumerate(shifts, start=1):
            rows = [row for row in record.norm_or_high_pass if row.other_logsnr - row.logsnr == shift]
            for kind, words, dash, symbol in kinds:
                shown = [row.shift[kind] for row in rows]
                figure.add_scatter(
                    x=[row.logsnr for row in rows], y=[one.value for one in shown], name=f"{title}: {words}",
                    mode="lines+markers" if symbol else "lines", showlegend=column == 1, marker={"size": 7, "symbol": symbol},
                    line={"color": color, "width": 2.5 if symbol else 1.5, "dash": dash}, hovertemplate="%{y:.2f}",
                    error_y=error_bars(shown, width=2) if symbol else None, row=1, col=column,
                )  # fmt: skip
    apply_style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(title=f"shift of the implied noise level, {UNITS[records[0].probe_target]}", row=1, col=1)
    figure.update_layout(height=440, margin={"t": 130}, legend={"y": 1.14})
    return figure


def _level_pairs(record: Any) -> tuple[list[tuple[float, float]], list[str]]:
    """The pairs of noise levels of a record, and their titles."""
    pairs = list(dict.fromkeys((row.levels[0], row.levels[1]) for row in record.two_levels.rows))
    return pairs, [f"{left:g} | {right:g}" for left, right in pairs]


def two_levels(
    records: Sequence[Any], titles: Sequence[str], colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC)
) -> go.Figure:
    """Implied noise level by image column, for images with a different noise level in each half.

    The prediction is that of each model's best layer at every position.

    Args:
        records: Results of ``explore.saliency.reading``, one per model.
        titles: Title of each model.
        colors: Color of each model.
    """
    pairs, names = _level_pairs(records[0])
    figure = make_subplots(cols=len(pairs), shared_yaxes=True, subplot_titles=names, horizontal_spacing=0.04)
    for column, (left, right) in enumerate(pairs, start=1):
        figure.add_scatter(
            x=[0, 50, 50, 100], y=[left, left, right, right], name="true", mode="lines", showlegend=column == 1,
            line={"color": "#7f7f7f", "width": 2, "dash": "dot"}, hoverinfo="skip", row=1, col=column,
        )  # fmt: skip
        for record, title, color in zip(records, titles, colors):
            found = record.two_levels
            for row in found.rows:
                if row.layer == found.best and row.levels == [left, right]:
                    width = len(row.profile)
                    figure.add_scatter(
                        x=[100 * (k + 0.5) / width for k in range(width)], y=row.profile, mode="lines",
                        name=f"{title}, {row.layer}", line={"color": color, "width": 2.5}, showlegend=column == 1,
                        hovertemplate="%{y:.2f}", row=1, col=column,
                    )  # fmt: skip
    apply_style(figure, "column, % of the width", "")
    figure.update_yaxes(title=f"implied, {UNITS[records[0].probe_target]}", row=1, col=1)
    figure.update_layout(height=360, margin={"t": 76}, legend={"y": 1.12})
    return figure


def pure_readers(record: Any, title: str, color: str = TIME_AGNOSTIC) -> go.Figure:
    """Share of the full change that a network and pure readers make for parts of another noise level, one panel per part.

    Args:
        record: Result of ``explore.saliency.reading``.
        title: Title of the model.
        color: Color of the model.
    """
    rows = [row for row in record.norm_or_high_pass if row.readers]
    pairs = [f"{row.logsnr:g} to {row.other_logsnr:g}" for row in rows]
    parts = {"norm_patched": "norm", "high_pass_patched_norm_kept": "high-pass, norm kept",
             "low_pass_patched_norm_kept": "low-pass, norm kept"}  # fmt: skip
    looks = {
        "norm": ("#1a1a1a", "line-ns-open"),
        "high-pass": ("#5c5c5c", "triangle-up-open"),
        "low-pass": ("#a6a6a6", "triangle-down-open"),
    }
    figure = make_subplots(cols=len(parts), shared_yaxes=True, subplot_titles=list(parts.values()), horizontal_spacing=0.03)
    for column, part in enumerate(parts, start=1):
        shown = {title: ([row.share[part] for row in rows], color, "circle")} | {
            f"pure reader: {name}": ([row.readers[name].share[part] for row in rows], *look) for name, look in looks.items()
        }
        for name, (shares, tone, symbol) in shown.items():
            figure.add_scatter(
                x=[one.value for one in shares], y=pairs, name=name, mode="markers", showlegend=column == 1,
                marker={"color": tone, "symbol": symbol, "size": 9, "line": {"width": 2, "color": tone}},
                error_x=error_bars(shares, width=2), hovertemplate="%{x:.2f}", row=1, col=column,
            )  # fmt: skip
    apply_style(figure, "share of the full change", "")
    figure.update_xaxes(range=[-1.2, 1.6])  # a reader that does not follow the level has shares far outside
    figure.update_yaxes(title="log SNR of the image, and of the part", row=1, col=1)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(height=220 + 24 * len(rows), hovermode="closest", margin={"t": 92}, legend={"y": 1.13})
    return figure


def blocks_with_two_levels(
    records: Sequence[Any], titles: Sequence[str], colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC)
) -> go.Figure:
    """Error and contrast of every block for images with a different noise level in each half, one column per pair of levels.

    Dotted: one prediction for the whole image.

    Args:
        records: Results of ``explore.saliency.reading``, one per model.
        titles: Title of each model.
        colors: Color of each model.
    """
    pairs, names = _level_pairs(records[0])
    figure = make_subplots(rows=2, cols=len(pairs), shared_xaxes=True, shared_yaxes="rows", subplot_titles=names,
                           horizontal_spacing=0.04, vertical_spacing=0.06)  # fmt: skip
    for column, pair in enumerate(pairs, start=1):
        for record, title, color in zip(records, titles, colors):
            rows = [row for row in record.two_levels.rows if (row.levels[0], row.levels[1]) == pair]
            for number, (values, bars) in enumerate(
                (([row.error for row in rows], [row.error_interval for row in rows if row.error_interval]),
                 ([row.contrast.value for row in rows], [row.contrast for row in rows])), start=1
            ):  # fmt: skip
                figure.add_scatter(
                    x=[row.layer for row in rows], y=values, name=title, mode="lines+markers",
                    showlegend=(number, column) == (1, 1), line={"color": color, "width": 2}, marker={"size": 6},
                    error_y=error_bars(bars, width=2) if len(bars) == len(rows) else None, hovertemplate="%{y:.2f}",
                    row=number, col=column,
                )  # fmt: skip
        for number, level in enumerate((rows[0].one_number, 0.0), start=1):
            figure.add_hline(y=level, line={"color": "#7f7f7f", "width": 1.8, "dash": "dot"}, row=number, col=column)
    apply_style(figure, "", "")
    figure.update_yaxes(title=f"error, {UNITS[records[0].probe_target]}", row=1, col=1)
    figure.update_yaxes(title="contrast", row=2, col=1)
    figure.update_layout(height=560, margin={"t": 76, "b": 120}, legend={"y": 1.08})
    return figure


def routes_bars(
    routes: Sequence[dict[str, Any]],
    titles: Sequence[str],
    colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC),
    unit: str = "target",
) -> go.Figure:
    """Contribution to a target through the image input and through the time input of each block.

    Args:
        routes: Results of ``explore.saliency.Routes.to_json``, one per model.
        titles: Title of each model.
        colors: Color of each model.
        unit: Unit of the target.
    """
    figure = go.Figure()
    names = list(dict.fromkeys(name for one in routes for name in one["blocks"]))
    for one, title, color in zip(routes, titles, colors):

        def mean(values: Sequence[float]) -> float:
            return sum(values) / len(values)

        shown = {"image": mean(one["image"]), "t input, all blocks": mean(one["given_t"])}
        shown |= {f"t input of {name}": mean(one["blocks"][name]) if name in one["blocks"] else 0.0 for name in names}
        figure.add_bar(
            x=list(shown.values()), y=list(shown), orientation="h", name=title, marker={"color": color},
            hovertemplate="%{x:.4g}",
        )  # fmt: skip
    apply_style(figure, f"contribution, {unit}", "")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(height=150 + 34 * (2 + len(names)), hovermode="closest", bargap=0.3)
    return figure
