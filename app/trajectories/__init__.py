"""The tab Trajectories: the paths that both members of a pair take from the same noise, on one map.

A run records both paths in every space at once, so that space, projection and color of the map can change without another run.
Map and images are linked: a click on a point of the map or on an image sets the sliders for image and step, and the sliders
move both members' markers in the page itself, which leaves the map's zoom and camera as they are.

``views`` holds what the page shows of a run, ``scripts`` styles and JavaScript, ``page`` controls and handlers. The work is
:class:`explore.experiments.Trajectories`, recorded by :mod:`app.runs`.
"""

from __future__ import annotations

from app.trajectories.page import build, tour
from app.trajectories.scripts import CSS
from app.trajectories.views import as_code

__all__ = ["CSS", "as_code", "build", "tour"]
