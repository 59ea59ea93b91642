"""Figures of the gap between the members of a pair: against the images that they have seen, and what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from explore.figures.style import HEIGHT, OTHERS, TIME_AGNOSTIC, apply_style, rgba


def learning_curves(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Relative gap against images seen, one line for each t from near the data (dark) to near noise (bright).

    Args:
        rows: Each with ``images_seen``, ``t`` and ``gap``: value, low and high.
    """
    figure = go.Figure()
    times = sorted({row["t"] for row in rows})
    shades = sample_colorscale(
        "Viridis", [0.85 * place / max(1, len(times) - 1) for place in range(len(times))], colortype="tuple"
    )
    for t, shade in zip(times, shades):
        color = "#" + "".join(f"{round(255 * part):02x}" for part in shade)
        own = [row for row in rows if row["t"] == t]
        x = [row["images_seen"] for row in own]
        values, lows, highs = zip(*((row["gap"]["value"], row["gap"]["low"], row["gap"]["high"]) for row in own))
        figure.add_scatter(
            x=[*x, *x[::-1]], y=[*highs, *lows[::-1]], mode="lines", fill="toself", fillcolor=rgba(color, 0.15),
            line={"width": 0}, hoverinfo="skip", showlegend=False, legendgroup=f"{t:g}",
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=values, name=f"t = {t:g}", mode="lines+markers", line={"color": color, "width": 2}, legendgroup=f"{t:g}",
            hovertemplate="%{y:+.1%}",
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": "#7f7f7f", "dash": "dot", "width": 1})
    apply_style(figure, "images seen by each member", "relative gap in loss")
    figure.update_xaxes(type="log")
    figure.update_yaxes(tickformat="+.0%")
    return figure.update_layout(height=HEIGHT + 120)


def two_stage(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Loss relative to the conditioned model with the true t, by t, one line for each other source of t. Logarithmic.

    Values that are not positive cannot be drawn on a logarithmic axis and are left out.

    Args:
        rows: Each with ``t``, ``source`` and ``relative``: value, low and high.
    """
    figure = go.Figure()
    sources = dict.fromkeys(row["source"] for row in rows if row["relative"]["value"] != 0)
    others = iter(OTHERS)
    for source in sources:
        own = [row for row in rows if row["source"] == source and row["relative"]["value"] > 0]
        color = TIME_AGNOSTIC if source.startswith("time-agnostic") else next(others, "#7f7f7f")
        values = [row["relative"]["value"] for row in own]
        above, below = ([abs(row["relative"][end] - row["relative"]["value"]) for row in own] for end in ("high", "low"))
        figure.add_scatter(
            x=[row["t"] for row in own], y=values, name=source, mode="lines+markers", hovertemplate="%{y:+.2%}",
            line={"color": color, "width": 2.5, "dash": "dot" if source == "exact cost" else "solid"},
            error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1, "width": 0},
        )  # fmt: skip
    apply_style(figure, "t (1 is noise, 0 is data)", "loss relative to the true t")
    figure.update_yaxes(type="log", tickformat=".1%")
    return figure.update_layout(height=HEIGHT + 160, legend={"y": -0.25, "yanchor": "top"}, margin={"b": 130})
