"""Which pixels, frequencies and blocks a scalar of a model depends on: captum's methods on named targets, with checks.

``attribute`` is the one verb; ``routes`` says how much comes through the t input; ``reading`` studies where in an image the
noise level is read. Beside every map stands what makes it believable: completeness (where it holds), deletion and insertion
curves, and the map of a reinitialized network.
"""

from __future__ import annotations

from explore.frequency import RINGS, by_ring, high_pass, ring_edges, rings, swap_rings
from explore.saliency.attribution import attribute, inquire
from explore.saliency.checks import CHECKS, rank_correlation
from explore.saliency.maps import Attribution, overlay, scale_of
from explore.saliency.methods import MAX_STEPS, NEVER_OFFERED, SALIENCY, grid, layers_for, offered
from explore.saliency.readout import READING_LEVELS, READING_METHODS, READING_STEPS, reading
from explore.saliency.results import ReadingResult
from explore.saliency.routes import Routes, routes
from explore.saliency.targets import BASELINES, TARGETS, Subject

__all__ = [
    "BASELINES", "CHECKS", "MAX_STEPS", "NEVER_OFFERED", "READING_LEVELS", "READING_METHODS", "READING_STEPS", "RINGS",
    "SALIENCY", "TARGETS", "Attribution", "ReadingResult", "Routes", "Subject", "attribute", "by_ring", "grid", "high_pass",
    "inquire", "layers_for", "offered", "overlay", "rank_correlation", "reading", "ring_edges", "rings", "routes", "scale_of",
    "swap_rings",
]  # fmt: skip
