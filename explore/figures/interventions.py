"""Figures of interventions: dose response, and dependence on the image against dependence on the given t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explore.figures.style import CONDITIONED, OTHERS, UNITS, add_band, apply_style, error_bars


def dose_response(record: Any, names: Sequence[str], color: str = CONDITIONED) -> go.Figure:
    """Effect of an intervention by dose, one panel per measured quantity. The gray band shows random directions.

    Args:
        record: Result of ``explore.interventions.intervene``.
        names: Quantities to show: names of later layers, ``predicted_noise`` or ``loss``.
        color: Color of the first noise level. Other levels have other colors.
    """
    figure = make_subplots(cols=len(names), subplot_titles=[name.replace("_", " ") for name in names], horizontal_spacing=0.08)
    for column, name in enumerate(names, start=1):
        for level, paint in zip(record.levels, (color, *OTHERS)):
            rows = sorted((row for row in record.rows if row.logsnr == level), key=lambda row: row.dose)
            doses, effects = [row.dose for row in rows], [row.effects[name] for row in rows]
            place = {"row": 1, "col": column}
            lows, highs = ([op(row.control[name]) for row in rows] for op in (min, max))
            add_band(figure, doses, lows, highs, "#7f7f7f", **place)
            figure.add_scatter(
                x=doses, y=[effect.value for effect in effects], mode="lines+markers", name=f"at log SNR {level:g}",
                line={"color": paint, "width": 2.5}, showlegend=column == 1, hovertemplate="%{y:.3g}", **place,
                error_y=error_bars(effects),
            )  # fmt: skip
    apply_style(figure, f"dose, {UNITS[record.target]}", "change")
    figure.update_yaxes(title="", matches=None)
    figure.update_yaxes(title="change", col=1)
    return figure.update_layout(margin={"t": 64}, legend={"y": 1.14})  # above the panel titles


def trust_bars(lies: Sequence[Any], titles: Sequence[str]) -> go.Figure:
    """Slope of the implied noise level by layer: on the true noise level (image) and on the given one (label).

    Args:
        lies: Results of ``explore.interventions.given_vs_true``, one per model.
        titles: Title of each model.
    """
    figure = make_subplots(cols=len(lies), shared_yaxes=True, subplot_titles=list(titles), horizontal_spacing=0.03)
    for column, lie in enumerate(lies, start=1):
        for side, name, color, symbol in (
            ("true", "follows the picture", OTHERS[0], "circle"), ("given", "follows the label", OTHERS[1], "diamond")
        ):  # fmt: skip
            slopes = [getattr(row, side) for row in lie.layers]
            figure.add_scatter(
                x=[slope.value for slope in slopes], y=[row.name for row in lie.layers], mode="markers", name=name,
                marker={"color": color, "size": 8, "symbol": symbol}, showlegend=column == 1, hovertemplate="%{x:.3f}",
                error_x=error_bars(slopes), row=1, col=column,
            )  # fmt: skip
    apply_style(figure, "slope of the implied noise level", "")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=134 + 20 * len(lies[0].layers), hovermode="closest", margin={"l": 130, "t": 64})
    return figure.update_layout(legend={"y": 1.07})  # above the panel titles
