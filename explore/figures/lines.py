"""A few lines over one axis, of any instrument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from explore.figures.style import HEIGHT, PRIORS, TOLD, UNTOLD, add_band, apply_style


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
            add_band(figure, row["x"], row["low"], row["high"], colour)
        figure.add_scatter(
            x=list(row["x"]), y=list(row["y"]), name=row["name"], mode="lines+markers" if row.get("markers") else "lines",
            line={"color": colour, "width": 2.5, "dash": row.get("dash", "solid")}, hovertemplate="%{y:.4g}",
        )  # fmt: skip
    if at is not None:
        figure.add_vline(x=at, line={"color": "#7f7f7f", "width": 1.5, "dash": "dot"})
    apply_style(figure, x_title, y_title)
    if log_x:
        figure.update_xaxes(type="log")
    if log_y:
        figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    if downward:
        figure.update_xaxes(autorange="reversed")
    figure.update_layout(legend={"y": -0.3, "yanchor": "top"}, height=HEIGHT + 60, margin={"t": 16, "b": 100})
    return figure
