"""The architectures, by name. To add one: one file here and one line in ``ARCHITECTURES``."""

from __future__ import annotations

from typing import Any

from torch import nn

from explore.models.dit import DiT
from explore.models.layers import TIME_CONDITIONINGS, count_parameters, initialize
from explore.models.unet import UNet

ARCHITECTURES: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT}


def build(architecture: str, time_conditioning: str, network: dict[str, Any], seed: int = 0) -> nn.Module:
    """Builds a network and initializes it by parameter name, so that members of a pair share their initial values.

    Args:
        architecture: A key of ``ARCHITECTURES``.
        time_conditioning: ``timestep``, ``constant`` or ``none``.
        network: The architecture's own keyword arguments.
        seed: Seed of the initialization, 0 to 2^32 - 1.

    Raises:
        ValueError: For an unknown architecture or arguments that the architecture does not take.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; choose from {', '.join(ARCHITECTURES)}")
    try:
        module = ARCHITECTURES[architecture](time_conditioning, **network)
    except TypeError as error:
        raise ValueError(f"architecture {architecture!r}: {error}") from None
    initialize(module, seed)
    return module


__all__ = ["ARCHITECTURES", "TIME_CONDITIONINGS", "build", "count_parameters"]
