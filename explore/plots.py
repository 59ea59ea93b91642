"""Results -> plotly figures. Knows no model; every figure of the app and the notebooks is here, in one style.

The member that is told the time and the one that never is keep their colours everywhere; the palette is Okabe and Ito's,
which readers with any colour vision tell apart.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
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
        hoverinfo="skip", showlegend=False, **place,
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
    return figure


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
    figure.update_layout(height=110 + 20 * len(lies[0]["layers"]), hovermode="closest", margin={"l": 130})
    return figure


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
            x=true, line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"}, annotation={"text": f"true t {true:g}"}
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
    figure.update_yaxes(type="log", exponentformat="power")
    if x_title.endswith("(log)"):
        figure.update_xaxes(type="log")
    figure.update_layout(legend={"y": -0.3, "yanchor": "top"}, height=HEIGHT + 60, margin={"b": 100})
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
        title={"text": title, "font": {"size": 14}}, height=380, hovermode="closest", margin={"l": 30, "r": 8, "t": 40, "b": 30},
        legend={"y": 0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )  # fmt: skip
    figure.update_xaxes(range=[-2.2, 2.2])
    figure.update_yaxes(range=[-2.2, 2.2], scaleanchor="x")
    return figure


def write_html(figure: go.Figure, path: Path) -> None:
    """Writes a page that shows the figure in any browser, without a network; under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.write_html(temporary, include_plotlyjs=True)
    temporary.replace(path)
