"""Posteriors of t and their widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from explore.figures.style import HEIGHT, PRIORS, apply_style


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
    apply_style(figure, x_title.removesuffix(" (log)"), y_title)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if x_title.endswith("(log)"):
        figure.update_xaxes(type="log", tickvals=list(rows[0]["x"]))
    figure.update_layout(legend={"y": -0.3, "yanchor": "top"}, height=HEIGHT + 60, margin={"b": 100})
    return figure
