"""Results of the study of where a model reads the noise level. Depends on probes, results, statistics."""

from __future__ import annotations

from dataclasses import dataclass

from explore.probes import NO_T_INPUT
from explore.results import Rounded, Stored
from explore.statistics import Interval


@dataclass(frozen=True)
class Textures(Stored):
    """How squares of ``patch`` pixels are sorted into ``kinds``, and the share of each if an attribution is spread evenly."""

    patch: int
    kinds: list[str]
    if_spread_evenly: float


@dataclass(frozen=True)
class Bands(Stored):
    """Frequency bands: ``edges`` in cycles per pixel, even shares, and the first band that counts as high frequency."""

    edges: list[list[float]]
    if_spread_evenly: list[float]
    high_pass_from: int


@dataclass(frozen=True)
class WhereRow(Stored):
    """Shares of |attribution| of the implied noise level at one level, with one method; all are means over images.

    Attributes:
        texture: Share per pixel by key of ``TEXTURES``; ``texture_of_image``: that of |xt| itself.
        bands: Share by frequency band; ``power``: that of the power of xt.
        high_pass: Share of the high frequencies; ``high_pass_power``: that of the power of xt.
        relative_gap: Largest relative gap of completeness; None for methods that need not be complete.
    """

    logsnr: float
    t: float
    method: str
    texture: dict[str, Interval]
    texture_of_image: dict[str, Interval]
    bands: list[Interval]
    power: list[Interval]
    high_pass: Interval
    high_pass_power: Interval
    relative_gap: float | None


@dataclass(frozen=True)
class PureReaderRow(Stored):
    """What a pure reader does with the same images: ``share`` and ``everything`` as in :class:`NormOrHighPassRow`."""

    share: dict[str, Interval]
    everything: Interval


@dataclass(frozen=True)
class NormOrHighPassRow(Stored):
    """Change of the implied noise level when xt gets the norm or a frequency range of another noise level.

    Attributes:
        logsnr, t, other_logsnr: The levels.
        norm_factor: Norm at the other level over the norm at this one.
        shift: Change by key of ``EDITS``, and for the ``whole`` other image.
        share: Change by key of ``EDITS`` over that for the whole other image.
        per_octave_of_norm: Change when the norm is doubled.
        everything: Change for the whole other image over the true difference of the levels.
        readers: By key of ``READERS``, the same of functions of the norm, high-pass power or low-pass power alone.
        conclusion: Which reader the network acts like, or ``not separable``; see :func:`explore.saliency.readers.conclude`.
        output: Of a time-agnostic network: ``share`` for the root mean square of its output, which for eps models is the
            predicted noise. An output that is linear in the image follows the norm too.
        output_change: Relative change of that root mean square for the whole other image.

    The last five are None where they were not measured.
    """

    logsnr: float
    t: float
    other_logsnr: float
    norm_factor: Interval
    shift: dict[str, Interval]
    share: dict[str, Interval]
    per_octave_of_norm: Interval
    everything: Interval | None = None
    readers: dict[str, PureReaderRow] | None = None
    conclusion: str | None = None
    output: dict[str, Interval] | None = None
    output_change: Interval | None = None


@dataclass(frozen=True)
class TwoLevelsRow(Stored):
    """Prediction at each position of a layer, for images with two noise levels.

    Attributes:
        layer, levels, grid: The layer, log SNR of the left and right half, and the numbers of rows and columns.
        error: Root mean square error over images and positions; ``whole_error``: that on images with one level.
        one_number: Error of the mean of both levels as the prediction everywhere.
        contrast: Mean difference of the halves over the true one.
        sides: Mean prediction of the left and right half; ``profile``: by column.
        error_interval: ``error`` with its interval over images; None where it was not measured.
    """

    layer: str
    levels: list[float]
    grid: list[int]
    error: float
    whole_error: float
    one_number: float
    contrast: Interval
    sides: list[float]
    profile: list[float]
    error_interval: Interval | None = None


@dataclass(frozen=True)
class ChosenBlock(Stored):
    """A block chosen on one half of the images and scored on the other, over all pairs of levels.

    Attributes:
        layer: The block with the least error on the half that chose.
        chosen: Its error on that half, too small on average.
        error, contrast: Its error and contrast on the other half.
    """

    layer: str
    chosen: float
    error: Interval
    contrast: Interval


@dataclass(frozen=True)
class TwoLevels(Stored):
    """Two noise levels in one image, read at the positions of every block that has a probe.

    The row of a block has no selection bias; the least error of all rows has. ``halves`` has none: a block is chosen on one
    half of the images and scored on the other half.

    Attributes:
        fitted_images: To how many images a probe of positions is fitted, at least; never to those that it is evaluated on.
        images: Evaluated images.
        best: The block with the least error on all evaluated images, for figures.
        rows: Every block and pair of levels.
        halves: The block chosen on the first half of the images, then that chosen on the second; None where not measured.
    """

    fitted_images: int
    images: int
    best: str
    rows: tuple[TwoLevelsRow, ...]
    halves: tuple[ChosenBlock, ...] | None = None


@dataclass(frozen=True)
class RouteRow(Stored):
    """Contributions of the ``given_t`` and of the ``image`` at one level, the share of the former, and that by block."""

    logsnr: float
    t: float
    given_t: Interval
    image: Interval
    share: Interval
    blocks: dict[str, Interval]
    relative_gap: float


@dataclass(frozen=True)
class RoutesByLevel(Stored):
    """How much of the target comes through the t input, see :class:`explore.saliency.Routes`."""

    target: str
    baseline: str
    given: str
    note: str
    rows: tuple[RouteRow, ...]


@dataclass(frozen=True)
class CheckRow(Stored):
    """Checks of one method's map at one level, see ``CHECKS``; or only ``refused``, why there is no map."""

    method: str
    logsnr: float
    images: int
    refused: str | None = None
    at: str | None = None
    steps: int | None = None
    relative_gap: float | None = None
    gradient_seen: float | None = None
    draws: int | None = None
    rank_correlation: float | None = None
    of_sizes: float | None = None
    largest: float | None = None
    passes: bool | None = None
    why: str | None = None


@dataclass(frozen=True)
class ReadingResult(Rounded):
    """Where a model reads the noise level. Intervals are over images.

    Attributes:
        model, sha256: The model and its weights.
        target, probe_target, layer, view: What is attributed, and which probe predicts it.
        images, data, seed, levels: Number and source of the images, first seed of the noise, true log SNR.
        attributed: How many of the images are in ``where`` and ``routes``, the first ones; None for all.
        steps, baseline: Of Integrated Gradients.
        given: Which t the network is given, or ``NO_T_INPUT``.
        seconds, hardware, torch: How long it took, where, and with which version.
    """

    model: str
    target: str
    probe_target: str
    layer: str
    view: str
    images: int
    seed: int
    levels: list[float]
    steps: int
    baseline: str
    given: str
    textures: Textures
    bands: Bands
    where: tuple[WhereRow, ...]
    norm_or_high_pass: tuple[NormOrHighPassRow, ...]
    two_levels: TwoLevels
    routes: RoutesByLevel
    checks: tuple[CheckRow, ...]
    attributed: int | None = None
    sha256: str | None = None
    data: str | None = None
    seconds: float | None = None
    hardware: str | None = None
    torch: str | None = None

    @property
    def conditioned(self) -> bool:
        """Whether the network uses its t input."""
        return self.given != NO_T_INPUT
