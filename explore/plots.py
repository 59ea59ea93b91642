"""Results -> plotly figures. Knows no model; every figure of the app and the notebooks is here, in one style.

The member that is told the time and the one that never is keep their colours everywhere; the palette is Okabe and Ito's,
which readers with any colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

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
