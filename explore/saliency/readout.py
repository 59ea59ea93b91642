"""Where a model reads the noise level: texture, frequency, norm or high-pass content, and two noise levels in one image.

Depends on activations, attribution, data, frequency, probes, readers and results of this package, routes, targets.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explore.activations import (
    FOLDS,
    HookPoint,
    hook_points,
    hooks,
    independent_times,
    inner,
    level_times,
    statistics,
)  # fmt: skip
from explore.activations import VIEWS as ACTIVATION_VIEWS
from explore.data import add_noise, to_float
from explore.denoiser import Denoiser
from explore.frequency import HIGH_PASS, by_ring, high_pass, ring_edges, rings
from explore.probes import NO_T_INPUT, ProbeSet, RidgeProbe, fixed_t, is_conditioned, target_values
from explore.saliency.attribution import attribute
from explore.saliency.maps import shares
from explore.saliency.methods import SALIENCY, grid, offered
from explore.saliency.readers import EDITS, READERS, conclude, edits, fit_readers, read
from explore.saliency.results import (
    Bands,
    CheckRow,
    ChosenBlock,
    NormOrHighPassRow,
    PureReaderRow,
    ReadingResult,
    RouteRow,
    RoutesByLevel,
    Textures,
    TwoLevels,
    TwoLevelsRow,
    WhereRow,
)  # fmt: skip
from explore.saliency.routes import routes
from explore.saliency.targets import EVALUATED, Subject
from explore.seeds import MAX_SEED, keyed_noise
from explore.statistics import Interval, image_mean, image_ratio, image_rms, poisson_weights
from explore.values import choose

READING_LEVELS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
READING_METHODS = ("saliency", "integrated-gradients")
READING_STEPS = 32  # with 16, relative gaps reached 18 % on shipped models
PATCH = 4  # side in pixels of the squares that are sorted by texture
TEXTURES = ("flat", "middle", "textured")  # thirds of an image's squares by the clean image's standard deviation in them
SHIFTS = (-2.0, 2.0)  # difference of the other noise level in logsnr
OCTAVE = 0.25  # of the norm, up and down: the slope is over half an octave
SPLITS = ((-4.0, 0.0), (0.0, 4.0), (-2.0, 2.0))  # pairs of logsnr in the halves of one image
CHECKED_IMAGES, CHECKED_LEVELS = 2, (-2.0, 2.0)
NETWORK, OUTPUT = "network", "output"


def textures(x0: Tensor) -> Tensor:
    """Texture class of every pixel: 0 flat, 1 middle, 2 textured; int64 (B, H, W).

    The squares of side ``PATCH`` of one image are ranked by the clean image's standard deviation in them.
    """
    height, width = (side - side % PATCH for side in x0.shape[-2:])
    squares = nn.functional.unfold(x0[..., :height, :width], PATCH, stride=PATCH)  # (B, C PATCH^2, S)
    spread = squares.unflatten(1, (x0.shape[1], -1)).var(2).mean(1)  # (B, S)
    third = spread.argsort(1).argsort(1) * len(TEXTURES) // spread.shape[1]
    coarse = third.unflatten(1, (height // PATCH, width // PATCH))
    fine = coarse.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return nn.functional.pad(fine.double(), (0, x0.shape[-1] - width, 0, x0.shape[-2] - height), mode="replicate").long()


def texture_shares(size: Tensor, third: Tensor) -> Tensor:
    """Share of a map (B, H, W) >= 0 per pixel in each of ``TEXTURES``, (B, 3)."""
    member = nn.functional.one_hot(third, len(TEXTURES)).double()  # (B, H, W, 3)
    mean = (size.double()[..., None] * member).sum((1, 2)) / member.sum((1, 2)).clamp_min(1)
    return shares(mean)


def _estimate(values: Tensor, weights: Tensor) -> Interval:
    """Mean over images (N,) with its interval; ``weights`` (N, 1 + draws)."""
    return image_mean(values, weights, skip_nan=True)


def _estimates(values: Tensor, weights: Tensor) -> list[Interval]:
    """:func:`_estimate` of each column of (N, K)."""
    return [_estimate(column, weights) for column in values.T]


class _Bench:
    """Held-out images for one model, which is given a t independent of the true one."""

    def __init__(
        self, denoiser: Denoiser, probe_set: ProbeSet, images: Tensor, levels: Sequence[float], seed: int, batch: int
    ) -> None:
        self.denoiser, self.probe_set, self.seed, self.batch = denoiser, probe_set, seed, batch
        self.x0 = to_float(images) if images.dtype == torch.uint8 else images.float()
        self.levels, self.times = list(levels), level_times(denoiser.schedule, levels).tolist()
        self.is_conditioned = is_conditioned(denoiser)
        self.weights = poisson_weights(range(len(images)))  # (N, 1 + draws)

    def batches(self) -> list[Tensor]:
        return list(torch.arange(len(self.x0)).split(self.batch))

    def noisy(self, chosen: Tensor, t: float, draw: int) -> Tensor:
        seeds = [(self.seed + int(i)) % (MAX_SEED + 1) for i in chosen]
        return add_noise(self.x0[chosen], keyed_noise(seeds, self.denoiser.shape, step=draw), t, self.denoiser.schedule)

    def t_given(self, chosen: Tensor, level: int) -> Tensor:
        """The t to give the network, (B,): independent of the true one; a constant for a time-agnostic network."""
        if not self.is_conditioned:
            return torch.full((len(chosen),), 0.5)
        return self.independent(chosen, level % len(self.probe_set.levels))

    @property
    def independent(self) -> Callable[[Tensor, int], Tensor]:
        """Time inputs that say nothing of the true t: the fixed t that the probes were fitted with, or random ones."""
        t = fixed_t(self.probe_set.regime)
        if t is not None:
            return lambda images, level: torch.full((len(images),), t)
        return independent_times(self.denoiser.schedule, self.probe_set.levels)


def _given_words(probe_set: ProbeSet) -> str:
    t = fixed_t(probe_set.regime)
    return "a t drawn independently of the true one" if t is None else f"t = {t:g} whatever the true one is"


def _where(
    bench: _Bench, methods: Sequence[str], steps: int, settings: dict[str, Any], progress: Callable[[Any], Any]
) -> tuple[WhereRow, ...]:
    """Shares of |attribution| of the implied noise level by texture and by frequency band, per level and method."""
    jobs = [(number, level, method) for number, level in enumerate(bench.levels) for method in methods]
    rows = []
    for number, level, method in progress(jobs):
        t, parts = bench.times[number], []
        for chosen in bench.batches():
            xt, third = bench.noisy(chosen, t, number), textures(bench.x0[chosen])
            found = attribute(
                bench.denoiser, xt, t, method=method, given=bench.t_given(chosen, number), steps=steps,
                checks=("completeness",), **settings,
            )  # fmt: skip
            assert found.band_shares is not None
            power = shares(by_ring(torch.fft.rfft2(xt.double()).abs().square(), xt.shape[-1]))
            parts.append(
                {
                    "texture": texture_shares(found.values.abs().sum(1), third),
                    "texture_of_image": texture_shares(xt.abs().sum(1), third),
                    "bands": found.band_shares,
                    "power": power,
                    "high_pass": high_pass(found.band_shares),
                    "high_pass_power": high_pass(power),
                    "gap": torch.full((len(xt),), found.quality.get("completeness", {}).get("relative_gap", math.nan)),
                }
            )
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        rows.append(
            WhereRow(
                level, t, method,
                texture=dict(zip(TEXTURES, _estimates(whole["texture"], bench.weights))),
                texture_of_image=dict(zip(TEXTURES, _estimates(whole["texture_of_image"], bench.weights))),
                bands=_estimates(whole["bands"], bench.weights), power=_estimates(whole["power"], bench.weights),
                high_pass=_estimate(whole["high_pass"], bench.weights),
                high_pass_power=_estimate(whole["high_pass_power"], bench.weights),
                relative_gap=None if whole["gap"].isnan().any() else whole["gap"].max().item(),
            )
        )  # fmt: skip
    return tuple(rows)


def norm_or_high_pass(
    bench: _Bench, settings: dict[str, Any], progress: Callable[[Any], Any] = lambda jobs: jobs
) -> tuple[NormOrHighPassRow, ...]:
    """Change of the implied noise level when x_t gets the norm, or the high-pass content, of another noise level.

    The other input is the same image at the other level with another draw of noise. ``share`` is the change divided by the
    change for the other input itself. Pure readers get the same inputs; those of an image are fitted to the other folds.
    """
    jobs = [(number, shift) for number in range(len(bench.levels)) for shift in SHIFTS]
    schedule, target, rows = bench.denoiser.schedule, bench.probe_set.target, []
    times = enumerate(level_times(schedule, bench.probe_set.levels).tolist())
    readers = fit_readers(
        ((chosen, level, bench.noisy(chosen, t, 200 + level)) for level, t in times for chosen in bench.batches()),
        target_values(target, schedule, bench.probe_set.levels),
    )
    for number, shift in progress(jobs):
        level, t = bench.levels[number], bench.times[number]
        try:
            [other_t] = level_times(schedule, [level + shift]).tolist()
        except ValueError:  # the schedule does not reach it
            continue
        here, there = target_values(target, schedule, [level, level + shift]).tolist()
        subject = Subject(bench.denoiser, t, **settings)
        found: dict[tuple[str, str], list[Tensor]] = defaultdict(list)  # (who, input) -> change by batch; plain: the value
        for chosen in bench.batches():
            xt, other = bench.noisy(chosen, t, number), bench.noisy(chosen, other_t, len(bench.levels) + number)
            t_given, known = bench.t_given(chosen, number), torch.empty(len(chosen), 0)
            answers = {
                name: {NETWORK: subject.values(picture, t_given, known), **read(readers, picture, chosen)}
                | ({} if bench.is_conditioned else {OUTPUT: _output_size(bench.denoiser, picture)})
                for name, picture in {"plain": xt, "whole": other, **edits(xt, other)}.items()
            }
            for name, of in answers.items():
                for who, value in of.items():
                    found[who, name].append(value if name == "plain" else value - answers["plain"][who])
            up, down = (subject.values(xt * 2.0**power, t_given, known) for power in (OCTAVE, -OCTAVE))
            found[NETWORK, "octave"].append((up - down) / (2 * OCTAVE))
            norms = [picture.flatten(1).norm(dim=1).double() for picture in (xt, other)]
            found[NETWORK, "factor"].append(norms[1] / norms[0])
        whole = {key: torch.cat(parts) for key, parts in found.items()}
        share = {
            who: {name: image_ratio(whole[who, name], whole[who, "whole"], bench.weights, skip_nan=True) for name in EDITS}
            for who, name in whole if name == "whole"
        }  # fmt: skip
        everything = {who: _estimate(whole[who, "whole"] / (there - here), bench.weights) for who in (NETWORK, *READERS)}
        rows.append(
            NormOrHighPassRow(
                level, t, level + shift, _estimate(whole[NETWORK, "factor"], bench.weights),
                {name: _estimate(whole[NETWORK, name], bench.weights) for name in ("whole", *EDITS)},
                share[NETWORK], _estimate(whole[NETWORK, "octave"], bench.weights), everything[NETWORK],
                {name: PureReaderRow(share[name], everything[name]) for name in READERS},
                conclude(share[NETWORK], {name: share[name] for name in READERS}), share.get(OUTPUT),
                None if bench.is_conditioned else image_ratio(whole[OUTPUT, "whole"], whole[OUTPUT, "plain"], bench.weights),
            )
        )  # fmt: skip
    return tuple(rows)


@torch.no_grad()
def _output_size(denoiser: Denoiser, xt: Tensor) -> Tensor:
    """Root mean square of the output of a time-agnostic network, float64 (B,)."""
    parts = [denoiser.output(part.to(denoiser.device), 0.5).double().cpu() for part in xt.split(EVALUATED)]
    return torch.cat(parts).flatten(1).square().mean(1).sqrt()


def two_levels(
    bench: _Bench, layers: Sequence[str] | None = None, progress: bool = False
) -> TwoLevels:  # fmt: skip
    """Two noise levels in the halves of one image, and the noise level that every position of a layer implies.

    A ridge probe of single positions (the view ``position``) is fitted at the probes' levels, and evaluated on images of the
    fold that it was not fitted to.
    """
    denoiser, schedule = bench.denoiser, bench.denoiser.schedule
    points = hook_points(denoiser)
    known = bench.probe_set.layers("mean")
    names = [name for name in (layers or known) if name in points and _splits(points[name], denoiser.shape)]
    if not names:
        raise ValueError("no layer has positions on a grid of at least 4 columns")
    chosen = torch.arange(len(bench.x0))
    given = bench.independent if bench.is_conditioned else None
    sums = statistics(
        denoiser, bench.x0, names, ("position",), levels=bench.probe_set.levels, seed=bench.seed, batch=bench.batch,
        given=given, progress="positions, fitted" if progress else "",
    )  # fmt: skip
    values = target_values(bench.probe_set.target, schedule, bench.probe_set.levels)
    probes = {name: RidgeProbe().fit(sums[name, "position"], values) for name in names}
    rows, scores = [], defaultdict[str, list[Tensor]](list)  # scores: squared error and contrast of each image, (2, N)
    for number, (left, right) in enumerate(SPLITS):
        try:
            times = level_times(schedule, [left, right]).tolist()
        except ValueError:
            continue
        true = target_values(bench.probe_set.target, schedule, [left, right]).tolist()
        # One draw of noise for both halves; the probes were fitted to other draws.
        pictures = [bench.noisy(chosen, t, 100 + number) for t in times]
        mixed = torch.cat([pictures[0][..., : denoiser.shape[2] // 2], pictures[1][..., denoiser.shape[2] // 2 :]], -1)
        t_given = bench.t_given(chosen, number)
        maps = {kind: _position_maps(denoiser, probes, points, picture, t_given, chosen) for kind, picture in (
            ("mixed", mixed), ("left", pictures[0]), ("right", pictures[1]))}  # fmt: skip
        for name in names:
            seen = maps["mixed"][name]  # (N, h, w)
            half = seen.shape[-1] // 2
            truth = torch.tensor(true, dtype=torch.float64).repeat_interleave(half).expand(seen.shape)
            sides = [seen[..., :half].flatten(1).mean(1), seen[..., half:].flatten(1).mean(1)]
            whole = torch.stack([maps[kind][name] - level for kind, level in zip(("left", "right"), true)])
            square = (seen - truth).square().flatten(1).mean(1)
            contrast = (sides[1] - sides[0]) / (true[1] - true[0])
            scores[name].append(torch.stack([square, contrast]))
            error = image_rms(square, bench.weights)
            rows.append(
                TwoLevelsRow(
                    name, [left, right], list(seen.shape[1:]), error=error.value,
                    whole_error=whole.square().mean().sqrt().item(), one_number=abs(true[1] - true[0]) / 2,
                    contrast=_estimate(contrast, bench.weights),
                    sides=[side.mean().item() for side in sides], profile=seen.mean((0, 1)).tolist(), error_interval=error,
                )
            )  # fmt: skip
    means = {name: torch.stack(parts).mean(0) for name, parts in scores.items()}  # over pairs of levels
    best = min(means, key=lambda name: means[name][0].mean().item())
    largest_fold = -(-len(chosen) // FOLDS)
    return TwoLevels(len(chosen) - largest_fold, len(chosen), best, tuple(rows), _chosen(means, bench.weights))


def _chosen(scores: dict[str, Tensor], weights: Tensor) -> tuple[ChosenBlock, ...]:
    """The block with the least error on each half of the images, with its scores on the other half.

    Args:
        scores: Layer -> squared error and contrast of each image, (2, N).
        weights: Of the bootstrap, (N, 1 + draws).
    """
    first = torch.arange(len(weights)) // 2 % 2 == 0  # of 20 images or more, either half has some of every fold
    found = []
    for own, other in ((first, ~first), (~first, first)):
        best = min(scores, key=lambda name: scores[name][0, own].mean().item())
        square, contrast = scores[best][:, other]
        error = image_rms(square, weights[other])
        found.append(ChosenBlock(best, scores[best][0, own].mean().sqrt().item(), error, _estimate(contrast, weights[other])))
    return tuple(found)


def _splits(point: HookPoint, shape: Sequence[int]) -> bool:
    size = grid(point, shape)
    return size is not None and size[1] >= 4 and size[1] % 2 == 0


@torch.no_grad()
def _position_maps(
    denoiser: Denoiser, probes: dict[str, RidgeProbe], points: dict[str, HookPoint], xt: Tensor, t_given: Tensor, image: Tensor
) -> dict[str, Tensor]:
    """Implied noise level of every position of every layer, by fits without the image's fold; layer -> (B, h, w) float64."""
    maps: dict[str, list[Tensor]] = {name: [] for name in probes}

    def into(name: str, fold: Tensor) -> Callable[..., None]:
        size = grid(points[name], denoiser.shape)
        assert size is not None

        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            features = ACTIVATION_VIEWS["position"](output).cpu()
            rows = probes[name].predict_held_out(features, fold.repeat_interleave(len(features) // len(fold)))
            last[name] = rows.unflatten(0, (len(output), *size))  # if a module is called several times, its last output

        return hook

    last: dict[str, Tensor] = {}
    for part, times, fold in zip(xt.split(EVALUATED), t_given.split(EVALUATED), (image % FOLDS).split(EVALUATED)):
        with hooks(inner(denoiser), {name: into(name, fold) for name in probes}):
            denoiser.output(part.to(denoiser.device), times.to(denoiser.device))
        for name in probes:
            maps[name].append(last[name])
    return {name: torch.cat(parts) for name, parts in maps.items()}


def checked(
    bench: _Bench, settings: dict[str, Any], steps: int | None = None, progress: Callable[[Any], Any] = lambda jobs: jobs
) -> tuple[CheckRow, ...]:
    """Completeness and the check with randomized parameters of every method, for maps of the implied noise level."""
    levels = [level for level in CHECKED_LEVELS if level in bench.levels] or bench.levels[:1]
    jobs = [(method, level) for method, why in offered(bench.denoiser).items() if not why for level in levels]
    rows = []
    for method, level in progress(jobs):
        number = bench.levels.index(level)
        chosen = torch.arange(min(CHECKED_IMAGES, len(bench.x0)))
        try:
            found = attribute(
                bench.denoiser, bench.noisy(chosen, bench.times[number], number), bench.times[number], method=method,
                given=bench.t_given(chosen, number), steps=steps, checks=("completeness", "randomization"), **settings,
            )  # fmt: skip
        except ValueError as error:
            rows.append(CheckRow(method, level, len(chosen), str(error)))
            continue
        gap, seen = found.quality.get("completeness", {}).get("relative_gap"), found.quality.get("gradient_seen")
        settings_of = {"at": found.at, "steps": found.steps, "relative_gap": gap, "gradient_seen": seen}
        rows.append(CheckRow(method, level, len(chosen), **settings_of, **found.quality["randomization"]))
    return tuple(rows)


def _routes_by_level(bench: _Bench, progress: Callable[[Any], Any]) -> RoutesByLevel:
    """Share of the norm of the predicted noise that comes through the t input, given the true t, by level."""
    rows = []
    for number in progress(range(len(bench.levels))):
        t, parts = bench.times[number], []
        for chosen in bench.batches():
            parts.append(
                routes(bench.denoiser, bench.noisy(chosen, t, number), t, "noise-norm", baseline="zero", seed=bench.seed)
            )
        given_t, image, share = (torch.cat([getattr(part, name) for part in parts]) for name in ("given_t", "image", "share"))
        blocks = {name: torch.cat([part.blocks[name] for part in parts]) for name in parts[0].blocks}
        rows.append(
            RouteRow(
                bench.levels[number], t,
                _estimate(given_t, bench.weights), _estimate(image, bench.weights), _estimate(share, bench.weights),
                {name: _estimate(values, bench.weights) for name, values in blocks.items()},
                max(part.relative_gap for part in parts),
            )
        )  # fmt: skip
    return RoutesByLevel("noise-norm", "zero", "the true t", parts[0].note, tuple(rows))


def reading(
    denoiser: Denoiser,
    probe_set: ProbeSet,
    images: Tensor,
    *,
    layer: str | None = None,
    view: str | None = None,
    levels: Sequence[float] = READING_LEVELS,
    methods: Sequence[str] = READING_METHODS,
    baseline: str = "zero",
    steps: int = READING_STEPS,
    attributed: int | None = None,
    seed: int = 0,
    batch: int = 32,
    progress: Callable[..., Any] | None = None,
) -> ReadingResult:
    """Where a model reads the noise level: texture and frequency, norm or high-pass content, two levels in one image.

    A conditioned network is given a t independent of the true one and read by probes fitted that way, so its answer can come
    from the image alone. Only ``routes`` uses the true t.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        images: Held-out images, uint8 or float (N, C, H, W), at least 10.
        layer: The probed layer; by default, as ``view``, that of the best probe.
        levels: Values of logsnr.
        methods: Keys of ``SALIENCY`` with contributions of frequency bands.
        baseline: A key of ``BASELINES``.
        steps: Steps of Integrated Gradients.
        attributed: How many of the images are attributed, which costs most, at least 10: the first ones; by default all.
        seed: First seed of the noise; image i has seed + i.
        batch: Images per batch; only a few numbers are kept of each.
        progress: (jobs, name) -> jobs, as tqdm with ``desc``.

    Raises:
        ValueError: If a name is unknown, a method has no frequency bands, or there are fewer than 10 images.
    """
    for method in methods:
        choose("method", method, SALIENCY)
        if method not in (able := [name for name, how in SALIENCY.items() if how.domain == "pixels" and how.tells_bands]):
            raise ValueError(f"{method} has no contributions of frequency bands; choose from {', '.join(able)}")
    attributed = len(images) if attributed is None else min(attributed, len(images))
    if attributed < 10:
        raise ValueError(f"at least 10 images are needed, got {attributed}")

    def bar(name: str) -> Callable[[Any], Any]:
        return (lambda jobs: jobs) if progress is None else lambda jobs: progress(jobs, name)

    bench = _Bench(denoiser, probe_set, images, levels, seed, batch)
    few = _Bench(denoiser, probe_set, images[:attributed], levels, seed, batch)
    settings: dict[str, Any] = {"probe_set": probe_set, "layer": layer, "view": view}
    subject = Subject(denoiser, bench.times[0], **settings)
    third = torch.tensor([len(TEXTURES)]).double().reciprocal().item()
    ring = rings(*denoiser.shape[1:])
    count = by_ring(torch.ones(1, 1, *ring.shape, dtype=torch.float64), denoiser.shape[2])[0]
    return ReadingResult(
        denoiser.name, "implied-clock", probe_set.target, str(subject.layer), str(subject.view), len(images), seed,
        list(levels), steps, baseline,
        given=_given_words(probe_set) if bench.is_conditioned else NO_T_INPUT,
        textures=Textures(PATCH, list(TEXTURES), third),
        bands=Bands([list(ends) for ends in ring_edges()], (count / count.sum()).tolist(), HIGH_PASS),
        where=_where(few, methods, steps, settings | {"baseline": baseline}, bar("where")),
        norm_or_high_pass=norm_or_high_pass(bench, settings, bar("norm or high-pass")),
        two_levels=two_levels(bench, progress=progress is not None),
        routes=_routes_by_level(few, bar("routes")),
        checks=checked(few, settings | {"baseline": baseline}, progress=bar("checks")),
        attributed=attributed, sha256=denoiser.sha256 or None,
    )  # fmt: skip
