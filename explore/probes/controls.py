"""Control tasks and networks that learned nothing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from explore.activations import inner
from explore.denoiser import Denoiser
from explore.seeds import keyed_noise


def control_values(values: Tensor, seed: int = 0) -> Tensor:
    """The control task: every level keeps its rows and gets the value of another level, at random.

    A probe that scores on it as well as on the true values reads what identifies a level, not its order.
    """
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def redrawn(denoiser: Denoiser, seed: int = 0) -> Denoiser:
    """The same architecture with parameters drawn anew: what is readable without any learning.

    Every layer is initialised as PyTorch initialises it, also those that training begins with zeros, as a network whose
    blocks add nothing would be too weak an opponent; parameters without an initialiser of their own are Gaussian.
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
    return Denoiser(network, denoiser.schedule, denoiser.prediction, denoiser.shape, f"{denoiser.name}, drawn anew")


@torch.no_grad()
def hears(denoiser: Denoiser) -> bool:
    """Whether the network's output depends on the t it is given."""
    device = denoiser.device
    xt = keyed_noise([0], denoiser.shape).to(device)
    early, late = (denoiser.output(xt, t) for t in (0.2, 0.8))
    return not torch.equal(early, late)
