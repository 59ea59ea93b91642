"""Layers shared by the architectures: time embeddings, modulation, attention, and initialization by name.

The three values of ``time_conditioning`` differ only in what is injected here: ``timestep`` embeds t and modulates every
block, ``constant`` feeds the same layers one learned vector, ``none`` has neither embedding nor modulation. Modulation
starts at zero, so all three compute the same function before training. Depends on torch only.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

FREQUENCIES = 64  # width of the sinusoidal features of t, and of the learned vector that replaces them
STARTS_AT_ZERO = "starts_at_zero"  # attribute of layers that initialize() leaves at zero
TIME_CONDITIONINGS = ("timestep", "constant", "none")


class TimeEmbedding(nn.Module):
    """Features of t (or one learned vector in their place) through a two-layer MLP.

    Args:
        width: Size of the embedding.
        learned: Replace the sinusoidal features by one learned vector that carries no information about t.
    """

    def __init__(self, width: int, learned: bool = False) -> None:
        super().__init__()
        self.features = LearnedVector() if learned else SinusoidalFeatures()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, t: Tensor) -> Tensor:
        """``t`` (B,) in [0, 1] -> (B, width)."""
        return self.mlp(self.features(t).to(self.mlp[0].weight.dtype))


class SinusoidalFeatures(nn.Module):
    """cos and sin of 1000 t at geometric frequencies from 1 to 1e-4. Source: arXiv 1706.03762, as used by DDPM."""

    def forward(self, t: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        rates = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
        phases = 1000 * t.float()[:, None] * rates  # (B, FREQUENCIES / 2)
        return torch.cat([phases.cos(), phases.sin()], dim=1)


class LearnedVector(nn.Module):
    """One learned vector, the same for every t."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(FREQUENCIES))

    def forward(self, t: Tensor) -> Tensor:
        return self.vector.expand(len(t), -1)


def time_embedding(time_conditioning: str, width: int) -> TimeEmbedding | None:
    """The embedding that a value of ``time_conditioning`` injects; ``None`` where there is none.

    Raises:
        ValueError: For an unknown value.
    """
    if time_conditioning not in TIME_CONDITIONINGS:
        raise ValueError(f"unknown time_conditioning {time_conditioning!r}; choose from {', '.join(TIME_CONDITIONINGS)}")
    return None if time_conditioning == "none" else TimeEmbedding(width, learned=time_conditioning == "constant")


class Modulation(nn.Module):
    """``parts`` vectors of ``channels`` read from the embedding by one linear layer, zero before training."""

    def __init__(self, width: int, channels: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = zero_init(nn.Linear(width, parts * channels))

    def forward(self, emb: Tensor) -> tuple[Tensor, ...]:
        """``emb`` (B, width) -> ``parts`` tensors (B, channels)."""
        return self.linear(emb).chunk(self.parts, dim=1)


class ScaleShift(nn.Module):
    """``h * (1 + scale) + shift`` per channel, scale and shift read from the time embedding."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = Modulation(width, channels, parts=2)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """``h`` (B, C, H, W), ``emb`` (B, width) -> (B, C, H, W)."""
        scale, shift = self.modulation(emb)
        return torch.addcmul(shift[:, :, None, None], h, 1 + scale[:, :, None, None])


class Unmodulated(nn.Module):
    """Takes the place of :class:`ScaleShift` in a network without time: returns ``h``."""

    def forward(self, h: Tensor, emb: None) -> Tensor:
        return h


def scale_shift(width: int | None, channels: int) -> nn.Module:
    """:class:`ScaleShift`, or :class:`Unmodulated` where there is no embedding (``width`` is None)."""
    return Unmodulated() if width is None else ScaleShift(width, channels)


class Attention(nn.Module):
    """Multi-head self-attention over a sequence, without norm or residual; its output layer starts at zero."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"channels must be a multiple of heads, got {channels} and {heads}")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_init(nn.Linear(channels, channels))

    def forward(self, h: Tensor) -> Tensor:
        """``h`` (B, L, C) -> (B, L, C)."""
        batch, length, channels = h.shape
        q, k, v = self.qkv(h).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (B, heads, L, C/heads)
        # The fused kernel is faster everywhere but in the backward pass on CPUs, where plain matrix products are.
        if q.is_cuda or not q.requires_grad:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)  # (B, heads, L, L)
            mixed = weights @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, channels))


def zero_init(module: nn.Module) -> nn.Module:
    """Marks a layer for :func:`initialize` to start at zero."""
    setattr(module, STARTS_AT_ZERO, True)
    return module


def initialize(network: nn.Module, seed: int) -> None:
    """Draws every parameter from a generator keyed by ``seed`` and the parameter's own name.

    Parameters that members of a pair have in common therefore start identical. Linear and convolution weights are uniform with
    variance 1 / (3 fan_in) (torch's default), biases zero, norms one and zero.

    Args:
        network: Any module of this package.
        seed: 0 to 2^32 - 1.
    """
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            key = hashlib.sha256(f"{seed}:{module_name}.{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key[:4], "little"))
            with torch.no_grad():
                if isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
                    parameter.fill_(1.0 if name == "weight" else 0.0)
                elif getattr(module, STARTS_AT_ZERO, False) or name == "bias":
                    parameter.zero_()
                elif parameter.ndim > 1:
                    bound = parameter[0].numel() ** -0.5
                    parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
                else:
                    parameter.copy_(torch.empty(parameter.shape).normal_(generator=generator))


def is_time_parameter(name: str) -> bool:
    """Whether a parameter's dotted name belongs to the layers that exist only to carry time."""
    return name.startswith("time_embedding.") or ".modulation." in name


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """All parameters, and those of the same network without its time layers (the size of the ``none`` member)."""
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if not is_time_parameter(name))
