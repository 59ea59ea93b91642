"""The stream of Steps, recorded: two members of a pair from the same noise, and pictures of what they did.

``compare`` runs both members in step; ``Comparison`` is the record, with the difference between the members at every
step, and knows how to save itself as PNG, GIF, npz and JSON. Depends on data, denoiser, samplers, zoo.
"""

from __future__ import annotations

import io
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from explore import zoo
from explore.data import to_uint8
from explore.denoiser import Denoiser
from explore.samplers import SAMPLERS, Step, check_options, evaluations

# Frames kept of a long run, evenly spread: 64 images of 32 px in 128 frames are 100 MB for both members.
MAX_FRAMES = 128
GIF_FRAMES = 60
GAINS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of difference images; beyond 8, rounding to grey levels would show
MAX_IMAGES = 64  # images recorded and shown at once

TITLES = {"timestep": "told the time", "constant": "told a constant", "none": "never told the time"}


@dataclass(frozen=True)
class Frame:
    """Both members at one step.

    Attributes:
        index: 0 to ``steps``.
        t: Time of the states.
        xt: uint8 (2, N, 3, H, W), states clamped to [-1, 1] for display.
        x0_hat: uint8 (2, N, 3, H, W), the estimates of the clean image.
        difference_xt: Mean absolute difference between the members' states, on the scale of [-1, 1].
        difference_x0: The same for the estimates.
    """

    index: int
    t: float
    xt: Tensor
    x0_hat: Tensor
    difference_xt: float
    difference_x0: float


