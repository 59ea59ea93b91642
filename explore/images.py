"""Pictures: grids of images, panels with titles and captions, PNG bytes. Depends on nothing of this project."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


def grid(images: Tensor, scale: int = 1, columns: int | None = None) -> Image.Image:
    """A nearly square grid of ``images`` uint8 (N, 3, H, W), one pixel apart, enlarged ``scale`` times without smoothing."""
    count, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, dtype=np.uint8)
    for i, image in enumerate(channels_last(images)):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    picture = Image.fromarray(canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def side_by_side(
    titles: Sequence[str],
    blocks: list[list[Image.Image]],
    caption: str,
    rows: Sequence[str] = ("",),
    colors: Sequence[str] = ("black", "black"),
) -> Image.Image:
    """Blocks of pictures under column titles in ``colors``, with row names at the left and a caption below."""
    font = ImageFont.load_default(size=14)
    scale = max(1, round(256 / blocks[0][0].width))
    blocks = [
        [block.resize((block.width * scale, block.height * scale), Image.Resampling.NEAREST) for block in row] for row in blocks
    ]
    gap, head, left = 12, 26, 8 if rows == ("",) else 64
    width, height = blocks[0][0].size
    canvas = Image.new("RGB", (left + 2 * width + gap + 8, head + len(blocks) * (height + gap) + 20), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, color) in enumerate(zip(titles, colors)):
        draw.text((left + column * (width + gap), 5), title, fill=color, font=font)
    for number, (name, row) in enumerate(zip(rows, blocks)):
        top = head + number * (height + gap)
        draw.text((8, top + height // 2 - 8), name, fill="black", font=font)
        for column, block in enumerate(row):
            canvas.paste(block, (left + column * (width + gap), top))
    draw.text((left, canvas.height - 24), caption, fill="black", font=font)
    return canvas


def png(picture: Image.Image) -> bytes:
    """``picture`` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def channels_last(images: Tensor) -> np.ndarray:
    """(..., C, H, W) as a contiguous array (..., H, W, C)."""
    return images.movedim(-3, -1).contiguous().numpy()
