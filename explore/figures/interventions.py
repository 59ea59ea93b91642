"""Figures of interventions: slopes and losses against controls, dose response, dependence on the image and on the given t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explore.figures.style import CONDITIONED, OTHERS, UNITS, add_band, apply_style, error_bars

# The kind of control whose band is drawn where there is room for one.
BAND = ("covariance", "shuffled", "isotropic")
MARKERS = {"isotropic": "diamond", "covariance": "circle", "shuffled": "square"}


def slopes_against_controls(record: Any) -> go.Figure:
    """Magnitude of each slope over the quantile of each kind of control: one panel per noise level, one row per quantity.

    Markers are filled if the quantity counts as using the direction. Then those of the decisive kinds are right of 1.

    Args:
        record: Result of ``explore.interventions.intervene``, of a kind that has doses.
    """
    titles = [f"at log SNR {row.logsnr:g}" for row in record.slopes]
    figure = make_subplots(cols=len(titles), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    names = [*record.later, "predicted_noise"]
    for column, row in enumerate(record.slopes, start=1):
        for kind, paint in zip(row.quantities["predicted_noise"].ranks, OTHERS):
            slopes = [row.quantities[name] for name in names]
            ranks = [slope.ranks[kind] for slope in slopes]
            marker = MARKERS.get(kind, "cross")
            figure.add_scatter(
                x=[rank.value / rank.quantile if rank.quantile else None for rank in ranks],
                y=[name.replace("_", " ") for name in names], mode="markers", name=kind, legendgroup=kind,
                showlegend=column == 1, customdata=[rank.p for rank in ranks],
                hovertemplate="%{x:.3g}, p = %{customdata:.3f}", row=1, col=column,
                marker={
                    "color": paint, "size": 9, "symbol": [marker if slope.used else f"{marker}-open" for slope in slopes],
                },
            )  # fmt: skip
        figure.add_vline(x=1, line={"color": "#7f7f7f", "dash": "dash", "width": 1}, row=1, col=column)
    apply_style(figure, f"|slope| / {record.quantile:.0%} of controls", "")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(height=134 + 20 * len(names), hovermode="closest", margin={"l": 130, "t": 64})
    return figure.update_layout(legend={"y": 1.07})  # above the panel titles


def dose_response(record: Any, names: Sequence[str], color: str = CONDITIONED) -> go.Figure:
    """Effect of an intervention by dose, one panel per measured quantity.

    The gray band shows all control directions of one kind, the first there is of ``BAND``.

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
            band = next(kind for kind in BAND if kind in rows[0].control[name])
            lows, highs = ([op(row.control[name][band]) for row in rows] for op in (min, max))
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


def loss_change(record: Any, color: str = CONDITIONED) -> go.Figure:
    """Relative change of the loss by t, for the direction, and the median and the quantile of each kind of control.

    Args:
        record: Result of ``explore.interventions.intervene``.
        color: Color of the direction; its dashed line is the negative dose.
    """
    figure = go.Figure()
    doses = sorted({row.dose for row in record.loss}, reverse=True)
    for dose in doses:
        rows = [row for row in record.loss if row.dose == dose]
        figure.add_scatter(
            x=[row.t for row in rows], y=[row.change.value for row in rows], mode="lines+markers",
            name=f"direction, dose {dose:+g}" if dose else "direction", error_y=error_bars([row.change for row in rows]),
            line={"color": color, "width": 2.5, "dash": "dash" if dose < 0 else "solid"}, hovertemplate="%{y:.2%}",
        )  # fmt: skip
    rows = [row for row in record.loss if row.dose == doses[0]] if doses else []
    for kind, paint in zip(rows[0].ranks if rows else (), OTHERS):
        ranks = [row.ranks[kind] for row in rows]
        for values, dash, title in (
            ([rank.median for rank in ranks], "solid", f"{kind}, median"),
            ([rank.quantile for rank in ranks], "dot", f"{kind}, {record.quantile:.0%}"),
        ):
            figure.add_scatter(
                x=[row.t for row in rows], y=values, mode="lines", name=title, hovertemplate="%{y:.2%}",
                line={"color": paint, "width": 1.5, "dash": dash},
            )  # fmt: skip
    apply_style(figure, "t (1 is noise, 0 is data)", "relative change of the loss")
    return figure.update_yaxes(tickformat=".0%")


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
