"""Interventions: activations are changed along the direction of a probe, and the effects are measured.

Effects are changes of the noise level that later layers imply, of the predicted noise, of the loss and of the samples.

- ``steer`` adds the direction at every position, so that the layer's own probe prediction moves by a stated amount.
- ``patch`` (activation patching) replaces the component along the direction by that of the same image at another noise level.
- ``ablate`` replaces the component by its mean.

:func:`intervene` compares each with control directions of the same length, of several kinds (``CONTROLS``), and with what the
conditioned model of the pair does when its given t is shifted. A network need not use a direction that decodes well.
:func:`given_vs_true` varies the given and the true t of a conditioned network independently. The modules import one another
in this order: edits, directions, bench, told, effects, samples, given.
"""

from __future__ import annotations

from explore.interventions.bench import INTERVENTIONS, RENAMED, STAGES
from explore.interventions.directions import (
    CONTROLS,
    DECISIVE,
    DIRECTIONS,
    FITTED_IMAGES,
    ControlSource,
    control_directions,
    random_direction,
)
from explore.interventions.edits import ablate, edited, patch, steer
from explore.interventions.effects import (
    CONTROL_IMAGES,
    DOSES,
    LOSS_TIMES,
    EffectRow,
    InterventionResult,
    LossRow,
    Slope,
    SlopeRow,
    intervene,
)
from explore.interventions.given import LIE_LEVELS, FollowedRow, GivenVsTrueResult, given_vs_true
from explore.interventions.samples import STEERED_RUNS, steered_figures, steered_stream
from explore.interventions.told import Partner

__all__ = [
    "CONTROLS", "CONTROL_IMAGES", "DECISIVE", "DIRECTIONS", "DOSES", "FITTED_IMAGES", "INTERVENTIONS", "LIE_LEVELS",
    "LOSS_TIMES", "RENAMED", "STAGES", "STEERED_RUNS", "ControlSource", "EffectRow", "FollowedRow", "GivenVsTrueResult",
    "InterventionResult", "LossRow", "Partner", "Slope", "SlopeRow", "ablate", "control_directions", "edited", "given_vs_true",
    "intervene", "patch", "random_direction", "steer", "steered_figures", "steered_stream",
]  # fmt: skip
