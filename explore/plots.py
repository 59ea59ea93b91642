"""Results -> plotly figures. Knows no model; every figure of the app and the notebooks is here, in one style.

The member that is told the time and the one that never is keep their colours everywhere; the palette is Okabe and Ito's,
which readers with any colour vision tell apart.
"""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

TOLD, UNTOLD, CONSTANT = "#0072B2", "#D55E00", "#009E73"
MEMBER_COLOURS = {"timestep": TOLD, "none": UNTOLD, "constant": CONSTANT}
STATE, ESTIMATE = "#56B4E9", "#CC79A7"
HEIGHT = 300


def _style(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    """Transparent ground and mid-grey ink: readable on a light page and on a dark one."""
    ink, rule = "#7f7f7f", "rgba(127,127,127,0.25)"
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 60, "r": 12, "t": 36, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": ink, "size": 13},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="x unified",
    )
    figure.update_xaxes(title=x_title, gridcolor=rule, zeroline=False)
    figure.update_yaxes(title=y_title, gridcolor=rule, zeroline=False)
    return figure


def difference_curve(differences: Sequence[dict[str, Any]], at: int | None = None) -> go.Figure:
    """Difference between two members over t, noise at the left as sampling goes.

    Args:
        differences: ``per_step`` of a comparison: index, t, xt, x0_hat.
        at: Index of the step to mark.
    """
    t = [row["t"] for row in differences]
    figure = go.Figure()
    for name, title, colour, dash in (
        ("xt", "state xt", STATE, "solid"),
        ("x0_hat", "estimate x0_hat", ESTIMATE, "dash"),
    ):
        figure.add_scatter(
            x=t,
            y=[row[name] for row in differences],
            name=title,
            mode="lines+markers" if len(t) <= 60 else "lines",
            line={"color": colour, "dash": dash, "width": 2.5},
            hovertemplate="%{y:.4f}",
        )
    if at is not None and differences:
        row = min(differences, key=lambda row: abs(row["index"] - at))
        figure.add_vline(x=row["t"], line={"color": "#7f7f7f", "dash": "dot", "width": 1.5})
    _style(figure, "t (1 is noise, 0 is data)", "mean |difference|")
    figure.update_xaxes(range=[max(t, default=1) * 1.02, -0.02])
    figure.update_yaxes(rangemode="tozero")
    return figure


UNITS = {"logsnr": "log SNR", "log_sigma": "log sigma", "t": "t"}
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # further lines, beside the two members' colours


def _shade(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _band(
    figure: go.Figure, x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, **place: int
) -> None:
    """An area between two curves, behind the line it belongs to."""
    figure.add_scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", fillcolor=_shade(colour, 0.18), line={"width": 0},
        mode="lines", hoverinfo="skip", showlegend=False, **place,
    )  # fmt: skip


def clock_curves(
    runs: Sequence[dict[str, Any]], titles: Sequence[str], colours: Sequence[str] = (TOLD, UNTOLD),
    path: Mapping[str, Sequence[float]] | None = None,
) -> go.Figure:  # fmt: skip
    """Implied clock along a sampling run over the true one, mean and spread over the images.

    Args:
        runs: What ``explore.probes.clock_run`` gives, one for each line or group of lines.
        titles: Of the runs.
        colours: Of the runs; further layers of a run are dashed.
        path: ``t``, ``true`` and ``told``, the clocks over the whole path, for runs that still go on: the curves then grow
            over a ground that stands still. By default those of the first run, without ``told``.
    """
    figure = go.Figure()
    first = path or runs[0]
    order = sorted(zip(first["t"], first["true"]), reverse=True)
    offset = runs[0].get("offset")
    if offset and path is None:
        figure.layout.title = {"text": f"told t {offset:+g}", "font": {"size": 13}}
    figure.add_scatter(
        x=[t for t, _ in order], y=[value for _, value in order], name="true", mode="lines",
        line={"color": "#7f7f7f", "width": 2, "dash": "dot"}, hovertemplate="%{y:.2f}",
    )  # fmt: skip
    if offset and path is not None:
        lie = sorted(zip(path["t"], path["told"]), reverse=True)
        figure.add_scatter(
            x=[t for t, _ in lie], y=[value for _, value in lie], name="what it is told", mode="lines",
            line={"color": OTHERS[1], "width": 2, "dash": "dot"}, hovertemplate="%{y:.2f}",
        )  # fmt: skip
    for run, title, colour in zip(runs, titles, colours):
        for number, layer in enumerate(run["layers"]):
            rows = sorted(zip(run["t"], layer["mean"], layer["std"]), reverse=True)
            t, mean, std = ([row[i] for row in rows] for i in range(3))
            _band(figure, t, [m - s for m, s in zip(mean, std)], [m + s for m, s in zip(mean, std)], colour)
            name = f"{title}, {layer['name']}" if len(run["layers"]) > 1 else title
            figure.add_scatter(
                x=t, y=mean, name=name, mode="lines", hovertemplate="%{y:.2f}",
                line={"color": colour, "width": 2.5, "dash": ("solid", "dash", "dot", "dashdot")[number % 4]},
            )  # fmt: skip
    _style(figure, "t (1 is noise, 0 is data)", f"{UNITS[runs[0]['target']]} (more is cleaner)")
    figure.update_xaxes(range=[1.02, -0.02])
    reach = [value for value in first["true"] if math.isfinite(value) and abs(value) < 12]
    means = [value for run in runs for layer in run["layers"] for value in layer["mean"]]
    if reach:  # log SNR is infinite at the ends of the path; readings stay on the page
        low, high = min([*reach, *means]), max([*reach, *means])
        figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)])
    return figure


