"""Figures of trajectories: map of the paths of both models, distance between them, and shape of the paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explore.figures.style import CONDITIONED, ESTIMATE, STATE, TIME_AGNOSTIC, add_band, apply_style, rgba

SYMBOLS = ("circle", "diamond")  # one per model, so that color is not the only difference
# For ten classes. Paul Tol's muted scheme, with dark colors made brighter for dark pages.
CLASS_COLORS = (
    "#CC6677", "#5566CC", "#DDCC77", "#228844", "#88CCEE", "#AA3377", "#44AA99", "#999933", "#BB66BB", "#999999",
)  # fmt: skip
SPACE_TITLES = {"xt": "state xt", "x0_hat": "estimate x0_hat"}
FAINT, CLEAR, BEHIND = 0.25, 0.6, 0.12  # opacity of path lines: under colored points, alone, and behind a selected path
PATH_FIGURES = {
    "length": "path<br>length", "detour": "length /<br>straight line", "turning": "turning<br>(rad)",
    "curvature": "curvature<br>(rad / length)",
}  # fmt: skip


def trajectory_map(
    coordinates: Any, titles: Sequence[str], t: Sequence[float], colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC), *,
    values: Any = None, value_title: str = "t", classes: Sequence[Sequence[str]] | None = None, at: int | None = None,
    chosen: int | None = None, axes: Sequence[str] = ("1", "2", "3"), indices: Sequence[int] | None = None,
) -> go.Figure:  # fmt: skip
    """Map of the paths of both models in two or three dimensions. Each point has [image, kept point] as custom data for clicks.

    Args:
        coordinates: (2, N, F, dimensions), from :func:`explore.trajectories.project`.
        titles: Title of each model.
        t: (F,), t of the points of a path.
        colors: Color of each model.
        values: (2, N, F), values from 0 to 1 that set the color of the points, such as the implied t. Without ``values`` and
            ``classes`` the color is that of the model.
        value_title: Title of ``values``.
        classes: (2, N), class names that set the color of the points.
        at: Index of the point, below F, that gets a marker on every path. None: no marker.
        chosen: Index of the image, below N, whose paths are highlighted. None: no image.
        axes: Titles of the axes.
        indices: (F,), sampler step of each point. Default: 0 to F - 1.
    """
    points = [[[list(map(float, place)) for place in path] for path in member] for member in coordinates]
    images, frames, dimensions = len(points[0]), len(points[0][0]), len(points[0][0][0])
    indices = list(range(frames)) if indices is None else list(indices)
    scatter = go.Scatter if dimensions == 2 else go.Scatter3d
    flat = dimensions == 2
    colored = values is not None or classes is not None
    figure = go.Figure()

    def place(cells: Sequence[Any]) -> dict[str, list[Any]]:
        """Coordinates by axis. None ends a line."""
        return {
            axis: [None if cell is None else round(cell[number], 4) for cell in cells]
            for number, axis in enumerate("xyz"[:dimensions])
        }

    said = "image %{customdata[0]}, step %{customdata[2]}, t = %{customdata[3]:.3f}"
    for member, title in enumerate(titles):
        cells: list[Any] = []
        about: list[Any] = []
        for image, path in enumerate(points[member]):
            cells += [*path, None]
            about += [[image + 1, frame, indices[frame], t[frame]] for frame in range(frames)] + [[None] * 4]
        figure.add_trace(
            scatter(
                **place(cells), mode="lines", name=title, customdata=about, meta={"role": "path", "member": member},
                opacity=BEHIND if chosen is not None else FAINT if colored else CLEAR, legendgroup=title,
                line={"color": colors[member], "width": 1.5 if flat else 2}, hovertemplate=f"{title}<br>{said}<extra></extra>",
                showlegend=False,
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        if not colored:
            break
        spots = [spot for path in points[member] for spot in path]
        about = [[i + 1, f, indices[f], t[f]] for i in range(images) for f in range(frames)]
        marker: dict[str, Any] = {"size": 6 if flat else 3, "symbol": SYMBOLS[member], "opacity": 0.85}
        if classes is not None:
            names = sorted({name for row in classes for name in row})
            paint = dict(zip(names, CLASS_COLORS * (1 + len(names) // len(CLASS_COLORS))))
            marker["color"] = [paint[name] for name in classes[member] for _ in range(frames)]
            extra: list[Any] = [name for name in classes[member] for _ in range(frames)]
            words = "%{customdata[4]}"
        else:
            found = [float(value) for path in values[member] for value in path]
            marker |= {"color": [round(value, 3) for value in found], "cmin": 0, "cmax": 1, "colorscale": "Viridis"}
            marker |= {"showscale": member == 0, "colorbar": {"title": {"text": value_title}, "thickness": 12, "len": 0.8}}
            extra = [round(value, 3) for value in found]
            words = value_title + " %{customdata[4]}"
        figure.add_trace(
            scatter(
                **place(spots), mode="markers", marker=marker, meta={"role": "point", "member": member}, showlegend=False,
                customdata=[[*row, value] for row, value in zip(about, extra)], name=title, legendgroup=title,
                hovertemplate=f"{title}<br>{said}<br>{words}<extra></extra>",
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        here = [path[at] for path in points[member]] if at is not None else []
        shown = {"color": colors[member], "symbol": SYMBOLS[member], "size": 9 if flat else 5}
        figure.add_trace(
            scatter(
                **place(here or [None]), mode="markers", name=title, legendgroup=title,
                marker={**shown, "line": {"color": "white", "width": 1}}, meta={"role": "at", "member": member},
                customdata=[[i + 1, at, indices[at], t[at]] for i in range(images)] if at is not None else None,
                hovertemplate=f"{title}<br>{said}<extra></extra>",
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        path = points[member][chosen] if chosen is not None else []
        line = {"color": colors[member], "width": 4 if flat else 7}
        figure.add_trace(
            scatter(
                **place(path or [None]), mode="lines", line=line, showlegend=False, hoverinfo="skip", name=title,
                meta={"role": "chosen", "member": member},
            )
        )  # fmt: skip
    for member, title in enumerate(titles):
        spot = [points[member][chosen][at]] if chosen is not None and at is not None else [None]
        bold = {"color": colors[member], "symbol": SYMBOLS[member], "size": 16 if flat else 9}
        figure.add_trace(
            scatter(
                **place(spot), mode="markers", marker={**bold, "line": {"color": "white", "width": 2}}, showlegend=False,
                hoverinfo="skip", name=title, meta={"role": "chosen-at", "member": member},
            )
        )  # fmt: skip
    if classes is not None:
        for name in names:
            figure.add_trace(
                scatter(
                    **place([None]), mode="markers", name=name, marker={"color": paint[name], "size": 8}, meta={"role": "key"}
                )
            )
    apply_style(figure, f"{axes[0]}", f"{axes[1]}")
    figure.update_layout(
        height=560, hovermode="closest", margin={"l": 48, "r": 8, "t": 40, "b": 44}, clickmode="event",
        legend={"itemsizing": "constant"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7f7f7f", "orientation": "v", "remove": ["select2d", "lasso2d"]},
    )  # fmt: skip
    if flat:
        figure.update_yaxes(scaleanchor="x")
    else:
        axis = {"gridcolor": "#9a9a9a", "zeroline": False, "showticklabels": False, "showbackground": False, "nticks": 5}
        named = {f"{letter}axis": {**axis, "title": {"text": title}} for letter, title in zip("xyz", axes)}
        scene = {**named, "aspectmode": "data", "dragmode": "turntable", "camera": {"eye": {"x": 1.4, "y": 1.4, "z": 0.8}}}
        figure.update_layout(scene=scene, margin={"l": 0, "b": 0})
    return figure


def distance_curve(
    spaces: Mapping[str, Mapping[str, Any]], t: Sequence[float], value: str = "relative", at: float | None = None
) -> go.Figure:
    """Distance between the models over t: median and quartiles over the images. The x axis starts at noise.

    Args:
        spaces: ``spaces`` of :meth:`explore.trajectories.Trajectories.to_json`. The figure shows ``xt`` and ``x0_hat``.
        t: t of each step.
        value: ``relative`` shows the relative distance and the threshold of the divergence step. ``between`` shows the root
            mean square distance, and as dotted lines that between two images of the same model.
        at: Value of t to mark with a vertical line.
    """
    figure = go.Figure()
    for space, color, dash in (("xt", STATE, "solid"), ("x0_hat", ESTIMATE, "dash")):
        rows = spaces[space][value]["per_step"]
        low, middle, high = ([row[name] for row in rows] for name in ("low", "median", "high"))
        add_band(figure, t, low, high, color)
        figure.add_scatter(
            x=list(t), y=middle, name=SPACE_TITLES[space], mode="lines", hovertemplate="%{y:.3f}",
            line={"color": color, "width": 2.5, "dash": dash},
        )  # fmt: skip
        if value == "between":
            figure.add_scatter(
                x=list(t), y=spaces[space]["strangers"]["per_step"], name=f"two images of one member, {space}", mode="lines",
                line={"color": color, "width": 1.5, "dash": "dot"}, hovertemplate="%{y:.3f}",
            )  # fmt: skip
    if value == "relative":
        threshold = spaces["xt"]["parting"]["threshold"]
        figure.add_hline(
            y=threshold, line={"color": "#7f7f7f", "dash": "dot", "width": 1.5},
            annotation={"text": f"divergence threshold {threshold:g}", "xanchor": "left", "x": 0, "yanchor": "bottom"},
        )  # fmt: skip
    if at is not None:
        figure.add_vline(x=at, line={"color": "#7f7f7f", "dash": "dash", "width": 1})
    title = "relative distance" if value == "relative" else "distance (images in [-1, 1])"
    apply_style(figure, "t (1 is noise, 0 is data)", title)
    figure.update_xaxes(range=[max(t, default=1) * 1.02, -0.02])
    return figure.update_yaxes(rangemode="tozero")


def path_figures(
    members: Mapping[str, Mapping[str, Any]], titles: Sequence[str], colors: Sequence[str] = (CONDITIONED, TIME_AGNOSTIC),
    shown: Sequence[str] = ("length", "detour", "curvature"),
) -> go.Figure:  # fmt: skip
    """Box plots of path length, detour and curvature: one panel per measure, one dot per image.

    Args:
        members: ``members`` of one space of :meth:`explore.trajectories.Trajectories.to_json`.
        titles: Title of each model.
        colors: Color of each model.
        shown: Measures to show, keys of ``PATH_FIGURES``.
    """
    figure = make_subplots(cols=len(shown), subplot_titles=[PATH_FIGURES[name] for name in shown], horizontal_spacing=0.1)
    for column, name in enumerate(shown, start=1):
        for title, color, member in zip(titles, colors, members.values()):
            known = [value for value in member[name]["per_image"] if value is not None]
            figure.add_box(
                y=known, name=title, marker={"color": color, "size": 4}, line={"width": 1.5}, boxpoints="all", jitter=0.6,
                pointpos=0, fillcolor=rgba(color, 0.15), showlegend=column == 1, legendgroup=title, hoverinfo="y",
                row=1, col=column,
            )  # fmt: skip
    apply_style(figure, "", "")
    figure.update_xaxes(showticklabels=False)
    figure.update_annotations(font={"size": 12})
    return figure.update_layout(hovermode="closest", margin={"l": 40, "t": 84, "b": 16}, legend={"y": 1.2}, boxgap=0.15)
