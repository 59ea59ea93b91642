"""Colors, units and layout shared by all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

CONDITIONED, TIME_AGNOSTIC, CONSTANT = "#0072B2", "#D55E00", "#009E73"
MEMBER_COLORS = {"timestep": CONDITIONED, "none": TIME_AGNOSTIC, "constant": CONSTANT}
STATE, ESTIMATE = "#56B4E9", "#CC79A7"
HEIGHT = 300
UNITS = {"logsnr": "log SNR", "log_sigma": "log sigma", "t": "t"}
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # lines that belong to no member of a pair
PRIORS = ("#009E73", "#E69F00", "#CC79A7", "#56B4E9")  # one color per prior


def apply_style(figure: go.Figure, x_title: str, y_title: str) -> go.Figure:
    """Sets axis titles and the common layout. Transparent background and mid-gray text are readable on light and dark pages."""
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


def rgba(color: str, opacity: float) -> str:
    """CSS color of a ``#rrggbb`` color with an opacity from 0 to 1."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def add_band(
    figure: go.Figure, x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str, **place: int
) -> None:
    """Fills the area between two curves. Call it before adding the line that the band belongs to."""
    figure.add_scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", fillcolor=rgba(color, 0.18), line={"width": 0},
        mode="lines", hoverinfo="skip", showlegend=False, **place,
    )  # fmt: skip


def error_bars(intervals: Sequence[Any], **look: Any) -> dict[str, Any]:
    """Plotly's ``error_x`` or ``error_y`` for instances of ``explore.statistics.Interval``; without ends there is no bar."""
    ends = [(one.value, one.value) if one.low is None or one.high is None else (one.low, one.high) for one in intervals]
    above = [high - one.value for one, (_, high) in zip(intervals, ends)]
    below = [one.value - low for one, (low, _) in zip(intervals, ends)]
    return {"array": above, "arrayminus": below, "thickness": 1, **look}
