"""Comparison of both members of a pair from the same noise: frames, difference images, and export as PNG, GIF, npz, JSON.

Depends on data, denoiser, images, samplers, seeds, values, zoo.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explore.data import to_uint8
from explore.denoiser import Denoiser
from explore.images import channels_last, grid, png, side_by_side
from explore.samplers import MAX_STEPS, SAMPLERS, Step, check_options, evaluations
from explore.seeds import check_seeds, keyed_noise
from explore.values import choose, whole_number
from explore.zoo import TITLES

# Frames kept of a long run, evenly spread: 64 images of 32 px in 128 frames are 100 MB for both members.
MAX_FRAMES = 128
GIF_FRAMES = 60
GAINS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of difference images; above 8, rounding to gray levels would be visible
MAX_IMAGES = 64  # images recorded and shown at once


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
        titles: Display names of the models.
        seeds: One for each image.
        sampler: Key of ``SAMPLERS``.
        steps: Steps of the sampler.
        options: The sampler's options, such as ``eta``.
        evaluations: Number of calls of each network.
        differences: Per step: index, t, difference of xt and of x0_hat.
        frames: The recorded frames, at most ``MAX_FRAMES``; the first and the last step are always among them.
        samples: Finished samples, not clamped, float32 (2, N, 3, H, W); None before the last step.
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
        """Adds a frame's differences, and the frame itself if ``keep``."""
        self.differences.append({"index": frame.index, "t": frame.t, "xt": frame.difference_xt, "x0_hat": frame.difference_x0})
        if keep:
            self.frames.append(frame)

    def merge(self, other: Comparison) -> Comparison:
        """Adds a run with the same settings and other seeds: differences become means over all images; frames do not change."""
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
        """Returns the settings and the mean absolute differences, for images in [-1, 1]."""
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
            xt=channels_last(torch.stack([frame.xt for frame in self.frames], dim=1)),
            x0_hat=channels_last(torch.stack([frame.x0_hat for frame in self.frames], dim=1)),
            images=channels_last(self.frames[-1].xt),
        )
        return buffer.getvalue()

    def to_png(self, colors: Sequence[str] = ("black", "black")) -> bytes:
        """Returns the last recorded states of both members side by side, with titles in ``colors``."""
        last = self.frames[-1]
        rows = [[grid(last.xt[0]), grid(last.xt[1])]]
        return png(side_by_side(self.titles, rows, caption=self._caption(last), colors=colors))

    def to_gif(self, colors: Sequence[str] = ("black", "black")) -> bytes:
        """Returns an animation of states (upper row) and estimates (lower row); the last frame stays for two seconds."""
        picked = evenly(len(self.frames), GIF_FRAMES)
        pictures = []
        for frame in (self.frames[i] for i in picked):
            scale = 2 if len(self.seeds) <= 36 else 1
            rows = [[grid(part[0], scale), grid(part[1], scale)] for part in (frame.xt, frame.x0_hat)]
            caption = self._caption(frame)
            pictures.append(side_by_side(self.titles, rows, caption, rows=("xt", "x0_hat"), colors=colors))
        buffer = io.BytesIO()
        durations = [max(40, 4000 // len(pictures))] * (len(pictures) - 1) + [2000]
        drawn = [_in_256_colors(picture) for picture in pictures]
        drawn[0].save(buffer, format="GIF", save_all=True, append_images=drawn[1:], duration=durations, loop=0, optimize=False)
        return buffer.getvalue()

    def _caption(self, frame: Frame) -> str:
        return f"{self.sampler}, step {frame.index} of {self.steps}, t = {frame.t:.3f}"


def _in_256_colors(picture: Image.Image) -> Image.Image:
    """``picture`` with a palette of its own, found from every fourth pixel each way: five times faster than from all."""
    small = picture.resize((picture.width // 4, picture.height // 4), Image.Resampling.NEAREST)
    palette = small.quantize(256, dither=Image.Dither.NONE)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


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
    """Samples with both members from the same noise, step by step.

    Args:
        denoisers: Two models with images of one shape and one schedule.
        seeds: N seeds, one for each image. They determine the initial noise and the noise of stochastic steps.
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        pair: Name of the pair, stored in the record.
        titles: Display names of the models.
        **options: The sampler's options (``eta``, ``clamp``) and ``start``.

    Yields:
        The Frame of each step, and the Comparison so far (the same object at every step).

    Raises:
        ValueError: For a setting out of range, or an option that the sampler does not support.
    """
    check_members("compare", denoisers)
    seeds = check_seeds(seeds)
    if len(seeds) < 1:
        raise ValueError("count must be at least 1")
    check_options(sampler, options)
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    noise = keyed_noise(seeds, denoisers[0].shape)
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
    kept = set(evenly(steps + 1, MAX_FRAMES))
    for both in zip(*runs):
        frame = frame_of(both)
        record.add(frame, keep=frame.index in kept)
        if frame.index == steps:
            record.samples = torch.stack([step.xt for step in both])
        yield frame, record


def check_members(what: str, denoisers: Sequence[Denoiser]) -> None:
    if len(denoisers) != 2 or denoisers[0].shape != denoisers[1].shape:
        raise ValueError(f"{what} takes two models with images of one shape")
    if denoisers[0].schedule is not denoisers[1].schedule:
        raise ValueError(f"{what} takes two models of one schedule: their steps would be at different noise levels")


def frame_of(steps: Sequence[Step]) -> Frame:
    """Both members' Steps at one step as a Frame."""
    conditioned, agnostic = steps
    return Frame(
        index=conditioned.index,
        t=conditioned.t,
        xt=to_uint8(torch.stack([conditioned.xt, agnostic.xt])),
        x0_hat=to_uint8(torch.stack([conditioned.x0_hat, agnostic.x0_hat])),
        difference_xt=(conditioned.xt - agnostic.xt).abs().mean().item(),
        difference_x0=(conditioned.x0_hat - agnostic.x0_hat).abs().mean().item(),
    )


def difference_image(frame: Frame, of: str = "xt", gain: float = 0.5) -> Tensor:
    """Returns second minus first member (of a shipped pair: time-agnostic minus conditioned), uint8 (N, 3, H, W) around gray.

    At ``gain`` 0.5 every difference fits into the range; at higher gains, larger differences are clipped.
    """
    choose("picture", of, ("xt", "x0_hat"))
    images = getattr(frame, of).float()
    return ((images[1] - images[0]) * gain + 128).floor().clamp(0, 255).to(torch.uint8)


def difference_gain(frame: Frame, of: str = "xt") -> float:
    """Returns the largest of ``GAINS`` at which 99% of the values of :func:`difference_image` are not clipped."""
    choose("picture", of, ("xt", "x0_hat"))
    images = getattr(frame, of).int()
    counts = torch.bincount((images[1] - images[0]).abs().flatten(), minlength=256)
    large = int((counts.cumsum(0) >= 0.99 * counts.sum()).nonzero()[0])  # the 99th percentile, in gray levels
    return max(gain for gain in GAINS if gain == GAINS[0] or gain * large <= 127)


def evenly(count: int, limit: int) -> list[int]:
    """Returns at most ``limit`` numbers of ``range(count)``, evenly spaced, with the first and the last."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})
