"""A small U-Net like DDPM's: residual blocks, self-attention at coarse resolutions, skips by concatenation.

Differs from DDPM's in resampling (2x2 average and nearest neighbor, no convolution), which moves compute to where the
parameters are, and in one norm affine that all three values of ``time_conditioning`` have alike.
Source: Ho et al., arXiv 2006.11239, appendix B; scale and shift from arXiv 2102.09672. Depends on layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explore.models.layers import Attention, scale_shift, time_embedding, zero_init


class GroupNorm(nn.GroupNorm):
    """torch's, with at least four channels per group, in the memory layout that is fastest on the CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(32, channels // 4), channels)

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # Below 1,024 pixels torch's channels-last bfloat16 kernel takes five times as long as the contiguous one does,
        # copies there and back included. A compiler makes kernels of its own.
        slow = h.dtype == torch.bfloat16 and h.device.type == "cpu" and h.shape[2] * h.shape[3] < 1024
        if not slow or torch.compiler.is_compiling():
            return super().forward(h)
        return super().forward(h.contiguous()).contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """norm, SiLU, 3x3; norm, time's scale and shift, SiLU, 3x3; plus the (projected) input."""

    def __init__(self, inputs: int, channels: int, emb_width: int | None, dropout: float) -> None:
        super().__init__()
        self.norm1 = GroupNorm(inputs)
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding=1)
        self.norm2 = GroupNorm(channels)
        self.time = scale_shift(emb_width, channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.skip = nn.Identity() if inputs == channels else nn.Conv2d(inputs, channels, 1)

    def forward(self, h: Tensor, emb: Tensor | None) -> Tensor:
        """``h`` (B, inputs, H, W), ``emb`` (B, emb_width) or None -> (B, channels, H, W)."""
        inner = self.conv1(F.silu(self.norm1(h)))
        inner = F.silu(self.time(self.norm2(inner), emb))
        return self.skip(h) + self.conv2(self.dropout(inner))


class AttentionBlock(nn.Module):
    """Residual self-attention over all pixels."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels)
        self.attention = Attention(channels, max(1, channels // head_channels))

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        sequence = self.norm(h).flatten(2).transpose(1, 2)  # (B, H W, C)
        return h + self.attention(sequence).transpose(1, 2).unflatten(2, h.shape[2:])


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention where the resolution has it."""

    def __init__(
        self, inputs: list[int], channels: int, attends: bool, emb_width: int | None, dropout: float, head_channels: int
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(size, channels, emb_width, dropout) for size in inputs)
        self.attention = nn.ModuleList(AttentionBlock(channels, head_channels) if attends else nn.Identity() for _ in inputs)


class UNet(nn.Module):
    """U-Net over images.

    Args:
        time_conditioning: ``timestep``, ``constant`` or ``none``.
        resolution: Height and width of the images; divisible by 2 for every level after the first.
        image_channels: Channels of the images.
        channels: Channels of the finest level.
        multipliers: Channels of each level over ``channels``, finest first.
        blocks: Residual blocks a level, on the way down and on the way up.
        attention: Resolutions at which blocks are followed by self-attention.
        head_channels: Channels of one attention head.
        dropout: Share of activations dropped before each block's last convolution.

    Raises:
        ValueError: If the sizes do not fit each other.
    """

    def __init__(
        self,
        time_conditioning: str,
        resolution: int = 32,
        image_channels: int = 3,
        channels: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4),
        blocks: int = 1,
        attention: tuple[int, ...] = (8,),
        head_channels: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if resolution % 2 ** (len(multipliers) - 1):
            raise ValueError(f"resolution must be divisible by {2 ** (len(multipliers) - 1)}, got {resolution}")
        if channels < 8 or channels % 8:
            raise ValueError(f"channels must be a multiple of 8, got {channels}")
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}")
        sizes = [channels * multiplier for multiplier in multipliers]
        emb_width = None if time_conditioning == "none" else 4 * channels
        self.time_embedding = time_embedding(time_conditioning, 4 * channels)

        def level(inputs: list[int], depth: int, attends: bool | None = None) -> Level:
            attends = resolution >> depth in attention if attends is None else attends
            return Level(inputs, sizes[depth], attends, emb_width, dropout, head_channels)

        self.stem = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.down = nn.ModuleList()
        for depth, size in enumerate(sizes):
            before = sizes[max(depth - 1, 0)]
            self.down.append(level([before] + [size] * (blocks - 1), depth))
        self.mid = level([sizes[-1], sizes[-1]], len(sizes) - 1, attends=True)
        self.up = nn.ModuleList()
        for depth, size in reversed(list(enumerate(sizes))):
            before = sizes[min(depth + 1, len(sizes) - 1)]
            self.up.append(level([before + size] + [2 * size] * (blocks - 1), depth))
        self.norm = GroupNorm(channels)
        self.head = zero_init(nn.Conv2d(channels, image_channels, 3, padding=1))

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """``xt`` (B, C, H, W), ``t`` (B,) in [0, 1] -> (B, C, H, W)."""
        emb = None if self.time_embedding is None else self.time_embedding(t)
        h = self.stem(xt)
        skips = []
        for depth, level in enumerate(self.down):
            assert isinstance(level, Level)  # for the type checker: a ModuleList may hold anything
            if depth:
                h = F.avg_pool2d(h, 2)
            for block, attention in zip(level.block, level.attention):
                h = attention(block(h, emb))
                skips.append(h)
        for block, attention in zip(self.mid.block, self.mid.attention):
            h = attention(block(h, emb))
        for depth, level in enumerate(self.up):
            assert isinstance(level, Level)
            if depth:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            for block, attention in zip(level.block, level.attention):
                h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
        return self.head(F.silu(self.norm(h)))
