"""What a person can ask for: one request a file, and the list from which commands, endpoints and code are derived."""

from __future__ import annotations

from explore.experiments.compare import Compare
from explore.experiments.denoising import Denoising
from explore.experiments.fidelity import Fidelity
from explore.experiments.losses import Losses
from explore.experiments.neighbors import Neighbors
from explore.experiments.request import Request
from explore.experiments.sample import Sample, Samples
from explore.experiments.yardsticks import Yardsticks

EXPERIMENTS: dict[str, type[Request]] = {
    kind.verb: kind for kind in (Sample, Compare, Denoising, Fidelity, Losses, Neighbors, Yardsticks)
}

__all__ = [
    "EXPERIMENTS", "Compare", "Denoising", "Fidelity", "Losses", "Neighbors", "Request", "Sample", "Samples", "Yardsticks",
]  # fmt: skip
