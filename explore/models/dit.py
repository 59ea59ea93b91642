"""A small diffusion transformer (DiT) on patches of an image, with optional convolutions at full resolution.

Source: Peebles and Xie, arXiv 2212.09748. As there, time scales, shifts and gates every block (adaLN); unlike there, the
norms keep their affines and the blocks' output layers (not the gates) start at zero, so that a network without the
time layers is the same function before training; GELU is the exact one, which CPUs compute faster than the tanh form.
The convolutions before and after the tokens follow arXiv 2106.14881 (early convolutions) and U-ViT, arXiv 2209.12152 (an
output convolution that removes patch seams). Depends on layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explore.models.layers import Attention, Modulation, time_embedding, zero_init


class AdaLN(nn.Module):
    """Scale, shift and gate for the two halves of a block, read from the time embedding."""

    def __init__(self, emb_width: int, width: int) -> None:
        super().__init__()
        self.modulation = Modulation(emb_width, width, parts=6)

    def forward(self, emb: Tensor) -> tuple[Tensor, ...]:
        """``emb`` (B, emb_width) -> scale, shift, gate, scale, shift, gate, each (B, 1, width), zero before training."""
        return tuple(part[:, None] for part in self.modulation(emb))


class NoAdaLN(nn.Module):
    """Takes the place of :class:`AdaLN` in a network without time: zero scales, shifts and gate offsets."""

    def forward(self, emb: None) -> tuple[float, ...]:
        return (0.0,) * 6


class TransformerBlock(nn.Module):
    """norm, self-attention, norm, MLP, each residual."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, emb_width: int | None, dropout: float) -> None:
        super().__init__()
        self.time = NoAdaLN() if emb_width is None else AdaLN(emb_width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        hidden = int(mlp_ratio * width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            zero_init(nn.Linear(hidden, width)),
        )

    def forward(self, h: Tensor, emb: Tensor | None) -> Tensor:
        """``h`` (B, L, width), ``emb`` (B, emb_width) or None -> (B, L, width)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.time(emb)
        h = h + (1 + gate1) * self.attention(self.norm1(h) * (1 + scale1) + shift1)
        return h + (1 + gate2) * self.mlp(self.norm2(h) * (1 + scale2) + shift2)


class DiT(nn.Module):
    """Diffusion transformer over square patches of an image.

    Args:
        time_conditioning: ``timestep``, ``constant`` or ``none``.
        resolution: Height and width of the images; a multiple of ``patch``.
        image_channels: Channels of the images.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Attention heads; divides ``width``.
        patch: Side of a patch in pixels.
        mlp_ratio: Hidden width of the MLP over ``width``.
        dropout: Share of the MLP's hidden activations dropped.
        pixel_channels: Channels of the convolutions at full resolution; 0 cuts the image itself into patches. Above 0, the
            SiLU of ``pixel_stem`` (3x3) is cut into patches, and the output is ``pixel_head(SiLU(pixel_mix(h)))`` (3x3
            each), where h concatenates the output of ``pixel_stem`` and the map put together from the tokens.

    Raises:
        ValueError: If the sizes do not fit each other.
    """

    def __init__(
        self,
        time_conditioning: str,
        resolution: int = 32,
        image_channels: int = 3,
        width: int = 192,
        depth: int = 8,
        heads: int = 6,
        patch: int = 2,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        pixel_channels: int = 0,
    ) -> None:
        super().__init__()
        if patch < 1 or resolution % patch:
            raise ValueError(f"resolution must be a multiple of patch, got {resolution} and {patch}")
        if pixel_channels < 0:
            raise ValueError(f"pixel_channels must be 0 or more, got {pixel_channels}")
        emb_width = None if time_conditioning == "none" else width
        self.patch = patch
        self.time_embedding = time_embedding(time_conditioning, width)
        patch_values = (pixel_channels or image_channels) * patch**2
        if pixel_channels:
            self.pixel_stem = nn.Conv2d(image_channels, pixel_channels, 3, padding=1)
        self.stem = nn.Linear(patch_values, width)
        self.position = LearnedPositions((resolution // patch) ** 2, width)
        self.block = nn.ModuleList(TransformerBlock(width, heads, mlp_ratio, emb_width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, patch_values)
        if pixel_channels:
            self.pixel_mix = nn.Conv2d(2 * pixel_channels, pixel_channels, 3, padding=1)
            self.pixel_head = zero_init(nn.Conv2d(pixel_channels, image_channels, 3, padding=1))
        else:
            zero_init(self.head)
        self.pixel_channels = pixel_channels

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """``xt`` (B, C, H, W), ``t`` (B,) in [0, 1] -> (B, C, H, W)."""
        if not self.pixel_channels:
            return self.tokens(xt, t)
        pixels = self.pixel_stem(xt)  # (B, pixel_channels, H, W)
        mixed = self.pixel_mix(torch.cat([pixels, self.tokens(F.silu(pixels), t)], dim=1))
        return self.pixel_head(F.silu(mixed))

    def tokens(self, image: Tensor, t: Tensor) -> Tensor:
        """``image`` (B, C, H, W) cut into patches, through the transformer and put together again -> (B, C, H, W)."""
        emb = None if self.time_embedding is None else self.time_embedding(t)
        patches = F.pixel_unshuffle(image, self.patch)  # (B, C patch^2, H / patch, W / patch)
        h = self.position(self.stem(patches.flatten(2).transpose(1, 2)))  # (B, L, width)
        for block in self.block:
            h = block(h, emb)
        out = self.head(self.norm(h)).transpose(1, 2).unflatten(2, patches.shape[2:])
        return F.pixel_shuffle(out, self.patch)


class LearnedPositions(nn.Module):
    """Adds one learned vector per token, initialized like the weights of a layer with ``width`` inputs."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length, width))

    def forward(self, h: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        return h + self.weight
