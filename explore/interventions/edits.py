"""Edits: changes of a layer's output along a direction, while a network is evaluated.

Depends on activations, denoiser, values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from explore.activations import hooks, inner
from explore.denoiser import Denoiser
from explore.values import real_numbers

Edit = Callable[[Tensor], Tensor]  # an activation (B, C, H, W) or (B, L, C) -> the same, changed


def _channels(vectors: Tensor, activation: Tensor) -> Tensor:
    """``vectors`` (C,) or (K, C), shaped to broadcast with an activation of K blocks of rows, one for each vector."""
    vectors = torch.atleast_2d(vectors).to(activation)
    vectors = vectors.repeat_interleave(len(activation) // len(vectors), 0) if len(vectors) > 1 else vectors
    return vectors[:, :, None, None] if activation.ndim == 4 else vectors[:, None]


def _component(activation: Tensor, unit: Tensor) -> Tensor:
    """Component of every position along ``unit`` (C,) or (K, C), as a map (B, 1, H, W) or (B, L, 1)."""
    return (activation * _channels(unit, activation)).sum(1 if activation.ndim == 4 else -1, keepdim=True)


# Each takes one direction (C,), or K of them (K, C): then the batch is K blocks of rows, and each block gets its own edit.


def steer(vector: Tensor) -> Edit:
    """An edit that adds ``vector`` at every position."""
    return lambda activation: activation + _channels(vector, activation)


def ablate(vector: Tensor, center: float | Tensor = 0.0) -> Edit:
    """An edit that replaces the component of every position along ``vector`` by ``center``, a number or one for each (K,)."""
    unit = vector / vector.norm(dim=-1, keepdim=True)
    centers = torch.as_tensor(center).reshape(-1, 1)

    def edit(activation: Tensor) -> Tensor:
        return activation + (_channels(centers, activation) - _component(activation, unit)) * _channels(unit, activation)

    return edit


def patch(vector: Tensor, other: Tensor) -> Edit:
    """An edit that replaces the component along ``vector`` by that of the activation ``other``, at every position."""
    unit = vector / vector.norm(dim=-1, keepdim=True)
    return lambda activation: activation + _component(other - activation, unit) * _channels(unit, activation)


@contextlib.contextmanager
def edited(denoiser: Denoiser, layer: str, edit: Edit, during: tuple[float, float] = (0.0, 1.0)) -> Iterator[None]:
    """Changes the output of a layer inside the block, in everything that evaluates the network.

    Args:
        denoiser: The model. Its network gets the hooks, so wrappers of the denoiser are edited too.
        layer: A hook point, or any other module. If it returns several values, the first tensor is changed.
        edit: The change of its output.
        during: Range (low, high) of the t that the network is given, ends included, in which the edit applies.

    Raises:
        ValueError: If the layer is unknown, or the range is not within [0, 1].
    """
    low, high = real_numbers("each end of during", during)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"during must be a range (low, high) of t within [0, 1], got {during}")
    network = inner(denoiser)
    now: list[Tensor] = []

    def note(module: nn.Module, inputs: Any) -> None:
        now[:] = [inputs[1].clone()]  # the network may change its input in place

    def change(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        t = now[0].flatten()
        if not ((t >= low) & (t <= high)).any():
            return output
        inside = ((t >= low) & (t <= high)).reshape(-1, *[1] * (output.ndim - 1))
        return torch.where(inside, edit(output), output).to(output.dtype)

    handle = network.register_forward_pre_hook(note)
    try:
        with hooks(network, {layer: change}):
            yield
    finally:
        handle.remove()
