"""The tab Trajectories: the paths that both members of a pair take from the same noise, on one map.

The computations are :func:`explore.trajectories.follow` and :func:`explore.trajectories.project`. A run records both paths in
every space at once, so that space, projection and color of the map can change without another run. Map and images are linked:
a click on a point of the map or on an image sets the sliders for image and step, and the sliders move both members' markers in
the page itself, which leaves the map's zoom and camera as they are.

Files, each importing only those before it: ``runs`` (recorded paths by session), ``views`` (what the page shows of them),
``scripts`` (styles and JavaScript), ``endpoints`` and ``page`` (controls and handlers). Depends on common, compare (settings,
runs that are held) and clock (probes, copies of the models).
"""

from __future__ import annotations

from app.trajectories.page import build, tour
from app.trajectories.runs import as_code
from app.trajectories.scripts import CSS

__all__ = ["CSS", "as_code", "build", "tour"]
