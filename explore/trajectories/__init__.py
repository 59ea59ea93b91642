"""Sampling with both members of a pair from the same noise: comparisons, recorded paths, their geometry, and maps of them.

``compare`` runs both members in lockstep and yields a ``Comparison`` with the difference between the members at every step.
``follow`` and ``record`` return the paths, in image space and in the space of any hook point, as ``Trajectories``. ``project``
draws one map of both members' paths.
"""

from __future__ import annotations

from explore.trajectories.comparison import (
    MAX_FRAMES,
    MAX_IMAGES,
    Comparison,
    Frame,
    compare,
    difference_gain,
    difference_image,
    evenly,
    frame_of,
)
from explore.trajectories.maps import Map
from explore.trajectories.measures import DEFINITIONS, PARTED, Geometry, geometry
from explore.trajectories.projection import PROJECTIONS, principal, project, umap
from explore.trajectories.recorder import MAP_POINTS, PATH_POINTS, SPACES, Recorder, Trajectories, follow, record

__all__ = [
    "DEFINITIONS", "MAP_POINTS", "MAX_FRAMES", "MAX_IMAGES", "PARTED", "PATH_POINTS", "PROJECTIONS", "SPACES", "Comparison",
    "Frame", "Geometry", "Map", "Recorder", "Trajectories", "compare", "difference_gain", "difference_image", "evenly",
    "follow", "frame_of", "geometry", "principal", "project", "record", "umap",
]  # fmt: skip
