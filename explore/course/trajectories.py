"""Both members' paths on one map. Depends on panel, trajectories."""

from __future__ import annotations

import torch

from explore import figures
from explore.course.display import sheet
from explore.course.panel import Part, View, slider
from explore.trajectories import Map, Trajectories


def paths(recorded: Trajectories, drawn: Map, at: int | None = None) -> View:
    """One map of both members' paths, with the pictures of a chosen path and step.

    Args:
        recorded: The paths.
        drawn: Their projection.
        at: Initial step among the recorded ones; by default the last.
    """
    frames = len(recorded.t)
    times = recorded.t.tolist()

    def draw(image: int, step: int) -> list[Part]:
        chart = figures.trajectory_map(
            drawn.coordinates.tolist(), recorded.titles, times, at=step, chosen=image, indices=recorded.index.tolist()
        )
        rows = {
            title: torch.stack([recorded.pictures(space, image, step)[member] for space in ("xt", "x0_hat")])
            for member, title in enumerate(recorded.titles)
        }
        return [chart.update_layout(height=420), sheet(rows, ["xt", "x0_hat"]), f"Image {image + 1} at t = {times[step]:.2f}."]

    controls = {"image": slider("image", 0, 0, len(recorded.seeds) - 1, 1),
                "step": slider("step", frames - 1 if at is None else at, 0, frames - 1, 1)}  # fmt: skip
    words = f"Paths of both members on one {drawn.projection} map of {drawn.space}."
    return View(draw, controls, words, [{"step": frames // 2}, {"step": frames - 1}])