def atlas_maps(
    atlases: Sequence[dict[str, Any]], titles: Sequence[str], view: str = "mean_std", value: str = "error_over_yardstick"
) -> go.Figure:
    """Layer by noise level, members side by side on one scale; readers of the picture alone in the rows below.

    Args:
        atlases: What ``atlas.json`` holds.
        titles: Of the members.
        view: A key of ``explore.activations.VIEWS``.
        value: ``error_over_yardstick``, ``error`` (both on a logarithmic scale), or ``bias``.
    """
    figure = make_subplots(cols=len(atlases), shared_yaxes=True, subplot_titles=list(titles), horizontal_spacing=0.03)
    logarithmic = value != "bias"
    grids = []
    for atlas in atlases:
        rows = [row for row in atlas["layers"] if row["view"] == view and row["name"] != "input"]
        rows += [row for row in atlas["layers"] if row["name"] == "input"]
        names = [row["name"] if row["name"] != "input" else f"({row['view']})" for row in rows]
        grids.append((names, [[math.log10(max(v, 1e-6)) if logarithmic else v for v in row[value]] for row in rows], rows))
    every = [cell for _, grid, _ in grids for line in grid for cell in line]
    low, high = (min(every), max(every)) if logarithmic else (-max(map(abs, every)), max(map(abs, every)))
    ticks = [k for k in range(math.ceil(low), math.floor(high) + 1)]
    bar: dict[str, Any] = {"thickness": 12, "title": {"text": _VALUE_TITLES[value], "side": "right"}}
    if logarithmic:
        bar |= {"tickvals": ticks, "ticktext": [f"{10.0**k:g}" for k in ticks]}
    for column, (atlas, (names, grid, rows)) in enumerate(zip(atlases, grids), start=1):
        figure.add_heatmap(
            z=grid, x=atlas["levels"], y=names, zmin=low, zmax=high, colorscale="Viridis" if logarithmic else "RdBu",
            colorbar=bar, showscale=column == len(atlases), customdata=[row[value] for row in rows],
            hovertemplate="%{y}, log SNR %{x}<br>" + _VALUE_TITLES[value] + " %{customdata:.3g}<extra></extra>",
            row=1, col=column,
        )  # fmt: skip
    _style(figure, f"{UNITS[atlases[0]['target']]} (more is cleaner)", "")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=90 + 19 * max(len(names) for names, *_ in grids), hovermode="closest", margin={"l": 130})
    return figure


_VALUE_TITLES = {"error_over_yardstick": "error / yardstick", "error": "error", "bias": "bias"}


def reading_curve(
    atlases: Sequence[dict[str, Any]], titles: Sequence[str], layer: str, view: str, level: float | None = None,
    colours: Sequence[str] = (TOLD, UNTOLD),
) -> go.Figure:  # fmt: skip
    """Predicted against true noise level of one layer, mean and spread over held-out images, with the chosen level marked."""
    figure = go.Figure()
    levels = atlases[0]["levels"]
    figure.add_scatter(
        x=levels, y=levels, name="true", mode="lines", line={"color": "#7f7f7f", "width": 2, "dash": "dot"}, hoverinfo="skip"
    )
    for atlas, title, colour in zip(atlases, titles, colours):
        for row in atlas["layers"]:
            if (row["name"], row["view"]) == (layer, view):
                mean = [x + bias for x, bias in zip(levels, row["bias"])]
                _band(
                    figure, levels, [m - s for m, s in zip(mean, row["std"])], [m + s for m, s in zip(mean, row["std"])], colour
                )
                figure.add_scatter(
                    x=levels, y=mean, name=title, mode="lines+markers", line={"color": colour, "width": 2.5},
                    marker={"size": 5}, customdata=row["std"], hovertemplate="%{y:.2f} ± %{customdata:.2f}",
                )  # fmt: skip
    if level is not None:
        figure.add_vline(x=level, line={"color": "#7f7f7f", "dash": "dash", "width": 1})
    _style(figure, f"true {UNITS[atlases[0]['target']]}", f"read from {layer}")
    return figure


def ruler_figure(
    rows: Sequence[dict[str, Any]], true: float | None = None, colours: Sequence[str] = (TOLD, UNTOLD)
) -> go.Figure:
    """How noisy every reader takes one picture to be: a dot with its interval for each, the first at the top.

    Args:
        rows: What ``explore.probes.ruler`` gives: ``reader``, ``value``, ``low`` and ``high``.
        true: The true log SNR, a vertical line; None where it is unknown or not to be seen yet.
        colours: Of the first rows, the networks; the others are grey.
    """
    figure = go.Figure()
    for number, row in enumerate(rows):
        network = number < len(colours)
        figure.add_scatter(
            x=[row["value"]], y=["<br>".join(textwrap.wrap(row["reader"], 16))], mode="markers", showlegend=False,
            marker={
                "color": colours[number] if network else "#7f7f7f", "size": 11 if network else 9,
                "symbol": "circle" if network else "diamond",
            },
            error_x={
                "type": "data", "array": [row["high"] - row["value"]], "arrayminus": [row["value"] - row["low"]],
                "thickness": 2.5 if network else 1.5, "width": 5,
            },
            customdata=[[row["low"], row["high"]]],
            hovertemplate="%{x:.2f}, from %{customdata[0]:.2f} to %{customdata[1]:.2f}<extra></extra>",
        )  # fmt: skip
    if true is not None:
        figure.add_vline(
            x=true, line={"color": OTHERS[0], "width": 2}, annotation={"text": f"true: {true:.2f}", "yanchor": "bottom", "y": 1}
        )
    _style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(height=96 + 40 * len(rows), hovermode="closest")
    return figure


def dose_response(record: dict[str, Any], names: Sequence[str], colour: str = TOLD) -> go.Figure:
    """What follows from an intervention, against its dose: a panel for each thing measured, random directions in grey.

    Args:
        record: What ``explore.interventions.intervene`` gives.
        names: Later layers, ``predicted noise`` or ``loss``.
        colour: Of the first noise level; further levels take other colours.
    """
    figure = make_subplots(cols=len(names), subplot_titles=list(names), horizontal_spacing=0.08)
    for column, name in enumerate(names, start=1):
        for level, paint in zip(record["levels"], (colour, *OTHERS)):
            rows = sorted((row for row in record["rows"] if row["logsnr"] == level), key=lambda row: row["dose"])
            doses = [row["dose"] for row in rows]
            place = {"row": 1, "col": column}
            lows, highs = ([op(row["control"][name]) for row in rows] for op in (min, max))
            _band(figure, doses, lows, highs, "#7f7f7f", **place)
            figure.add_scatter(
                x=doses, y=[row["effects"][name][0] for row in rows], mode="lines+markers", name=f"at log SNR {level:g}",
                line={"color": paint, "width": 2.5}, showlegend=column == 1, hovertemplate="%{y:.3g}", **place,
                error_y={
                    "array": [row["effects"][name][2] - row["effects"][name][0] for row in rows],
                    "arrayminus": [row["effects"][name][0] - row["effects"][name][1] for row in rows],
                    "thickness": 1,
                },
            )  # fmt: skip
    _style(figure, f"dose, {UNITS[record['target']]}", "change")
    figure.update_yaxes(title="", matches=None)
    figure.update_yaxes(title="change", col=1)
    return figure.update_layout(margin={"t": 64}, legend={"y": 1.14})  # above the titles of the panels


