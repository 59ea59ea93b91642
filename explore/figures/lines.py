"""Line charts for any instrument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from explore.figures.style import CONDITIONED, HEIGHT, PRIORS, TIME_AGNOSTIC, add_band, apply_style


def curves(
    rows: Sequence[dict[str, Any]], x_title: str, y_title: str, *, log_x: bool = False, log_y: bool = False,
    downward: bool = False, at: float | None = None,
) -> go.Figure:  # fmt: skip
    """Line chart of a few curves, such as the coefficients of a schedule or an error by noise level.

    Args:
        rows: ``name``, ``x`` and ``y`` of each curve. Optional: ``low`` and ``high`` (ends of the intervals), ``color``,
            ``dash`` and ``markers`` (true shows the points).
        x_title: Title of the x axis.
        y_title: Title of the y axis.
        log_x: Use a logarithmic x axis.
        log_y: Use a logarithmic y axis.
        downward: Reverse the x axis, so that t decreases to the right as in sampling.
        at: Value of x to mark with a vertical line.
    """
    figure = go.Figure()
    for row, spare in zip(rows, (*PRIORS, CONDITIONED, TIME_AGNOSTIC) * 2):
        color = row.get("color", spare)
        if "low" in row:
            add_band(figure, row["x"], row["low"], row["high"], color)
        figure.add_scatter(
            x=list(row["x"]), y=list(row["y"]), name=row["name"], mode="lines+markers" if row.get("markers") else "lines",
            line={"color": color, "width": 2.5, "dash": row.get("dash", "solid")}, hovertemplate="%{y:.4g}",
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
