"""How good a model's samples are, and what it does to held-out images.

Distances between sets of images (Fréchet, KID, precision, recall) are torch-fidelity's, in named features.
"""

from __future__ import annotations

from explore.evaluation.calibration import YardsticksResult, YardsticksRow, yardsticks
from explore.evaluation.features import FEATURES, MIN_IMAGES, Features, distances, extract
from explore.evaluation.learning import LEARNING_LEVELS, LearningCurves, LearningRow, learning_curves, snapshots
from explore.evaluation.members import (
    FIDELITY_TIMES,
    Compared,
    FidelityResult,
    FidelityRow,
    LossesResult,
    LossRow,
    fidelity,
    losses,
)  # fmt: skip
from explore.evaluation.memorization import NeighborsResult, neighbors
from explore.evaluation.samples import SEED_BLOCK, DistancesResult, DistancesRow, evaluate, sample_features
from explore.evaluation.staged import STAGE_LEVELS, TRUE_T, StageRow, TwoStageResult, estimators, exact_cost, two_stage
from explore.evaluation.wiener import DENOISING_TIMES, DenoisingResult, DenoisingRow, WienerDenoiser, denoising

__all__ = [
    "DENOISING_TIMES", "FEATURES", "FIDELITY_TIMES", "LEARNING_LEVELS", "MIN_IMAGES", "SEED_BLOCK", "STAGE_LEVELS", "TRUE_T",
    "Compared", "DenoisingResult", "DenoisingRow", "DistancesResult", "DistancesRow", "Features", "FidelityResult",
    "FidelityRow", "LearningCurves", "LearningRow", "LossRow", "LossesResult", "NeighborsResult", "StageRow", "TwoStageResult",
    "WienerDenoiser", "YardsticksResult", "YardsticksRow", "denoising", "distances", "estimators", "evaluate", "exact_cost",
    "extract", "fidelity", "learning_curves", "losses", "neighbors", "sample_features", "snapshots", "two_stage", "yardsticks",
]  # fmt: skip