def trust_bars(lies: Sequence[dict[str, Any]], titles: Sequence[str]) -> go.Figure:
    """Slope of the implied clock on the true level (the picture) and on the given one (the label), by layer.

    Args:
        lies: What ``explore.interventions.clock_lie`` gives, one for each member.
        titles: Of the members.
    """
    figure = make_subplots(cols=len(lies), shared_yaxes=True, subplot_titles=list(titles), horizontal_spacing=0.03)
    for column, lie in enumerate(lies, start=1):
        for side, name, colour, symbol in (
            ("true", "follows the picture", OTHERS[0], "circle"), ("given", "follows the label", OTHERS[1], "diamond")
        ):  # fmt: skip
            slopes = [row[side] for row in lie["layers"]]
            figure.add_scatter(
                x=[slope[0] for slope in slopes], y=[row["name"] for row in lie["layers"]], mode="markers", name=name,
                marker={"color": colour, "size": 8, "symbol": symbol}, showlegend=column == 1, hovertemplate="%{x:.3f}",
                error_x={
                    "array": [slope[2] - slope[0] for slope in slopes],
                    "arrayminus": [slope[0] - slope[1] for slope in slopes],
                    "thickness": 1,
                },
                row=1, col=column,
            )  # fmt: skip
    _style(figure, "slope of the implied clock", "")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=134 + 20 * len(lies[0]["layers"]), hovermode="closest", margin={"l": 130, "t": 64})
    return figure.update_layout(legend={"y": 1.07})  # above the titles of the panels


PRIORS = ("#009E73", "#E69F00", "#CC79A7", "#56B4E9")  # of the curves that belong to priors, not to members


def posterior_curves(rows: Sequence[dict[str, Any]], true: float | None = None) -> go.Figure:
    """p(t | x) under several priors, each scaled to a highest value of 1, over t.

    Args:
        rows: ``name``, ``t`` (T,) and ``density`` (T,).
        true: The t at which the picture was made, a vertical line.
    """
    figure = go.Figure()
    for row, colour, dash in zip(rows, PRIORS, ("solid", "dash", "dot", "dashdot")):
        top = max(row["density"])
        figure.add_scatter(
            x=row["t"], y=[value / top for value in row["density"]], name=row["name"], mode="lines",
            line={"color": colour, "width": 2.5, "dash": dash}, hovertemplate="t %{x:.4f}<extra></extra>",
        )  # fmt: skip
    if true is not None:
        figure.add_vline(
            x=true,
            line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"},
            annotation={"text": f"true t {true:g}", "yanchor": "bottom"},
        )
    _style(figure, "t (1 is noise, 0 is data)", "p(t | x), scaled")
    means = [sum(t * d for t, d in zip(row["t"], row["density"])) / sum(row["density"]) for row in rows]
    reach = [t for row in rows for t, d in zip(row["t"], row["density"]) if d > 1e-4 * max(row["density"])]
    seen = [*reach, *means, *([true] if true is not None else [])]
    if seen:
        pad = 0.15 * (max(seen) - min(seen)) + 1e-4
        figure.update_xaxes(range=[min(1.0, max(seen) + pad), max(0.0, min(seen) - pad)])
    figure.update_layout(hovermode="closest", legend={"y": -0.25, "yanchor": "top"}, height=HEIGHT + 60, margin={"b": 100})
    return figure


