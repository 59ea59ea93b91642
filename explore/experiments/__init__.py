"""What a person can ask for: one request a file, and the list from which commands, endpoints and code are derived."""

from __future__ import annotations

import shlex
from typing import Any

from explore.experiments.clock import Clock, Clocks
from explore.experiments.compare import Compare
from explore.experiments.denoising import Denoising
from explore.experiments.evaluate import Evaluate
from explore.experiments.exact import ExactSamples, ExactSampling
from explore.experiments.fidelity import Fidelity
from explore.experiments.gain import Gain, Gains
from explore.experiments.intervene import Intervene
from explore.experiments.learning_curve import LearningCurve
from explore.experiments.losses import Losses
from explore.experiments.neighbors import Neighbors
from explore.experiments.paths import Paths, Trajectories
from explore.experiments.plane import PlaneFlow, PlanePaths
from explore.experiments.posterior import Posterior, Posteriors
from explore.experiments.probe import Probe, Probed
from explore.experiments.readout import Reading
from explore.experiments.request import Request
from explore.experiments.ruler import Estimates, Ruler
from explore.experiments.saliency import Maps, Saliency
from explore.experiments.sample import Sample, Samples
from explore.experiments.steering import Steered, Steering
from explore.experiments.two_stage import TwoStage
from explore.experiments.yardsticks import Yardsticks
from explore.values import choose

EXPERIMENTS: dict[str, type[Request]] = {
    kind.verb: kind
    for kind in (
        Sample, Compare, Evaluate, Denoising, Fidelity, Losses, Neighbors, Yardsticks, Probe, Clock, Intervene, Trajectories,
        Saliency, Reading, Posterior, LearningCurve, TwoStage, Ruler, Steering, ExactSampling, PlaneFlow, Gain,
    )
}  # fmt: skip

for _kind in EXPERIMENTS.values():  # their options are described once, by the help of each field
    _listed = "".join(f"        {name}: {one.help}\n" for name, one in _kind.options().items())
    _kind.__doc__ = f"{(_kind.__doc__ or '').rstrip()}\n\n    Attributes:\n{_listed}    "


def from_command(command: str) -> Request:
    """The request that a stored command line names: the inverse of ``request.command``.

    Raises:
        ValueError: For a command that is no experiment, or an option that is not allowed.
    """
    words = shlex.split(command)
    if words[:3] != ["python", "-m", "explore"] or len(words) < 4:
        raise ValueError(f"not a command of this project: {command}")
    kind = EXPERIMENTS[choose("experiment", words[3], EXPERIMENTS)]
    known = kind.options()
    positional = [name for name, one in known.items() if one.positional]
    values: dict[str, Any] = {}
    name = None
    for word in words[4:]:
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            if name.startswith("no_") and name not in known:
                values[name[3:]], name = False, None
            elif name in known and known[name].kind is bool:
                values[name], name = True, None
        elif name is None:
            if not positional:
                raise ValueError(f"{word!r} belongs to no option of {kind.verb}: {command}")
            values[positional.pop(0)] = word
        elif name in known and known[name].many:
            values.setdefault(name, []).append(word)
        else:
            values[name], name = word, None
    return kind.parse(values)


__all__ = [
    "EXPERIMENTS", "Clock", "Clocks", "Compare", "Denoising", "Estimates", "Evaluate", "ExactSamples", "ExactSampling",
    "Fidelity", "Gain", "Gains", "Intervene", "LearningCurve", "Losses", "Maps", "Neighbors", "Paths", "PlaneFlow",
    "PlanePaths", "Posterior", "Posteriors", "Probe", "Probed", "Reading", "Request", "Ruler", "Saliency", "Sample",
    "Samples", "Steered", "Steering", "Trajectories", "Yardsticks", "from_command",
]  # fmt: skip
