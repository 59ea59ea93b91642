"""Figures of probes: atlas of layers and noise levels, implied noise level along a run, predictions for one image."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explore.figures.style import CONDITIONED, OTHERS, TIME_AGNOSTIC, UNITS, add_band, apply_style


def implied_level_curves(
    runs: Sequence[dict[str, Any]], titles: Sequence[str], colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC),
    path: Mapping[str, Sequence[float]] | None = None,
) -> go.Figure:  # fmt: skip
    """Implied and true noise level along a sampling run, with mean and standard deviation over the images.

    Args:
        runs: Results of ``explore.probes.implied_level_run``.
        titles: Title of each run.
        colors: Color of each run. Layers after the first have dashed lines. The t that a conditioned model was told while its
            probe was fitted is named.
        path: ``t``, ``true`` and ``given`` (true noise level, and that of the time input) over the whole run. Pass it
            while a run is in progress, so that the axes do not change. Default: those of the first run, without ``given``.
    """
    figure = go.Figure()
    first = path or runs[0]
    order = sorted(zip(first["t"], first["true"]), reverse=True)
    offset = runs[0].get("offset")
    if offset and path is None:
        figure.layout.title = {"text": f"given t {offset:+g}", "font": {"size": 13}}
    figure.add_scatter(
        x=[t for t, _ in order], y=[value for _, value in order], name="true", mode="lines",
        line={"color": "#7f7f7f", "width": 2, "dash": "dot"}, hovertemplate="%{y:.2f}",
    )  # fmt: skip
    if offset and path is not None:
        lie = sorted(zip(path["t"], path["given"]), reverse=True)
        figure.add_scatter(
            x=[t for t, _ in lie], y=[value for _, value in lie], name="given", mode="lines",
            line={"color": OTHERS[1], "width": 2, "dash": "dot"}, hovertemplate="%{y:.2f}",
        )  # fmt: skip
    for run, title, color in zip(runs, titles, colors):
        for number, layer in enumerate(run["layers"]):
            rows = sorted(zip(run["t"], layer["mean"], layer["std"]), reverse=True)
            t, mean, std = ([row[i] for row in rows] for i in range(3))
            add_band(figure, t, [m - s for m, s in zip(mean, std)], [m + s for m, s in zip(mean, std)], color)
            what = [layer["name"]] if len({row["name"] for row in run["layers"]}) > 1 else []
            what += [f"fitted with {layer['fitted']}"] if layer.get("fitted") else []
            name = ", ".join([title, *what])
            figure.add_scatter(
                x=t, y=mean, name=name, mode="lines", hovertemplate="%{y:.2f}",
                line={"color": color, "width": 2.5, "dash": ("solid", "dash", "dot", "dashdot")[number % 4]},
            )  # fmt: skip
    apply_style(figure, "t (1 is noise, 0 is data)", f"{UNITS[runs[0]['target']]} (more is cleaner)")
    figure.update_xaxes(range=[1.02, -0.02])
    reach = [value for value in first["true"] if math.isfinite(value) and abs(value) < 12]
    means = [value for run in runs for layer in run["layers"] for value in layer["mean"]]
    if reach:  # log SNR is infinite at both ends of the path; the range covers all probe predictions
        low, high = min([*reach, *means]), max([*reach, *means])
        figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)])
    return figure


_VALUE_TITLES = {"error_over_yardstick": "error / yardstick", "error": "error", "bias": "bias", "std": "spread"}


def atlas_maps(
    atlases: Sequence[dict[str, Any]], titles: Sequence[str], view: str = "mean_std", value: str = "error_over_yardstick"
) -> go.Figure:
    """Heat maps of layers by noise level, one panel per model on one scale. The last rows are baselines on the input image.

    Args:
        atlases: Contents of ``atlas.json``, one per model.
        titles: Title of each model.
        view: A key of ``explore.activations.VIEWS``.
        value: ``error_over_yardstick``, ``error`` or ``std`` (the spread), all on a logarithmic scale, or ``bias``.
    """
    figure = make_subplots(cols=len(atlases), shared_yaxes=True, subplot_titles=list(titles), horizontal_spacing=0.03)
    logarithmic = value != "bias"
    grids = []
    for atlas in atlases:
        rows = [row for row in atlas["layers"] if row["view"] == view and row["name"] != "input"]
        # A told t that says nothing of the level is a constant guess, whose error would stretch the scale.
        rows += [row for row in atlas["layers"] if row["name"] == "input" and (row["view"] != "told t" or row["r2"] > 0.05)]
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
    apply_style(figure, f"{UNITS[atlases[0]['target']]} (more is cleaner)", "")
    figure.update_xaxes(title={"font": {"size": 13}})  # the titles of two narrow panels would touch
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=90 + 19 * max(len(names) for names, *_ in grids), hovermode="closest", margin={"l": 130})
    return figure


def reading_curve(
    atlases: Sequence[dict[str, Any]], titles: Sequence[str], layer: str, view: str, level: float | None = None,
    colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC),
) -> go.Figure:  # fmt: skip
    """Probe prediction of one layer by true noise level: mean and standard deviation over held-out images.

    ``level`` is marked with a vertical line.
    """
    figure = go.Figure()
    levels = atlases[0]["levels"]
    figure.add_scatter(
        x=levels, y=levels, name="true", mode="lines", line={"color": "#7f7f7f", "width": 2, "dash": "dot"}, hoverinfo="skip"
    )
    for atlas, title, color in zip(atlases, titles, colors):
        for row in atlas["layers"]:
            if (row["name"], row["view"]) == (layer, view):
                mean = [x + bias for x, bias in zip(levels, row["bias"])]
                add_band(
                    figure, levels, [m - s for m, s in zip(mean, row["std"])], [m + s for m, s in zip(mean, row["std"])], color
                )
                figure.add_scatter(
                    x=levels, y=mean, name=title, mode="lines+markers", line={"color": color, "width": 2.5},
                    marker={"size": 5}, customdata=row["std"], hovertemplate="%{y:.2f} ± %{customdata:.2f}",
                )  # fmt: skip
    if level is not None:
        figure.add_vline(x=level, line={"color": "#7f7f7f", "dash": "dash", "width": 1})
    apply_style(figure, f"true {UNITS[atlases[0]['target']]}", f"probe prediction ({layer})")
    return figure


def ruler_figure(
    rows: Sequence[dict[str, Any]], true: float | None = None, colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC)
) -> go.Figure:
    """Predicted noise level of one image: a dot and an interval per predictor, the first at the top.

    Args:
        rows: Result of ``explore.probes.ruler``: ``reader``, ``value``, ``low`` and ``high``.
        true: True log SNR, marked with a vertical line. None if it is unknown or hidden.
        colors: Colors of the first rows, which are the networks. The other rows are gray.
    """
    figure = go.Figure()
    for number, row in enumerate(rows):
        network = number < len(colors)
        figure.add_scatter(
            x=[row["value"]], y=["<br>".join(textwrap.wrap(row["reader"], 16))], mode="markers", showlegend=False,
            marker={
                "color": colors[number] if network else "#7f7f7f", "size": 11 if network else 9,
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
    apply_style(figure, "log SNR (more is cleaner)", "")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(height=96 + 40 * len(rows), hovermode="closest")
    return figure