def width_curves(rows: Sequence[dict[str, Any]], x_title: str, y_title: str, at: float | None = None) -> go.Figure:
    """Curves on a logarithmic height: ``name``, ``x``, ``y``, and ``markers`` where single points were measured.

    Args:
        rows: The curves.
        x_title: What x is; its axis is logarithmic too if the title ends with "(log)".
        y_title: What y is.
        at: A value of x to mark.
    """
    figure = go.Figure()
    for row, colour in zip(rows, PRIORS):
        figure.add_scatter(
            x=row["x"], y=row["y"], name=row["name"], mode="lines+markers" if row.get("markers") else "lines",
            line={"color": colour, "width": 2.5}, hovertemplate="%{y:.3g}",
        )  # fmt: skip
    if at is not None:
        figure.add_vline(x=at, line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"})
    _style(figure, x_title.removesuffix(" (log)"), y_title)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if x_title.endswith("(log)"):
        figure.update_xaxes(type="log", tickvals=list(rows[0]["x"]))
    figure.update_layout(legend={"y": -0.3, "yanchor": "top"}, height=HEIGHT + 60, margin={"b": 100})
    return figure


def curves(
    rows: Sequence[dict[str, Any]], x_title: str, y_title: str, *, log_x: bool = False, log_y: bool = False,
    downward: bool = False, at: float | None = None,
) -> go.Figure:  # fmt: skip
    """Any few curves over one axis, such as a schedule's coefficients or an error by noise level.

    Args:
        rows: ``name``, ``x`` and ``y``, and where wanted ``low`` and ``high`` (the ends of intervals), ``colour``, ``dash``
            and ``markers`` (true shows the points).
        x_title: What x is.
        y_title: What y is.
        log_x: Whether x is on a logarithmic scale.
        log_y: Whether y is.
        downward: Whether x falls to the right, as t does when sampling goes.
        at: A value of x to mark.
    """
    figure = go.Figure()
    for row, spare in zip(rows, (*PRIORS, TOLD, UNTOLD) * 2):
        colour = row.get("colour", spare)
        if "low" in row:
            _band(figure, row["x"], row["low"], row["high"], colour)
        figure.add_scatter(
            x=list(row["x"]), y=list(row["y"]), name=row["name"], mode="lines+markers" if row.get("markers") else "lines",
            line={"color": colour, "width": 2.5, "dash": row.get("dash", "solid")}, hovertemplate="%{y:.4g}",
        )  # fmt: skip
    if at is not None:
        figure.add_vline(x=at, line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"})
    _style(figure, x_title, y_title)
    if log_x:
        figure.update_xaxes(type="log")
    if log_y:
        figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if downward:
        figure.update_xaxes(autorange="reversed")
    figure.update_layout(legend={"y": -0.3, "yanchor": "top"}, height=HEIGHT + 60, margin={"t": 16, "b": 100})
    return figure


def planar_paths(
    points: Sequence[Sequence[float]], paths: Sequence[Sequence[Sequence[float]]], title: str, colour: str
) -> go.Figure:
    """Paths of a sampler in the plane, from noise (thin end) to where they stop (dots), and the points of the data set.

    Args:
        points: (K, 2), the data.
        paths: (N, S, 2).
        title: Above.
        colour: Of the paths.
    """
    figure = go.Figure()
    x, y = ([value for path in paths for value in [*(p[i] for p in path), None]] for i in range(2))
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": _shade(colour, 0.45), "width": 1.2}, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=[path[-1][0] for path in paths], y=[path[-1][1] for path in paths], mode="markers", name="samples",
        marker={"color": colour, "size": 7}, hovertemplate="%{x:.3f}, %{y:.3f}",
    )  # fmt: skip
    figure.add_scatter(
        x=[p[0] for p in points], y=[p[1] for p in points], mode="markers", name="data",
        marker={"color": "#7f7f7f", "size": 9, "symbol": "x-thin", "line": {"width": 2, "color": "#7f7f7f"}},
        hovertemplate="%{x:.3f}, %{y:.3f}",
    )  # fmt: skip
    _style(figure, "", "")
    figure.update_layout(
        title={"text": title, "font": {"size": 14}}, height=380, hovermode="closest",
        margin={"l": 30, "r": 8, "t": 40, "b": 30}, legend={"y": 0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )  # fmt: skip
    figure.update_xaxes(range=[-2.2, 2.2])
    figure.update_yaxes(range=[-2.2, 2.2], scaleanchor="x")
    return figure


# Saliency: maps over pictures, what deleting and inserting pixels does, and where the clock is read. Arrays and JSON in.

LESS, MORE = "#762A83", "#1B7837"  # ends of ColorBrewer's PRGn: neither is a member's colour


def saliency_maps(
    pictures: Sequence[Any], maps: Sequence[Any], titles: Sequence[str], limit: float, *, signed: bool = True,
    value: str = "contribution", colours: Sequence[str] = (TOLD, UNTOLD),
) -> go.Figure:  # fmt: skip
    """Maps of several members side by side over the picture, on one scale; where there is little the picture shows.

    Args:
        pictures: uint8 arrays (H, W, 3 or 1).
        maps: Arrays (H, W), or (h, w) in the plane of frequencies.
        titles: Of the panels.
        limit: The value of full colour, the same for all.
        signed: Whether values below 0 mean something.
        value: What the colours say, with its unit.
        colours: Of the titles.
    """
    figure = make_subplots(cols=len(maps), subplot_titles=list(titles), horizontal_spacing=0.04)
    clear = [_shade(MORE, 0.0), _shade(LESS, 0.0)]
    steps = [(0.0, 0.0), (0.1, 0.04), (0.3, 0.35), (0.6, 0.75), (1.0, 0.95)]
    scale = [[0.5 + share / 2 if signed else share, _shade(MORE, opacity)] for share, opacity in steps]
    if signed:
        scale = (
            [[0.5 - share / 2, _shade(LESS, opacity)] for share, opacity in reversed(steps[1:])] + [[0.5, clear[0]]] + scale[1:]
        )
    bar: dict[str, Any] = {"orientation": "h", "thickness": 10, "y": -0.04, "yanchor": "top", "len": 0.9, "nticks": 7}
    bar["title"] = {"text": value, "side": "bottom"}
    for column, (picture, values) in enumerate(zip(pictures, maps), start=1):
        # Pale, so that the colours are seen on dark parts too.
        grey = [[[round(90 + 0.6 * sum(map(int, pixel)) / len(pixel))] * 3 for pixel in line] for line in picture]
        figure.add_image(z=grey, hoverinfo="skip", row=1, col=column)
        figure.add_heatmap(
            z=[[float(one) for one in line] for line in values], zmin=-limit if signed else 0.0, zmax=limit, colorscale=scale,
            showscale=column == len(maps), colorbar=bar,
            hovertemplate="row %{y}, column %{x}: %{z:.4g}<extra></extra>", row=1, col=column,
        )  # fmt: skip
    _style(figure, "", "")
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    for column in range(1, len(maps) + 1):
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_yaxes(scaleanchor=anchor, scaleratio=1, row=1, col=column)
    for annotation, colour in zip(figure.layout.annotations, colours):
        annotation.font = {"color": colour, "size": 14}
    figure.update_layout(height=420, hovermode="closest", margin={"l": 8, "r": 8, "t": 36, "b": 76})
    return figure


def deletion_curves(
    curves: Sequence[dict[str, Any]], titles: Sequence[str], unit: str = "target", colours: Sequence[str] = (TOLD, UNTOLD)
) -> go.Figure:
    """The target as pixels are deleted, or inserted, in the order of the map and in random orders (dotted).

    Args:
        curves: What the check ``curves`` of an attribution gives, one for each member.
        titles: Of the members.
        unit: Of the target.
        colours: Of the members.
    """
    figure = make_subplots(cols=2, shared_yaxes=True, subplot_titles=["deleted", "inserted"], horizontal_spacing=0.04)
    for curve, title, colour in zip(curves, titles, colours):
        for column, name in enumerate(("deletion", "insertion"), start=1):
            for ending, words, dash in (("", "by the map", "solid"), ("_random", "at random", "dot")):
                figure.add_scatter(
                    x=[100 * share for share in curve["fractions"]], y=curve[f"{name}{ending}"], name=f"{title}, {words}",
                    mode="lines+markers" if not ending else "lines", marker={"size": 5}, showlegend=column == 1,
                    line={"color": colour, "width": 2.5 if not ending else 1.8, "dash": dash}, hovertemplate="%{y:.3f}",
                    row=1, col=column,
                )  # fmt: skip
    _style(figure, "pixels, %", "")
    figure.update_yaxes(title=unit, row=1, col=1)
    figure.update_layout(height=340, margin={"t": 76}, legend={"y": 1.12})
    return figure


def band_shares(records: Sequence[dict[str, Any]], titles: Sequence[str], method: str = "integrated-gradients") -> go.Figure:
    """Share of the implied clock's attribution in each band of frequencies, by noise level; members side by side.

    Args:
        records: What ``explore.saliency.reading`` gives, one for each member.
        titles: Of the members.
        method: One of those read.
    """
    figure = make_subplots(cols=len(records), shared_yaxes=True, subplot_titles=list(titles), horizontal_spacing=0.04)
    for column, record in enumerate(records, start=1):
        rows = [row for row in record["where"] if row["method"] == method]
        levels = [f"{row['logsnr']:g}" for row in rows] + ["evenly"]
        for band, (low, high) in enumerate(record["bands"]["edges"]):
            share = [row["bands"][band] for row in rows]
            even = record["bands"]["if_spread_evenly"][band]
            tone = _CIVIDIS[band * (len(_CIVIDIS) - 1) // max(1, len(record["bands"]["edges"]) - 1)]
            figure.add_bar(
                x=levels, y=[100 * one[0] for one in share] + [100 * even], marker={"color": tone, "line": {"width": 0}},
                name=f"{low:.2g} to {high:.2g}", showlegend=column == 1, customdata=[*share, [even, even, even]],
                hovertemplate="%{y:.1f} % (%{customdata[1]:.3f} to %{customdata[2]:.3f})", row=1, col=column,
            )  # fmt: skip
    _style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(title="share of attribution, %", range=[0, 100], row=1, col=1)
    figure.update_xaxes(type="category")
    figure.update_layout(
        barmode="stack", height=400, margin={"t": 92}, legend={"y": 1.13, "title": {"text": "cycles a pixel"}}, bargap=0.15
    )
    return figure


_CIVIDIS = ("#00224E", "#123570", "#3B496C", "#575D6D", "#707173", "#8A8678", "#A59C74", "#C3B369", "#E1CC55", "#FEE838")


def reading_shares(
    records: Sequence[dict[str, Any]], titles: Sequence[str], method: str = "integrated-gradients",
    colours: Sequence[str] = (TOLD, UNTOLD),
) -> go.Figure:  # fmt: skip
    """Where the clock is read, by noise level: high frequencies, flat patches, textured patches; dotted, the picture's own.

    Args:
        records: What ``explore.saliency.reading`` gives, one for each member.
        titles: Of the members.
        method: One of those read.
        colours: Of the members.
    """
    panels = {
        "high frequencies": lambda row: (row["high_pass"], row["high_pass_power"]),
        "flat patches": lambda row: (row["texture"]["flat"], row["texture_of_picture"]["flat"]),
        "textured patches": lambda row: (row["texture"]["textured"], row["texture_of_picture"]["textured"]),
    }
    figure = make_subplots(cols=len(panels), subplot_titles=list(panels), horizontal_spacing=0.06)
    for column, pick in enumerate(panels.values(), start=1):
        place = {"row": 1, "col": column}
        for number, (record, title, colour) in enumerate(zip(records, titles, colours)):
            rows = [row for row in record["where"] if row["method"] == method]
            levels = [row["logsnr"] for row in rows]
            shares, own = [pick(row)[0] for row in rows], [pick(row)[1] for row in rows]
            _band(figure, levels, [100 * one[1] for one in shares], [100 * one[2] for one in shares], colour, **place)
            figure.add_scatter(
                x=levels, y=[100 * one[0] for one in shares], name=title, mode="lines+markers", showlegend=column == 1,
                line={"color": colour, "width": 2.5}, marker={"size": 6}, hovertemplate="%{y:.1f} %", **place,
            )  # fmt: skip
            if number == 0:
                figure.add_scatter(
                    x=levels, y=[100 * one[0] for one in own], name="the noisy picture itself", mode="lines",
                    showlegend=column == 1, line={"color": "#7f7f7f", "width": 1.8, "dash": "dot"},
                    hovertemplate="%{y:.1f} %", **place,
                )  # fmt: skip
    _style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(title="share, %", row=1, col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(height=360, margin={"t": 76}, legend={"y": 1.12})
    return figure


def clock_shift(records: Sequence[dict[str, Any]], titles: Sequence[str], colours: Sequence[str] = (TOLD, UNTOLD)) -> go.Figure:
    """By how much the implied clock moves when x_t takes another level's norm, or its high-pass content.

    Args:
        records: What ``explore.saliency.reading`` gives, one for each member.
        titles: Of the members.
        colours: Of the members.
    """
    shifts = sorted({row["other_logsnr"] - row["logsnr"] for record in records for row in record["rescale_or_swap"]})
    names = [f"other level {shift:+g}: {'noisier' if shift < 0 else 'cleaner'}" for shift in shifts]
    figure = make_subplots(cols=len(shifts), subplot_titles=names, horizontal_spacing=0.07)
    kinds = (("rescaled", "norm of the other level", "solid", "circle"),
             ("high-pass swapped, norm kept", "high-pass content, norm kept", "dash", "diamond"),
             ("whole", "the other picture", "dot", None))  # fmt: skip
    for record, title, colour in zip(records, titles, colours):
        for column, shift in enumerate(shifts, start=1):
            rows = [row for row in record["rescale_or_swap"] if row["other_logsnr"] - row["logsnr"] == shift]
            for kind, words, dash, symbol in kinds:
                shown = [row["shift"][kind] for row in rows]
                figure.add_scatter(
                    x=[row["logsnr"] for row in rows], y=[one[0] for one in shown], name=f"{title}: {words}",
                    mode="lines+markers" if symbol else "lines", showlegend=column == 1, marker={"size": 7, "symbol": symbol},
                    line={"color": colour, "width": 2.5 if symbol else 1.5, "dash": dash}, hovertemplate="%{y:.2f}",
                    error_y={"array": [one[2] - one[0] for one in shown], "arrayminus": [one[0] - one[1] for one in shown],
                             "thickness": 1, "width": 2} if symbol else None,
                    row=1, col=column,
                )  # fmt: skip
    _style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(title=f"shift of the implied clock, {UNITS[records[0]['reads']]}", row=1, col=1)
    figure.update_layout(height=440, margin={"t": 130}, legend={"y": 1.14})
    return figure


def two_levels(records: Sequence[dict[str, Any]], titles: Sequence[str], colours: Sequence[str] = (TOLD, UNTOLD)) -> go.Figure:
    """Two noise levels in the halves of one picture: what the positions of each member's best layer imply, by column.

    Args:
        records: What ``explore.saliency.reading`` gives, one for each member.
        titles: Of the members.
        colours: Of the members.
    """
    pairs = list(dict.fromkeys(tuple(row["levels"]) for row in records[0]["two_levels"]["rows"]))
    names = [f"{left:g} beside {right:g}" for left, right in pairs]
    figure = make_subplots(cols=len(pairs), shared_yaxes=True, subplot_titles=names, horizontal_spacing=0.04)
    for column, (left, right) in enumerate(pairs, start=1):
        figure.add_scatter(
            x=[0, 50, 50, 100], y=[left, left, right, right], name="true", mode="lines", showlegend=column == 1,
            line={"color": "#7f7f7f", "width": 2, "dash": "dot"}, hoverinfo="skip", row=1, col=column,
        )  # fmt: skip
        for record, title, colour in zip(records, titles, colours):
            found = record["two_levels"]
            for row in found["rows"]:
                if row["layer"] == found["best"] and tuple(row["levels"]) == (left, right):
                    width = len(row["profile"])
                    figure.add_scatter(
                        x=[100 * (k + 0.5) / width for k in range(width)], y=row["profile"], mode="lines",
                        name=f"{title}, {row['layer']}", line={"color": colour, "width": 2.5}, showlegend=column == 1,
                        hovertemplate="%{y:.2f}", row=1, col=column,
                    )  # fmt: skip
    _style(figure, "column, % of the width", "")
    figure.update_yaxes(title=f"implied, {UNITS[records[0]['reads']]}", row=1, col=1)
    figure.update_layout(height=360, margin={"t": 76}, legend={"y": 1.12})
    return figure


def routes_bars(
    routes: Sequence[dict[str, Any]], titles: Sequence[str], colours: Sequence[str] = (TOLD, UNTOLD), unit: str = "target"
) -> go.Figure:
    """How much of a target comes through the picture, and through what each block is told of the time.

    Args:
        routes: What ``explore.saliency.Routes.to_json`` gives, one for each member.
        titles: Of the members.
        colours: Of the members.
        unit: Of the target.
    """
    figure = go.Figure()
    names = list(dict.fromkeys(name for one in routes for name in one["blocks"]))
    for one, title, colour in zip(routes, titles, colours):

        def mean(values: Sequence[float]) -> float:
            return sum(values) / len(values)

        shown = {"picture": mean(one["picture"]), "clock, all blocks": mean(one["clock"])}
        shown |= {f"told to {name}": mean(one["blocks"][name]) if name in one["blocks"] else 0.0 for name in names}
        figure.add_bar(
            x=list(shown.values()), y=list(shown), orientation="h", name=title, marker={"color": colour},
            hovertemplate="%{x:.4g}",
        )  # fmt: skip
    _style(figure, f"contribution, {unit}", "")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(height=150 + 34 * (2 + len(names)), hovermode="closest", bargap=0.3)
    return figure


def page(figures: go.Figure | Sequence[go.Figure]) -> str:
    """A page of HTML that shows the figures in any browser, without a network."""
    if isinstance(figures, go.Figure):
        return figures.to_html(include_plotlyjs=True)
    parts = [figure.to_html(include_plotlyjs=number == 0, full_html=False) for number, figure in enumerate(figures)]
    return f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>{"".join(parts)}</body></html>'


# Paths of both members on one map -----------------------------------------------------------------------------------------

SYMBOLS = ("circle", "diamond")  # of the members, so that the colour is not all that tells them apart
# For ten classes, after Paul Tol's muted scheme; brighter where it was too dark for a dark page.
CLASS_COLOURS = (
    "#CC6677", "#5566CC", "#DDCC77", "#228844", "#88CCEE", "#AA3377", "#44AA99", "#999933", "#BB66BB", "#999999",
)  # fmt: skip
SPACE_TITLES = {"xt": "state xt", "x0_hat": "estimate x0_hat"}
FAINT, CLEAR, BEHIND = 0.25, 0.6, 0.12  # opacity of path lines: under coloured points, alone, and behind a chosen path


def trajectory_map(
    coordinates: Any, titles: Sequence[str], t: Sequence[float], colours: Sequence[str] = (TOLD, UNTOLD), *,
    values: Any = None, value_title: str = "t", classes: Sequence[Sequence[str]] | None = None, at: int | None = None,
    chosen: int | None = None, axes: Sequence[str] = ("1", "2", "3"), indices: Sequence[int] | None = None,
) -> go.Figure:  # fmt: skip
    """Paths of both members on one map, in two or three dimensions; every point carries [image, kept point] for a click.

    Args:
        coordinates: (2, N, F, dimensions), as of :func:`explore.trajectories.project`.
        titles: Of the members.
        t: (F,), time of the points of a path.
        colours: Of the members.
        values: (2, N, F), such as the implied t: colours the points from 0 to 1; without it and ``classes``, by member.
        value_title: What ``values`` are.
        classes: (2, N), names that colour the points instead.
        at: Which of the F points bears a marker on every path; none if None.
        chosen: Which of the N images stands out; none if None.
        axes: Titles of the axes.
        indices: (F,), the sampler's step of each point; by default 0 to F - 1.
    """
    points = [[[list(map(float, place)) for place in path] for path in member] for member in coordinates]
    images, frames, dimensions = len(points[0]), len(points[0][0]), len(points[0][0][0])
    indices = list(range(frames)) if indices is None else list(indices)
    scatter = go.Scatter if dimensions == 2 else go.Scatter3d
    flat = dimensions == 2
    coloured = values is not None or classes is not None
    figure = go.Figure()

    def place(cells: Sequence[Any]) -> dict[str, list[Any]]:
        """Coordinates by axis; None breaks a line."""
        return {
            axis: [None if cell is None else round(cell[number], 4) for cell in cells]
            for number, axis in enumerate("xyz"[:dimensions])
        }

    said = "image %{customdata[0]}, step %{customdata[2]}, t = %{customdata[3]:.3f}"
    for member, title in enumerate(titles):
        cells: list[Any] = []
        about: list[Any] = []
        for image, path in enumerate(points[member]):
            cells += [*path, None]
            about += [[image + 1, frame, indices[frame], t[frame]] for frame in range(frames)] + [[None] * 4]
        figure.add_trace(
            scatter(
                **place(cells), mode="lines", name=title, customdata=about, meta={"role": "path", "member": member},
                opacity=BEHIND if chosen is not None else FAINT if coloured else CLEAR, legendgroup=title,
                line={"color": colours[member], "width": 1.5 if flat else 2}, hovertemplate=f"{title}<br>{said}<extra></extra>",
                showlegend=False,
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        if not coloured:
            break
        spots = [spot for path in points[member] for spot in path]
        about = [[i + 1, f, indices[f], t[f]] for i in range(images) for f in range(frames)]
        marker: dict[str, Any] = {"size": 6 if flat else 3, "symbol": SYMBOLS[member], "opacity": 0.85}
        if classes is not None:
            names = sorted({name for row in classes for name in row})
            paint = dict(zip(names, CLASS_COLOURS * (1 + len(names) // len(CLASS_COLOURS))))
            marker["color"] = [paint[name] for name in classes[member] for _ in range(frames)]
            extra: list[Any] = [name for name in classes[member] for _ in range(frames)]
            words = "%{customdata[4]}"
        else:
            found = [float(value) for path in values[member] for value in path]
            marker |= {"color": [round(value, 3) for value in found], "cmin": 0, "cmax": 1, "colorscale": "Viridis"}
            marker |= {"showscale": member == 0, "colorbar": {"title": {"text": value_title}, "thickness": 12, "len": 0.8}}
            extra = [round(value, 3) for value in found]
            words = value_title + " %{customdata[4]}"
        figure.add_trace(
            scatter(
                **place(spots), mode="markers", marker=marker, meta={"role": "point", "member": member}, showlegend=False,
                customdata=[[*row, value] for row, value in zip(about, extra)], name=title, legendgroup=title,
                hovertemplate=f"{title}<br>{said}<br>{words}<extra></extra>",
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        here = [path[at] for path in points[member]] if at is not None else []
        shown = {"color": colours[member], "symbol": SYMBOLS[member], "size": 9 if flat else 5}
        figure.add_trace(
            scatter(
                **place(here or [None]), mode="markers", name=title, legendgroup=title,
                marker={**shown, "line": {"color": "white", "width": 1}}, meta={"role": "at", "member": member},
                customdata=[[i + 1, at, indices[at], t[at]] for i in range(images)] if at is not None else None,
                hovertemplate=f"{title}<br>{said}<extra></extra>",
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        path = points[member][chosen] if chosen is not None else []
        line = {"color": colours[member], "width": 4 if flat else 7}
        figure.add_trace(
            scatter(
                **place(path or [None]), mode="lines", line=line, showlegend=False, hoverinfo="skip", name=title,
                meta={"role": "chosen", "member": member},
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        spot = [points[member][chosen][at]] if chosen is not None and at is not None else [None]
        bold = {"color": colours[member], "symbol": SYMBOLS[member], "size": 16 if flat else 9}
        figure.add_trace(
            scatter(
                **place(spot), mode="markers", marker={**bold, "line": {"color": "white", "width": 2}}, showlegend=False,
                hoverinfo="skip", name=title, meta={"role": "chosen-at", "member": member},
            )
        )  # fmt: skip
    if classes is not None:
        for name in names:
            figure.add_trace(
                scatter(
                    **place([None]), mode="markers", name=name, marker={"color": paint[name], "size": 8}, meta={"role": "key"}
                )
            )
    _style(figure, f"{axes[0]}", f"{axes[1]}")
    figure.update_layout(
        height=560, hovermode="closest", margin={"l": 48, "r": 8, "t": 40, "b": 44}, clickmode="event",
        legend={"itemsizing": "constant"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7f7f7f", "orientation": "v", "remove": ["select2d", "lasso2d"]},
    )  # fmt: skip
    if flat:
        figure.update_yaxes(scaleanchor="x")
    else:
        axis = {"gridcolor": "#9a9a9a", "zeroline": False, "showticklabels": False, "showbackground": False, "nticks": 5}
        named = {f"{letter}axis": {**axis, "title": {"text": title}} for letter, title in zip("xyz", axes)}
        scene = {**named, "aspectmode": "data", "dragmode": "turntable", "camera": {"eye": {"x": 1.4, "y": 1.4, "z": 0.8}}}
        figure.update_layout(scene=scene, margin={"l": 0, "b": 0})
    return figure


def distance_curve(
    spaces: Mapping[str, Mapping[str, Any]], t: Sequence[float], value: str = "relative", at: float | None = None
) -> go.Figure:
    """Distance between the members over t, median and quartiles over the images, noise at the left as sampling goes.

    Args:
        spaces: ``spaces`` of :meth:`explore.trajectories.Trajectories.to_json`; of them ``xt`` and ``x0_hat`` are shown.
        t: Times of the steps.
        value: ``relative``, with the threshold of parting; or ``between``, the root mean square distance, with that between
            two images of one member as dotted lines.
        at: Time to mark.
    """
    figure = go.Figure()
    for space, colour, dash in (("xt", STATE, "solid"), ("x0_hat", ESTIMATE, "dash")):
        rows = spaces[space][value]["per_step"]
        low, middle, high = ([row[name] for row in rows] for name in ("low", "median", "high"))
        _band(figure, t, low, high, colour)
        figure.add_scatter(
            x=list(t), y=middle, name=SPACE_TITLES[space], mode="lines", hovertemplate="%{y:.3f}",
            line={"color": colour, "width": 2.5, "dash": dash},
        )  # fmt: skip
        if value == "between":
            figure.add_scatter(
                x=list(t), y=spaces[space]["strangers"]["per_step"], name=f"two images of one member, {space}", mode="lines",
                line={"color": colour, "width": 1.5, "dash": "dot"}, hovertemplate="%{y:.3f}",
            )  # fmt: skip
    if value == "relative":
        threshold = spaces["xt"]["parting"]["threshold"]
        figure.add_hline(
            y=threshold, line={"color": "#7f7f7f", "dash": "dot", "width": 1.5},
            annotation={"text": f"parted: {threshold:g} to the end", "xanchor": "left", "x": 0, "yanchor": "bottom"},
        )  # fmt: skip
    if at is not None:
        figure.add_vline(x=at, line={"color": "#7f7f7f", "dash": "dash", "width": 1})
    title = "relative distance" if value == "relative" else "distance (images in [-1, 1])"
    _style(figure, "t (1 is noise, 0 is data)", title)
    figure.update_xaxes(range=[max(t, default=1) * 1.02, -0.02])
    return figure.update_yaxes(rangemode="tozero")


PATH_FIGURES = {
    "length": "path<br>length", "detour": "length /<br>straight line", "turning": "turning<br>(rad)",
    "curvature": "curvature<br>(rad / length)",
}  # fmt: skip


def path_figures(
    members: Mapping[str, Mapping[str, Any]], titles: Sequence[str], colours: Sequence[str] = (TOLD, UNTOLD),
    shown: Sequence[str] = ("length", "detour", "curvature"),
) -> go.Figure:  # fmt: skip
    """Length, detour and curvature of the paths: a box and a dot for each image, a panel for each figure.

    Args:
        members: ``members`` of one space of :meth:`explore.trajectories.Trajectories.to_json`.
        titles: Of the members.
        colours: Of the members.
        shown: Keys of ``PATH_FIGURES``.
    """
    figure = make_subplots(cols=len(shown), subplot_titles=[PATH_FIGURES[name] for name in shown], horizontal_spacing=0.1)
    for column, name in enumerate(shown, start=1):
        for title, colour, member in zip(titles, colours, members.values()):
            known = [value for value in member[name]["per_image"] if value is not None]
            figure.add_box(
                y=known, name=title, marker={"color": colour, "size": 4}, line={"width": 1.5}, boxpoints="all", jitter=0.6,
                pointpos=0, fillcolor=_shade(colour, 0.15), showlegend=column == 1, legendgroup=title, hoverinfo="y",
                row=1, col=column,
            )  # fmt: skip
    _style(figure, "", "")
    figure.update_xaxes(showticklabels=False)
    figure.update_annotations(font={"size": 12})
    return figure.update_layout(hovermode="closest", margin={"l": 40, "t": 84, "b": 16}, legend={"y": 1.2}, boxgap=0.15)


# Static twins ---------------------------------------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
NO_BROWSER = f"a static picture needs a browser: none of {', '.join(BROWSERS)} was found (Debian: apt-get install chromium)"


def browser() -> str | None:
    """Path of the Chromium that draws static pictures, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def static(figure: go.Figure, width: int = 900, height: int | None = None, scale: float = 2.0) -> bytes:
    """The figure as a PNG on a white ground, drawn by an installed Chromium without a network.

    Args:
        figure: Any plotly figure.
        width: CSS pixels.
        height: CSS pixels; by default the figure's own.
        scale: Pixels of the PNG for one CSS pixel.

    Raises:
        ValueError: If no Chromium is found, or it draws nothing.
    """
    executable = browser()
    if executable is None:
        raise ValueError(NO_BROWSER)
    height = height or figure.layout.height or HEIGHT
    twin = go.Figure(figure)
    twin.update_layout(paper_bgcolor="white", font={"color": "#333333"}, width=width, height=height)
    options = json.dumps({"format": "png", "width": width, "height": height, "scale": scale})
    drawing = twin.to_json().replace("</", "<\\/")  # no text of the figure ends the script
    page = (
        f'<html><head><meta charset="utf-8"><script>{get_plotlyjs()}</script></head><body><div id="figure"></div><script>'
        f"const figure = {drawing};"
        "Plotly.newPlot('figure', figure.data, figure.layout, {staticPlot: true})"
        f".then(drawn => Plotly.toImage(drawn, {options}))"
        ".then(image => { document.body.textContent = `[[${image}]]`; }, error => { document.body.textContent = error; });"
        "</script></body></html>"
    )
    with tempfile.TemporaryDirectory(prefix="clockless-figure-") as folder:
        path = Path(folder) / "figure.html"
        path.write_text(page, encoding="utf-8")
        command = [
            # It sees this one page only; without a sandbox it also runs as root in a container.
            executable, "--headless", "--no-sandbox", "--disable-background-networking", "--hide-scrollbars", "--no-first-run",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage",
            f"--user-data-dir={folder}/profile", "--virtual-time-budget=60000", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        except subprocess.TimeoutExpired:
            raise ValueError(f"{executable} did not draw the figure within 180 s") from None
    match = re.search(r"\[\[data:image/png;base64,([A-Za-z0-9+/=]+)\]\]", done.stdout)
    if match is None:
        raise ValueError(f"{executable} drew no picture of the figure: {(done.stderr or done.stdout).strip()[-200:]}")
    return base64.b64decode(match[1])
