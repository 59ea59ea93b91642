"""Linear probes of the noise level: fits, controls, the atlas of a network, and the implied noise level while it samples.

``measure`` and ``atlas`` fit probes to the layers of a network and report held-out errors. ``ProbeSet`` holds the fitted
probes of one model and ``load`` reads those that ship with it. The modules import one another in this order: targets, told,
linear, baselines, controls, errors, measurement, probe_set, selection, noise_atlas, noise_ruler.
"""

from __future__ import annotations

from explore.probes.baselines import BASELINES, gaussian_features
from explore.probes.controls import NO_T_INPUT, control_values, is_conditioned, reinitialized
from explore.probes.errors import Errors
from explore.probes.linear import PENALTIES, PROBES, LevelClassifier, RidgeProbe, fit_ridge
from explore.probes.measurement import TOLD_T, Measured, measure
from explore.probes.noise_atlas import (
    ATLAS_VIEWS,
    NETWORKS,
    REGIONS,
    Atlas,
    AtlasRow,
    Regime,
    atlas,
    bias_share,
    posterior_wins,
    regimes,
    yardsticks,
)
from explore.probes.noise_ruler import ruler
from explore.probes.probe_set import ProbeSet, implied_level_run, implied_level_stream, load
from explore.probes.selection import BestBlock, Scored, choose_and_score, refitted_rms
from explore.probes.targets import TARGETS, Target, target_values
from explore.probes.told import ANY, REGIMES, check_regime, fixed_t, given_times, told_label

__all__ = [
    "ANY", "ATLAS_VIEWS", "BASELINES", "NETWORKS", "NO_T_INPUT", "PENALTIES", "PROBES", "REGIMES", "REGIONS", "TARGETS",
    "TOLD_T", "Atlas", "AtlasRow", "BestBlock", "Errors", "LevelClassifier", "Measured", "ProbeSet", "Regime", "RidgeProbe",
    "Scored", "Target", "atlas", "bias_share", "check_regime", "choose_and_score", "control_values", "fit_ridge", "fixed_t",
    "gaussian_features", "given_times", "implied_level_run", "implied_level_stream", "is_conditioned", "load", "measure",
    "posterior_wins", "refitted_rms", "regimes", "reinitialized", "ruler", "target_values", "told_label",
    "yardsticks",
]  # fmt: skip
