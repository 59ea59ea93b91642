"""Controls for probes: a control task, a reinitialized network, and a test of whether the output depends on t.

The control task: Hewitt and Liang, arXiv 1909.03368. Depends on activations, denoiser, seeds.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from explore.activations import inner
from explore.denoiser import Denoiser
from explore.seeds import keyed_noise


def control_values(values: Tensor, seed: int = 0) -> Tensor:
    """Targets of the control task: ``values`` (L,) permuted at random over the levels.

    If a probe scores as well on these as on the true values, it identifies single levels and does not represent their order.
    Source: Hewitt and Liang, arXiv 1909.03368.
    """
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def reinitialized(denoiser: Denoiser, seed: int = 0) -> Denoiser:
    """A reinitialized network of the same architecture: its probes show what is decodable without training.

    Every layer gets PyTorch's default initialization, including the layers that start at zero in training: with those at zero
    the blocks would be the identity, and the comparison too easy. Parameters of modules without ``reset_parameters`` are
    Gaussian with standard deviation 0.02.

    Args:
        denoiser: The trained model. It is copied, not changed.
        seed: Seed of the initialization.
    """
    network = copy.deepcopy(inner(denoiser))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in network.modules():
            reset: Any = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                for parameter in module.parameters(recurse=False):
                    parameter.normal_(std=0.02)
    return Denoiser(network, denoiser.schedule, denoiser.prediction, denoiser.shape, f"{denoiser.name}, reinitialized")


NO_T_INPUT = "no t input"  # in the place of which t a network is given, if its output does not depend on t


@torch.no_grad()
def is_conditioned(denoiser: Denoiser) -> bool:
    """Whether the network's output depends on its input t: true for a time-conditioned model, false for a time-agnostic one."""
    device = denoiser.device
    xt = keyed_noise([0], denoiser.shape).to(device)
    early, late = (denoiser.output(xt, t) for t in (0.2, 0.8))
    return not torch.equal(early, late)
