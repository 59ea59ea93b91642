"""Two members of a pair from the same noise: the comparison of their runs, the paths they took, and maps of these paths.

``compare`` runs both members in step; ``Comparison`` is the record, with the difference between the members at every step.
``follow`` and ``record`` keep the paths themselves, in image space and in the space of any hook point: ``Trajectories`` holds
them with their geometry, and ``project`` draws one map of both members.
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
)
from explore.trajectories.maps import Map
from explore.trajectories.measures import DEFINITIONS, PARTED, Geometry, geometry
from explore.trajectories.projection import PROJECTIONS, principal, project, umap
from explore.trajectories.recorder import MAP_POINTS, PATH_POINTS, SPACES, Recorder, Trajectories, follow, record

__all__ = [
    "DEFINITIONS", "MAP_POINTS", "MAX_FRAMES", "MAX_IMAGES", "PARTED", "PATH_POINTS", "PROJECTIONS", "SPACES", "Comparison",
    "Frame", "Geometry", "Map", "Recorder", "Trajectories", "compare", "difference_gain", "difference_image", "follow",
    "geometry", "principal", "project", "record", "umap",
]  # fmt: skip
