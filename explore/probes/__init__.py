"""Linear probes of the noise level in a network's activations, the atlas of a network, and its implied noise level."""

from __future__ import annotations

from explore.probes.baselines import BASELINES, gaussian_features
from explore.probes.bootstrap import DRAWS, Errors, note_few_images, poisson_weights
from explore.probes.controls import control_values, hears, redrawn
from explore.probes.linear import PENALTIES, PROBES, LevelClassifier, RidgeProbe, fit_ridge
from explore.probes.measurement import Measured, measure
from explore.probes.noise_atlas import ATLAS_VIEWS, REGIONS, atlas, rounded, yardsticks
from explore.probes.noise_ruler import ruler
from explore.probes.probe_set import Clock, clock_run, clock_stream, load
from explore.probes.targets import TARGETS, Target, target_values

__all__ = [
    "ATLAS_VIEWS", "BASELINES", "DRAWS", "PENALTIES", "PROBES", "REGIONS", "TARGETS", "Clock", "Errors", "LevelClassifier",
    "Measured", "RidgeProbe", "Target", "atlas", "clock_run", "clock_stream", "control_values", "fit_ridge",
    "gaussian_features", "hears", "load", "measure", "note_few_images", "poisson_weights", "redrawn", "rounded", "ruler",
    "target_values", "yardsticks",
]  # fmt: skip
