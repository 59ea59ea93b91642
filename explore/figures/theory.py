"""Figures of the posterior of t and of its width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from explore.figures.style import HEIGHT, PRIORS, apply_style


def posterior_curves(rows: Sequence[dict[str, Any]], true: float | None = None) -> go.Figure:
    """Posterior p(t | x) under several priors. Each curve is scaled to a maximum of 1.

    Args:
        rows: ``name``, ``t`` (T,) and ``density`` (T,) of each prior.
        true: The t at which the image was noised, marked with a vertical line.
    """
    figure = go.Figure()
    for row, color, dash in zip(rows, PRIORS, ("solid", "dash", "dot", "dashdot")):
        top = max(row["density"])
        likely = [(t, value / top) for t, value in zip(row["t"], row["density"]) if value > 1e-4 * top]
        x, y = zip(*likely)  # the rest of the grid is zero to the eye, and most of the figure's bytes
        figure.add_scatter(
            x=x, y=y, name=row["name"], mode="lines",
            line={"color": color, "width": 2.5, "dash": dash}, hovertemplate="t %{x:.4f}<extra></extra>",
        )  # fmt: skip
    if true is not None:
        figure.add_vline(
            x=true,
            line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"},
            annotation={"text": f"true t {true:g}", "yanchor": "bottom"},
        )
    apply_style(figure, "t (1 is noise, 0 is data)", "p(t | x), scaled")
    means = [sum(t * d for t, d in zip(row["t"], row["density"])) / sum(row["density"]) for row in rows]
    reach = [t for row in rows for t, d in zip(row["t"], row["density"]) if d > 1e-4 * max(row["density"])]
    seen = [*reach, *means, *([true] if true is not None else [])]
    if seen:
        pad = 0.15 * (max(seen) - min(seen)) + 1e-4
        figure.update_xaxes(range=[min(1.0, max(seen) + pad), max(0.0, min(seen) - pad)])
    figure.update_layout(hovermode="closest", legend={"y": -0.25, "yanchor": "top"}, height=HEIGHT + 60, margin={"b": 100})
    return figure


def width_curves(rows: Sequence[dict[str, Any]], x_title: str, y_title: str, at: float | None = None) -> go.Figure:
    """Line chart with a logarithmic y axis.

    Args:
        rows: ``name``, ``x`` and ``y`` of each curve. ``markers`` (true) shows the points.
        x_title: Title of the x axis. A title that ends with "(log)" makes this axis logarithmic too.
        y_title: Title of the y axis.
        at: Value of x to mark with a vertical line.
    """
    figure = go.Figure()
    for row, color in zip(rows, PRIORS):
        figure.add_scatter(
            x=row["x"], y=row["y"], name=row["name"], mode="lines+markers" if row.get("markers") else "lines",
            line={"color": color, "width": 2.5}, hovertemplate="%{y:.3g}",
        )  # fmt: skip
    if at is not None:
        figure.add_vline(x=at, line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"})
    apply_style(figure, x_title.removesuffix(" (log)"), y_title)
    seen = [y for row in rows for y in row["y"] if y > 0]
    if seen and max(seen) < 100 * min(seen):  # powers of ten alone would be one or two ticks
        ticks = [digit * 10.0**power for power in range(-9, 3) for digit in (1, 2, 5)]
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    else:
        figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if x_title.endswith("(log)"):
        figure.update_xaxes(type="log", tickvals=list(rows[0]["x"]), ticktext=[f"{x:,}" for x in rows[0]["x"]])
    figure.update_layout(legend={"y": -0.3, "yanchor": "top"}, height=HEIGHT + 60, margin={"b": 100})
    return figure
