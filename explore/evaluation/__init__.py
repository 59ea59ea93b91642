"""How good a model's samples are, and what it does to held-out images.

Distances between sets of images (Fréchet, KID, precision, recall) are torch-fidelity's, in named features.
"""

from __future__ import annotations

from explore.evaluation.calibration import yardsticks
from explore.evaluation.features import FEATURES, MIN_IMAGES, Features, distances, extract
from explore.evaluation.learning import LEARNING_LEVELS, LearningCurves, LearningRow, learning_curves, snapshots
from explore.evaluation.members import FIDELITY_TIMES, Compared, FidelityRow, LossRow, MembersResult, fidelity, losses
from explore.evaluation.memorization import neighbors
from explore.evaluation.samples import SEED_BLOCK, evaluate, sample_features
from explore.evaluation.wiener import DENOISING_TIMES, WienerDenoiser, denoising

__all__ = [
    "DENOISING_TIMES", "FEATURES", "FIDELITY_TIMES", "LEARNING_LEVELS", "MIN_IMAGES", "SEED_BLOCK", "Compared", "Features",
    "FidelityRow", "LearningCurves", "LearningRow", "LossRow", "MembersResult", "WienerDenoiser", "denoising", "distances",
    "evaluate", "extract", "fidelity", "learning_curves", "losses", "neighbors", "sample_features", "snapshots", "yardsticks",
]  # fmt: skip
