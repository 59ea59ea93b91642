"""What a person can ask for: one request a file, and the list from which commands, endpoints and code are derived."""

from __future__ import annotations

from explore.experiments.clock import Clock
from explore.experiments.compare import Compare
from explore.experiments.denoising import Denoising
from explore.experiments.fidelity import Fidelity
from explore.experiments.intervene import Intervene
from explore.experiments.losses import Losses
from explore.experiments.neighbors import Neighbors
from explore.experiments.paths import Paths, Trajectories
from explore.experiments.probe import Probe, Probed
from explore.experiments.readout import Reading
from explore.experiments.request import Request
from explore.experiments.saliency import Maps, Saliency
from explore.experiments.sample import Sample, Samples
from explore.experiments.yardsticks import Yardsticks

EXPERIMENTS: dict[str, type[Request]] = {
    kind.verb: kind
    for kind in (
        Sample, Compare, Denoising, Fidelity, Losses, Neighbors, Yardsticks, Probe, Clock, Intervene, Trajectories, Saliency,
        Reading,
    )
}  # fmt: skip

__all__ = [
    "EXPERIMENTS", "Clock", "Compare", "Denoising", "Fidelity", "Intervene", "Losses", "Maps", "Neighbors", "Paths", "Probe",
    "Probed", "Reading", "Request", "Saliency", "Sample", "Samples", "Trajectories", "Yardsticks",
]  # fmt: skip
