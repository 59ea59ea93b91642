"""Linear probes of the noise level: fits, controls, the atlas of a network, and the implied noise level while it samples.

``measure`` and ``atlas`` fit probes to the layers of a network and report held-out errors. ``ProbeSet`` holds the fitted
probes of one model and ``load`` reads those that ship with it. The modules import one another in this order: targets, linear,
baselines, controls, errors, measurement, probe_set, noise_atlas, noise_ruler.
"""

from __future__ import annotations

from explore.probes.baselines import BASELINES, gaussian_features
from explore.probes.controls import NO_T_INPUT, control_values, is_conditioned, reinitialized
from explore.probes.errors import Errors
from explore.probes.linear import PENALTIES, PROBES, LevelClassifier, RidgeProbe, fit_ridge
from explore.probes.measurement import Measured, measure
from explore.probes.noise_atlas import ATLAS_VIEWS, REGIONS, Atlas, AtlasRow, atlas, yardsticks
from explore.probes.noise_ruler import ruler
from explore.probes.probe_set import ProbeSet, implied_level_run, implied_level_stream, load
from explore.probes.targets import TARGETS, Target, target_values

__all__ = [
    "ATLAS_VIEWS", "BASELINES", "NO_T_INPUT", "PENALTIES", "PROBES", "REGIONS", "TARGETS", "Atlas", "AtlasRow", "Errors",
    "LevelClassifier", "Measured", "ProbeSet", "RidgeProbe", "Target", "atlas", "control_values", "fit_ridge",
    "gaussian_features", "implied_level_run", "implied_level_stream", "is_conditioned", "load", "measure", "reinitialized",
    "ruler", "target_values", "yardsticks",
]  # fmt: skip
