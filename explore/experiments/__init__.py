"""What a person can ask for: one request a file, and the list from which commands, endpoints and code are derived."""

from __future__ import annotations

from explore.experiments.compare import Compare
from explore.experiments.request import Request

EXPERIMENTS: dict[str, type[Request]] = {kind.verb: kind for kind in (Compare,)}

__all__ = ["EXPERIMENTS", "Compare", "Request"]
