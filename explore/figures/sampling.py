"""Figures of sampling runs: difference between the members of a pair by step, and sampling paths in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from explore.figures.style import ESTIMATE, STATE, apply_style, rgba


def difference_curve(differences: Sequence[dict[str, Any]], at: int | None = None) -> go.Figure:
    """Mean absolute difference between the members of a pair over t. The x axis starts at noise, as sampling does.

    Args:
        differences: ``per_step`` of a comparison, with ``index``, ``t``, ``xt`` and ``x0_hat``.
        at: Index of the step to mark with a vertical line.
    """
    t = [row["t"] for row in differences]
    figure = go.Figure()
    for name, title, color, dash in (
        ("xt", "state xt", STATE, "solid"),
        ("x0_hat", "estimate x0_hat", ESTIMATE, "dash"),
    ):
        figure.add_scatter(
            x=t,
            y=[row[name] for row in differences],
            name=title,
            mode="lines+markers" if len(t) <= 60 else "lines",
            line={"color": color, "dash": dash, "width": 2.5},
            hovertemplate="%{y:.4f}",
        )
    if at is not None and differences:
        row = min(differences, key=lambda row: abs(row["index"] - at))
        figure.add_vline(x=row["t"], line={"color": "#7f7f7f", "dash": "dot", "width": 1.5})
    apply_style(figure, "t (1 is noise, 0 is data)", "mean |difference|")
    figure.update_xaxes(range=[max(t, default=1) * 1.02, -0.02])
    figure.update_yaxes(rangemode="tozero")
    return figure


def planar_paths(
    points: Sequence[Sequence[float]], paths: Sequence[Sequence[Sequence[float]]], title: str, color: str
) -> go.Figure:
    """Sampling paths in the plane: lines from noise to the samples (dots), and the points of the data set (crosses).

    Args:
        points: Data, (K, 2).
        paths: N paths of S points, (N, S, 2).
        title: Title of the figure.
        color: Color of the paths.
    """
    figure = go.Figure()
    x, y = ([value for path in paths for value in [*(p[i] for p in path), None]] for i in range(2))
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": rgba(color, 0.45), "width": 1.2}, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=[path[-1][0] for path in paths], y=[path[-1][1] for path in paths], mode="markers", name="samples",
        marker={"color": color, "size": 7}, hovertemplate="%{x:.3f}, %{y:.3f}",
    )  # fmt: skip
    figure.add_scatter(
        x=[p[0] for p in points], y=[p[1] for p in points], mode="markers", name="data",
        marker={"color": "#7f7f7f", "size": 9, "symbol": "x-thin", "line": {"width": 2, "color": "#7f7f7f"}},
        hovertemplate="%{x:.3f}, %{y:.3f}",
    )  # fmt: skip
    apply_style(figure, "", "")
    figure.update_layout(
        title={"text": title, "font": {"size": 14}}, height=380, hovermode="closest",
        margin={"l": 30, "r": 8, "t": 40, "b": 30}, legend={"y": 0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    )  # fmt: skip
    figure.update_xaxes(range=[-2.2, 2.2])
    figure.update_yaxes(range=[-2.2, 2.2], scaleanchor="x")
    return figure