@dataclass
class Comparison:
    """A recorded run of two members from the same noise.

    Attributes:
        pair: Name of the pair.
        members: Names of the two models.
        titles: What each is, in words.
        seeds: One an image.
        sampler: Key of ``SAMPLERS``.
        steps: Steps of the sampler.
        options: The sampler's options, such as ``eta``.
        evaluations: Calls of each network.
        differences: Per step: index, t, difference of xt and of x0_hat.
        frames: The recorded frames, at most ``MAX_FRAMES``; the first and the last step are always among them.
        samples: Finished samples as the samplers gave them, float32 (2, N, 3, H, W).
    """

    pair: str
    members: list[str]
    titles: list[str]
    seeds: list[int]
    sampler: str
    steps: int
    options: dict[str, Any]
    evaluations: int
    differences: list[dict[str, float]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    samples: Tensor | None = None

    def add(self, frame: Frame, keep: bool) -> None:
        """Takes a frame's figures, and the frame itself if ``keep``."""
        self.differences.append({"index": frame.index, "t": frame.t, "xt": frame.difference_xt, "x0_hat": frame.difference_x0})
        if keep:
            self.frames.append(frame)

    def merge(self, other: Comparison) -> Comparison:
        """Takes in a run of the same settings on other seeds: figures are over all images, frames stay the first run's."""
        assert self.samples is not None and other.samples is not None  # both are finished
        share = len(other.seeds) / (len(self.seeds) + len(other.seeds))
        for row, added in zip(self.differences, other.differences):
            for part in ("xt", "x0_hat"):
                row[part] += share * (added[part] - row[part])
        self.samples = torch.cat([self.samples, other.samples], dim=1)
        self.seeds = self.seeds + other.seeds
        return self

    @property
    def spread(self) -> list[float]:
        """Standard deviation of each member's finished samples over all pixels; about 0.5 for photographs in [-1, 1]."""
        assert self.samples is not None  # the run is finished
        return [part.std().item() for part in self.samples]

    def to_json(self) -> dict[str, Any]:
        """Settings and differences; differences are mean absolute, on the scale of [-1, 1]."""
        return {
            "pair": self.pair,
            "members": self.members,
            "sampler": self.sampler,
            "steps": self.steps,
            "options": self.options,
            "evaluations": self.evaluations,
            "seeds": self.seeds,
            "standard_deviation": self.spread if self.samples is not None else None,
            "difference": "mean absolute difference between the members, images in [-1, 1]",
            "per_step": self.differences,
        }

    def to_npz(self) -> bytes:
        """``t``, ``index`` (F,); ``xt``, ``x0_hat`` uint8 (2, F, N, H, W, 3); ``images`` uint8 (2, N, H, W, 3); ``seeds``."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            members=np.array(self.members),
            seeds=np.array(self.seeds, dtype=np.uint32),
            index=np.array([frame.index for frame in self.frames]),
            t=np.array([frame.t for frame in self.frames]),
            xt=_channels_last(torch.stack([frame.xt for frame in self.frames], dim=1)),
            x0_hat=_channels_last(torch.stack([frame.x0_hat for frame in self.frames], dim=1)),
            images=_channels_last(self.frames[-1].xt),
        )
        return buffer.getvalue()

    def to_png(self, colours: Sequence[str] = ("black", "black")) -> bytes:
        """The last recorded states of both members (the samples, if finished) side by side, titles in ``colours``."""
        last = self.frames[-1]
        rows = [[grid(last.xt[0]), grid(last.xt[1])]]
        return png(_side_by_side(self.titles, rows, caption=self._caption(last), colours=colours))

    def to_gif(self, colours: Sequence[str] = ("black", "black")) -> bytes:
        """Both members' states (upper row) and estimates (lower row) over time; the last frame stays for two seconds."""
        picked = _evenly(len(self.frames), GIF_FRAMES)
        pictures = []
        for frame in (self.frames[i] for i in picked):
            scale = 2 if len(self.seeds) <= 36 else 1
            rows = [[grid(part[0], scale), grid(part[1], scale)] for part in (frame.xt, frame.x0_hat)]
            caption = self._caption(frame)
            pictures.append(_side_by_side(self.titles, rows, caption, rows=("xt", "x0_hat"), colours=colours))
        buffer = io.BytesIO()
        durations = [max(40, 4000 // len(pictures))] * (len(pictures) - 1) + [2000]
        palettes = [picture.quantize(256, dither=Image.Dither.NONE) for picture in pictures]
        palettes[0].save(
            buffer, format="GIF", save_all=True, append_images=palettes[1:], duration=durations, loop=0, optimize=False
        )
        return buffer.getvalue()

    def _caption(self, frame: Frame) -> str:
        return f"{self.sampler}, step {frame.index} of {self.steps}, t = {frame.t:.3f}"


def members_of(pair: str, root: Any = None) -> list[str]:
    """The two models of a pair that are compared: the one told the time and the one never told, or else the first two.

    Raises:
        ValueError: For an unknown pair, or one with a single member.
    """
    pairs = zoo.pairs(root)
    names = pairs[zoo.choose("pair", pair, pairs)]
    by_conditioning = {zoo.info(name, root).time_conditioning: name for name in names}
    if {"timestep", "none"} <= set(by_conditioning):
        return [by_conditioning["timestep"], by_conditioning["none"]]
    if len(names) < 2:
        raise ValueError(f"pair {pair!r} has one member only: {names[0]}")
    return names[:2]


def default_options(denoiser: Denoiser | zoo.ModelInfo) -> dict[str, Any]:
    """Sampler settings that suit a model: Heun on the linear path, else the paper's DDIM with eta 1, clamped."""
    if denoiser.prediction == "velocity":
        return {"sampler": "heun", "steps": 25}
    return {"sampler": "ddim", "steps": 50, "eta": 1.0, "clamp": True}


def compare(
    denoisers: Sequence[Denoiser],
    seeds: Sequence[int],
    sampler: str = "heun",
    steps: int = 25,
    *,
    pair: str = "",
    titles: Sequence[str] = (TITLES["timestep"], TITLES["none"]),
    **options: Any,
) -> Generator[tuple[Frame, Comparison], None, None]:
    """Samples with two members from the same noise, step by step.

    Args:
        denoisers: Two models with images of one shape and one schedule.
        seeds: N seeds, one an image; they fix the starting noise and the noise of every stochastic step.
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        pair: Recorded.
        titles: What each member is, in words.
        **options: The sampler's options (``eta``, ``clamp``) and ``start``.

    Yields:
        Each step's Frame and the Comparison so far (one object that grows).

    Raises:
        ValueError: For a setting that is out of range or that the sampler does not have.
    """
    if len(denoisers) != 2 or denoisers[0].shape != denoisers[1].shape:
        raise ValueError("compare takes two models with images of one shape")
    if denoisers[0].schedule is not denoisers[1].schedule:
        raise ValueError("compare takes two models of one schedule: their steps would be at different noise levels")
    if len(seeds) < 1:
        raise ValueError("count must be at least 1")
    check_options(sampler, options)
    noise = zoo.noise(seeds, denoisers[0].shape)
    record = Comparison(
        pair=pair,
        members=[denoiser.name for denoiser in denoisers],
        titles=list(titles),
        seeds=list(seeds),
        sampler=sampler,
        steps=steps,
        options=options,
        evaluations=evaluations(sampler, steps),
    )
    runs = [SAMPLERS[sampler](denoiser, noise, steps, seeds=seeds, **options) for denoiser in denoisers]
    kept = set(_evenly(steps + 1, MAX_FRAMES)) if isinstance(steps, int) else set()
    for both in zip(*runs):
        frame = _frame(both)
        record.add(frame, keep=frame.index in kept)
        if frame.index == steps:
            record.samples = torch.stack([step.xt for step in both])
        yield frame, record


def _frame(steps: Sequence[Step]) -> Frame:
    told, untold = steps
    return Frame(
        index=told.index,
        t=told.t,
        xt=to_uint8(torch.stack([told.xt, untold.xt])),
        x0_hat=to_uint8(torch.stack([told.x0_hat, untold.x0_hat])),
        difference_xt=(told.xt - untold.xt).abs().mean().item(),
        difference_x0=(told.x0_hat - untold.x0_hat).abs().mean().item(),
    )


def difference_image(frame: Frame, of: str = "xt", gain: float = 0.5) -> Tensor:
    """Signed difference between the members, untold minus told, as uint8 (N, 3, H, W) around mid-grey.

    At ``gain`` 0.5 every difference fits; at a higher one what does not fit is cut off.
    """
    zoo.choose("picture", of, ("xt", "x0_hat"))
    images = getattr(frame, of).float()
    return ((images[1] - images[0]) * gain + 128).floor().clamp(0, 255).to(torch.uint8)


def difference_gain(frame: Frame, of: str = "xt") -> float:
    """The largest of ``GAINS`` at which 99 of 100 values of :func:`difference_image` fit."""
    zoo.choose("picture", of, ("xt", "x0_hat"))
    images = getattr(frame, of).int()
    counts = torch.bincount((images[1] - images[0]).abs().flatten(), minlength=256)
    large = int((counts.cumsum(0) >= 0.99 * counts.sum()).nonzero()[0])  # the 99th percentile, in grey levels
    return max(gain for gain in GAINS if gain == GAINS[0] or gain * large <= 127)


def grid(images: Tensor, scale: int = 1, columns: int | None = None) -> Image.Image:
    """A nearly square grid of ``images`` uint8 (N, 3, H, W), one pixel apart, enlarged ``scale`` times without smoothing."""
    count, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, dtype=np.uint8)
    for i, image in enumerate(_channels_last(images)):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image
    picture = Image.fromarray(canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _side_by_side(
    titles: Sequence[str],
    blocks: list[list[Image.Image]],
    caption: str,
    rows: Sequence[str] = ("",),
    colours: Sequence[str] = ("black", "black"),
) -> Image.Image:
    """Blocks of pictures under column titles in ``colours``, with row names at the left and a caption below."""
    font = ImageFont.load_default(size=14)
    scale = max(1, round(256 / blocks[0][0].width))
    blocks = [
        [block.resize((block.width * scale, block.height * scale), Image.Resampling.NEAREST) for block in row] for row in blocks
    ]
    gap, head, left = 12, 26, 8 if rows == ("",) else 64
    width, height = blocks[0][0].size
    canvas = Image.new("RGB", (left + 2 * width + gap + 8, head + len(blocks) * (height + gap) + 20), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (title, colour) in enumerate(zip(titles, colours)):
        draw.text((left + column * (width + gap), 5), title, fill=colour, font=font)
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
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _channels_last(images: Tensor) -> np.ndarray:
    return images.movedim(-3, -1).contiguous().numpy()


def _evenly(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``range(count)``, evenly spread, first and last included."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})
