"""Turns results into plotly figures, one file per instrument.

The functions take numbers and JSON records and know no model. The conditioned and the time-agnostic model of a pair have the
same two colors in every figure. They come from the color-blind safe palette of Okabe and Ito.
"""

from explore.figures.export import BROWSERS, NO_BROWSER, browser, page, static, statics
from explore.figures.interventions import dose_response, loss_change, slopes_against_controls, trust_bars
from explore.figures.learning import learning_curves, two_stage
from explore.figures.lines import curves
from explore.figures.probing import atlas_maps, implied_level_curves, reading_curve, ruler_figure
from explore.figures.saliency import (
    LESS,
    MORE,
    band_shares,
    blocks_with_two_levels,
    clock_shift,
    deletion_curves,
    pure_readers,
    reading_shares,
    routes_bars,
    saliency_maps,
    two_levels,
)
from explore.figures.sampling import difference_curve, planar_paths
from explore.figures.style import (
    CONDITIONED,
    CONSTANT,
    ESTIMATE,
    HEIGHT,
    MEMBER_COLORS,
    OTHERS,
    PRIORS,
    STATE,
    TIME_AGNOSTIC,
    UNITS,
)
from explore.figures.theory import posterior_curves, width_curves
from explore.figures.trajectories import (
    BEHIND,
    CLASS_COLORS,
    CLEAR,
    FAINT,
    PATH_FIGURES,
    SPACE_TITLES,
    SYMBOLS,
    distance_curve,
    path_figures,
    trajectory_map,
)

__all__ = [
    "BEHIND", "BROWSERS", "CLASS_COLORS", "CLEAR", "CONDITIONED", "CONSTANT", "ESTIMATE", "FAINT", "HEIGHT", "LESS",
    "MEMBER_COLORS", "MORE", "NO_BROWSER", "OTHERS", "PATH_FIGURES", "PRIORS", "SPACE_TITLES", "STATE", "SYMBOLS",
    "TIME_AGNOSTIC", "UNITS", "atlas_maps", "band_shares", "blocks_with_two_levels", "browser", "clock_shift", "curves",
    "deletion_curves", "difference_curve", "distance_curve", "dose_response", "implied_level_curves", "learning_curves",
    "loss_change", "page", "path_figures", "planar_paths", "posterior_curves", "pure_readers", "reading_curve",
    "reading_shares", "routes_bars", "ruler_figure", "saliency_maps", "slopes_against_controls", "static", "statics",
    "trajectory_map", "trust_bars", "two_levels", "two_stage", "width_curves",
]  # fmt: skip
