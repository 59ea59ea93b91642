"""What goes on inside a network: named hook points, ``capture()``, and how one block's activation is summed up.

A hook point is the dotted module name of a block. Nothing here knows an architecture: blocks are found by how networks are
built, so a person's own module has hook points too. Depends on torch only.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HookPoint:
    """A place in a network whose output can be captured.

    Attributes:
        name: Dotted module name.
        kind: Class of the module.
        shape: Of its output for one image: (C, H, W), or (L, C) for a sequence of tokens.
    """

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.shape[0] if len(self.shape) == 3 else self.shape[-1]


def hook_points(network: nn.Module, shape: Sequence[int] | None = None) -> dict[str, HookPoint]:
    """The hook points of a network, in the order in which one evaluation passes them.

    These are the innermost elements of ``nn.ModuleList`` that have at least two layers with parameters (a residual block,
    an attention block, a transformer block), and the layers that are the network's own children (``stem``, ``norm``,
    ``head``); of both only those that are called and give one tensor of images (B, C, H, W) or tokens (B, L, C).

    Args:
        network: Module called as ``network(xt, t)``, or a Denoiser.
        shape: Shape (C, H, W) of one image; may be left out for a Denoiser, which knows it.

    Returns:
        Name -> HookPoint.

    Raises:
        ValueError: If the shape is not known.
    """
    shape = shape or getattr(network, "shape", None)
    if shape is None:
        raise ValueError("shape (C, H, W) of one image is needed to find the hook points of a network that is not a Denoiser")
    network = inner(network)
    modules = dict(network.named_modules())
    candidates = {name for name, module in network.named_children() if not _holds_list(module) and _layers(module) == 1}
    blocks = {
        f"{name}.{number}"
        for name, module in modules.items()
        if isinstance(module, nn.ModuleList)
        for number, element in enumerate(module)
        if _layers(element) >= 2
    }
    candidates |= {name for name in blocks if not any(other.startswith(f"{name}.") for other in blocks)}
    found: dict[str, HookPoint] = {}

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (3, 4):
            found[name] = HookPoint(name, type(module).__name__, tuple(output.shape[1:]))

    parameter = next(network.parameters(), torch.zeros(()))
    with _hooks(network, {name: partial(note, name) for name in candidates}), torch.no_grad():
        xt = torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype)
        network(xt, torch.full((1,), 0.5, device=parameter.device))
    return found


def inner(network: nn.Module) -> nn.Module:
    """The network of a Denoiser, or ``network`` itself."""
    return network.network if hasattr(network, "estimate") and isinstance(network.network, nn.Module) else network


def _layers(module: nn.Module) -> int:
    """Modules inside (or itself) that have parameters of their own."""
    return sum(any(True for _ in part.parameters(recurse=False)) for part in module.modules())


def _holds_list(module: nn.Module) -> bool:
    return any(isinstance(part, nn.ModuleList) for part in module.modules())


@contextlib.contextmanager
def _hooks(network: nn.Module, hooks: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Forward hooks by module name; gone after the block, also after an exception."""
    modules = {name: module for name, module in network.named_modules() if name}
    for name in hooks:
        if name not in modules:  # any module may be named, too many to list
            near = difflib.get_close_matches(name, modules, n=3, cutoff=0.6)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"its parts are {', '.join(dict(network.named_children()))}"
            )
            raise ValueError(f"unknown hook point {name!r}; {hint}")
    handles = []
    try:
        for name, hook in hooks.items():
            handles.append(modules[name].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def capture(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Captures the outputs of modules: ``with capture(network, names) as cache: network(xt, t)``.

    Args:
        network: Any module, or a Denoiser.
        names: Dotted names of its modules.

    Yields:
        A dictionary that after each evaluation holds the last output of every module, without gradients and not copied.

    Raises:
        ValueError: For an unknown name, with near matches; before anything runs.
    """
    cache: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        cache[name] = output.detach()

    with _hooks(inner(network), {name: partial(keep, name) for name in names}):
        yield cache


# Views: one block's activation (B, C, H, W) or (B, L, C) -> features (B, D), or (B P, D) for ``position``. -----------------


def mean(activation: Tensor) -> Tensor:
    """Average over positions: (B, C)."""
    return activation.mean((2, 3)) if activation.ndim == 4 else activation.mean(1)


def mean_std(activation: Tensor) -> Tensor:
    """Average and standard deviation over positions: (B, 2 C)."""
    dims = (2, 3) if activation.ndim == 4 else (1,)
    std, average = torch.std_mean(activation.float(), dims)
    return torch.cat([average, std], dim=1)


def position(activation: Tensor) -> Tensor:
    """Every position for itself: (B P, C), the positions of one image together."""
    rows = activation.flatten(2).transpose(1, 2) if activation.ndim == 4 else activation  # (B, P, C)
    return rows.flatten(0, 1)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "mean_std": mean_std, "position": position}
