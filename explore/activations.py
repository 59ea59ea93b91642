"""Activations of a network: named hook points, ``capture()``, and sweeps over images, noise levels and layers.

A hook point is the dotted module name of a block. Blocks are found from the module tree, so any network has hook points.
Sweeps keep sums instead of activations, in memory independent of the number of images. Depends on data, denoiser, schedules,
zoo.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from tqdm.auto import tqdm

from explore.data import add_noise, to_float
from explore.denoiser import Denoiser
from explore.schedules import Schedule
from explore.seeds import MAX_SEED, check_seeds, keyed_noise
from explore.values import choose, image_shape, real_numbers, whole_number


@dataclass(frozen=True)
class HookPoint:
    """A place in a network whose output can be captured.

    Attributes:
        name: Dotted module name.
        kind: Class of the module.
        shape: Of its output for one image: (C, H, W), or (L, C) for a sequence of tokens.
        calls: How often one evaluation calls it; the last output is captured.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    calls: int = 1

    @property
    def channels(self) -> int:
        """Channels of the output."""
        return self.shape[0] if len(self.shape) == 3 else self.shape[-1]


def hook_points(network: nn.Module, shape: Sequence[int] | None = None) -> dict[str, HookPoint]:
    """The hook points of a network, in order of evaluation.

    These are the innermost elements of ``nn.ModuleList`` with at least two layers that have parameters (a residual block, an
    attention block, a transformer block), and the single layers among the network's children (``stem``, ``norm``, ``head``),
    or among those of the network inside a wrapper. Modules that are not called, or return neither images (B, C, H, W) nor
    tokens (B, L, C), are left out. Of several returned values the first tensor counts; see :func:`hooks`.

    Args:
        network: Module called as ``network(xt, t)``, or a Denoiser.
        shape: (C, H, W) of one image; not needed for a Denoiser.

    Returns:
        Name -> HookPoint.

    Raises:
        ValueError: If the shape is not known.
    """
    if shape is not None:
        shape = image_shape(shape)
    elif (shape := getattr(network, "shape", None)) is None:
        raise ValueError("shape (C, H, W) of one image is needed to find the hook points of a network that is not a Denoiser")
    network = inner(network)
    modules = dict(network.named_modules())
    core, prefix = network, ""
    while len(parts := list(core.named_children())) == 1 and _layers(parts[0][1]) > 1:
        core, prefix = parts[0][1], f"{prefix}{parts[0][0]}."
    candidates = {f"{prefix}{name}" for name, part in core.named_children() if not _holds_list(part) and _layers(part) == 1}
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
        tensor = first_tensor(output)
        if tensor is not None and tensor.ndim in (3, 4):
            calls = found[name].calls + 1 if name in found else 1
            found[name] = HookPoint(name, type(module).__name__, tuple(tensor.shape[1:]), calls)

    parameter = next(network.parameters(), torch.zeros(()))
    with _raw_hooks(network, {name: partial(note, name) for name in candidates}), torch.no_grad():
        xt = torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype)
        network(xt, torch.full((1,), 0.5, device=parameter.device))
    return found


def inner(network: nn.Module) -> nn.Module:
    """The network of a Denoiser, or ``network`` itself."""
    return network.network if hasattr(network, "estimate") and isinstance(network.network, nn.Module) else network


def _layers(module: nn.Module) -> int:
    """Number of modules in ``module`` with parameters of their own; one with a parametrization (weight norm) counts once."""
    own = [
        name
        for name, part in module.named_modules()
        if is_parametrized(part) or any(True for _ in part.parameters(recurse=False))
    ]
    return sum("parametrizations" not in name.split(".") for name in own)


def _holds_list(module: nn.Module) -> bool:
    return any(isinstance(part, nn.ModuleList) and not isinstance(part, ParametrizationList) for part in module.modules())


NEVER_CALLED = "hook point {!r} is never called: the network has this module, but does not use it"


def first_tensor(output: Any) -> Tensor | None:
    """A module's output itself, or the first tensor in a tuple, list, mapping or dataclass."""
    return next((part for _, part in _parts(output) if isinstance(part, Tensor)), None)


def _parts(output: Any) -> list[tuple[Any, Any]]:
    """The values in a module's output, each with its index, key or field; a tensor is its only part."""
    if isinstance(output, (tuple, list)):
        return list(enumerate(output))
    if isinstance(output, Mapping):  # also the outputs of diffusers and transformers
        return list(output.items())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(part.name, getattr(output, part.name)) for part in dataclasses.fields(output)]
    return [(None, output)]


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """A copy of ``output`` with its first tensor replaced by ``tensor``."""
    place = next(place for place, part in _parts(output) if isinstance(part, Tensor))
    if isinstance(output, (tuple, list)):
        parts = [*output[:place], tensor, *output[place + 1 :]]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        changed[place] = tensor
        return changed
    return tensor if place is None else dataclasses.replace(output, **{place: tensor})


@contextlib.contextmanager
def hooks(network: nn.Module, by_name: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Forward hooks by module name; removed after the block, also after an exception.

    A hook is called as ``hook(module, inputs, output)`` at every call of the module, with :func:`first_tensor` of its output.
    If the hook returns a tensor, it replaces that tensor. Compiled networks run uncompiled inside the block, as compiled code
    skips hooks.

    Raises:
        ValueError: For an unknown name, with near matches, before anything is hooked; for a module that returns no tensor; and
            at the end of the block for one that the network was evaluated without.
    """
    reached: set[str] = set()

    def on_tensor(name: str, hook: Callable[..., Any], module: nn.Module, inputs: Any, output: Any) -> Any:
        reached.add(name)
        tensor = first_tensor(output)
        if tensor is None:
            raise ValueError(
                f"hook point {name!r} returns a {type(output).__name__} without a tensor: nothing can be read there"
            )
        changed = hook(module, inputs, tensor)
        return None if changed is None else with_first_tensor(output, changed)

    evaluated: list[bool] = []
    handle = network.register_forward_hook(lambda *_: evaluated.append(True))
    try:
        with _raw_hooks(network, {name: partial(on_tensor, name, hook) for name, hook in by_name.items()}):
            yield
    finally:
        handle.remove()
    if evaluated and (unused := [name for name in by_name if name not in reached]):
        raise ValueError(NEVER_CALLED.format(unused[0]))


@contextlib.contextmanager
def _raw_hooks(network: nn.Module, by_name: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """:func:`hooks` whose hooks see what the modules return as it is."""
    modules = {name: module for name, module in network.named_modules() if name}
    for name in by_name:
        if name not in modules:  # any module is allowed, too many to list
            near = difflib.get_close_matches(name, modules, n=3, cutoff=0.6)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"its parts are {', '.join(dict(network.named_children()))}"
            )
            raise ValueError(f"unknown hook point {name!r}; {hint}")
    check_hookable(network)
    for module in network.modules():
        if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
            raise ValueError("hooks see one device's share of the images in a DataParallel network: give its .module instead")
    handles = []
    with uncompiled():
        try:
            for name, hook in by_name.items():
                handles.append(modules[name].register_forward_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()


def check_hookable(network: nn.Module) -> None:
    """Raises ValueError for TorchScript, which supports neither hooks nor gradients of its copies."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise ValueError("nothing can be read inside a TorchScript module: use the module that it was made from")


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """A block in which compiled modules run uncompiled: compiled code skips hooks."""
    # If this was never imported, nothing is compiled; importing it takes a second.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


class Captured(dict[str, Tensor]):
    """Activations by name; a ValueError explains why one is missing."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)

    def __missing__(self, name: str) -> Tensor:
        if name in self.names:
            raise ValueError(f"nothing was captured at {name!r}: the network was not evaluated, or it does not use this module")
        raise ValueError(f"{name!r} is not captured; captured are {', '.join(self.names)}")


@contextlib.contextmanager
def capture(network: nn.Module, names: Sequence[str]) -> Iterator[Captured]:
    """Captures the outputs of modules: ``with capture(network, names) as cache: network(xt, t)``.

    Args:
        network: Any module, or a Denoiser.
        names: Dotted names of its modules.

    Yields:
        A dictionary, filled by each evaluation with every module's output (the first tensor of several values, the last of
        several calls). They are copies without gradients, so later in-place changes do not affect them.

    Raises:
        ValueError: For an unknown name, before anything runs; for a module that is not used.
    """
    cache = Captured(names)

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        cache[name] = output.detach().clone()

    with hooks(inner(network), {name: partial(keep, name) for name in names}):
        yield cache


# Views: one block's activation (B, C, H, W) or (B, L, C) -> features (B, D), or (B P, D) for ``position``. -----------------


def rows_of(activation: Tensor) -> Tensor:
    """An activation (B, C, H, W) or (B, L, C) with one row per position, (B, P, C).

    Raises:
        ValueError: For anything else, such as one vector for each image.
    """
    if activation.ndim == 4:
        return activation.flatten(2).transpose(1, 2)
    if activation.ndim == 3:
        return activation
    raise ValueError(
        f"an activation must be images (B, C, H, W) or tokens (B, L, C) to be read, this one is {tuple(activation.shape)}"
    )


def mean(activation: Tensor) -> Tensor:
    """Average over positions: (B, C), at least float32."""
    rows_of(activation)  # refuses other shapes
    dtype = torch.promote_types(activation.dtype, torch.float32)
    return activation.mean((2, 3) if activation.ndim == 4 else 1, dtype=dtype)


def mean_std(activation: Tensor) -> Tensor:
    """Average and standard deviation over positions: (B, 2 C), float32."""
    rows = rows_of(activation)
    # Three to seven times faster on a CPU than torch.std_mean, which is not vectorized. A few images at a time keep the
    # float32 copy in the cache, which halves the time again.
    found = []
    for part in rows.split(max(1, CACHED // rows[0].numel())):
        part = part.float()
        average = part.mean(1)
        squares = (part - average[:, None]).square_().sum(1)
        found.append(torch.cat([average, (squares / (part.shape[1] - 1)).sqrt()], dim=1))
    return torch.cat(found)


STD_FLOOR = 1e-6  # in log_std, for a channel that does not vary


def log_std(activation: Tensor) -> Tensor:
    """Average and log of the standard deviation over positions: (B, 2 C), float32.

    The standard deviation of noise is about linear in sigma, and log SNR in its logarithm.
    """
    average, std = mean_std(activation).chunk(2, 1)
    return torch.cat([average, std.clamp_min(STD_FLOOR).log()], 1)


def position(activation: Tensor) -> Tensor:
    """One row per position: (B P, C), the positions of an image in consecutive rows."""
    return rows_of(activation).flatten(0, 1)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "mean_std": mean_std, "log_std": log_std, "position": position}


# Sweeps: sums over images x noise levels x layers ------------------------------------------------------------

LOGSNR_LEVELS = tuple((k - 16) / 2 for k in range(33))  # -8 to 8
FOLDS = 5
CACHED = 2**17  # values of an activation processed at a time


@dataclass(frozen=True)
class Batch:
    """Some images at one noise level.

    Attributes:
        image: int64 (B,), indices of the images.
        level: Index of the level.
        xt: (B, C, H, W) float32, the network's input.
        features: (layer, view) -> (B, D), or (B P, D) for ``position``.
        time: float (B,), the t that the network was given.
    """

    image: Tensor
    level: int
    xt: Tensor
    features: dict[tuple[str, str], Tensor]
    time: Tensor


def level_times(schedule: Schedule, levels: Sequence[float]) -> Tensor:
    """t at every level of logsnr, float64 (L,).

    Raises:
        ValueError: For no levels, or one that the schedule does not reach.
    """
    values = real_numbers("each of levels", levels)
    logsnr = torch.tensor(values, dtype=torch.float64)
    times = schedule.t_from_logsnr(logsnr)
    if not values or not (schedule.logsnr(times) - logsnr).abs().max() < 1e-3:
        raise ValueError(f"levels must be values of logsnr that the schedule reaches, got {values}")
    return times


# Cached for a few batches only: small tensors kept for every image would fragment the heap between freed activations.
@functools.lru_cache(maxsize=4)  # every layer and level of a batch needs the same
def _shuffled(key: int, images: tuple[int, ...], levels: int) -> Tensor:
    """(B, L): for each image its own permutation of the levels, the same in every run and process."""
    seeds = (np.random.SeedSequence([key, image]) for image in images)
    return torch.from_numpy(np.stack([np.random.Generator(np.random.Philox(seed)).permutation(levels) for seed in seeds]))


def independent_times(schedule: Schedule, levels: Sequence[float]) -> Callable[[Tensor, int], Tensor]:
    """Time inputs independent of the true t: each image gets the t of every level once, in its own random order."""
    times = level_times(schedule, levels).float()
    return lambda images, level: times[_shuffled(0, tuple(images.tolist()), len(times))[:, level]]


@torch.no_grad()
def sweep(
    denoiser: Denoiser,
    images: Tensor,
    layers: Sequence[str],
    views: Sequence[str] = ("mean",),
    *,
    levels: Sequence[float] = LOGSNR_LEVELS,
    seed: int = 0,
    batch: int = 64,
    given: Callable[[Tensor, int], Tensor] | None = None,
    share: tuple[int, int] = (0, 1),
    progress: str = "",
) -> Iterator[Batch]:
    """Evaluates a network on every image at every noise level and yields the features of its layers.

    Args:
        denoiser: The model.
        images: uint8 (N, C, H, W), or float with values in about [-1, 1], which are not rounded.
        layers: Names of hook points.
        views: Keys of ``VIEWS``.
        levels: Values of logsnr.
        seed: First seed of the noise; image i has seed + i, with another draw at every level.
        batch: Images in one pass of the network.
        given: The network's time input, (images (B,), level) -> (B,), such as :func:`independent_times`; by default the true t.
        share: (k, n): only images k, k + n, k + 2 n, ..., the share of process k of n.
        progress: Name of the progress bar; none if empty.

    Raises:
        ValueError: For an unknown layer or view, or a level that the schedule does not reach.
    """
    for view in views:
        choose("view", view, VIEWS)
    times = level_times(denoiser.schedule, levels)
    [seed], batch = check_seeds([seed]), whole_number("batch", batch, 1)
    device = denoiser.device
    mine = torch.arange(share[0], len(images), share[1])
    features: dict[tuple[str, str], Tensor] = {}

    def read(layer: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        # Not after the evaluation: later layers may change the activation in place.
        features.update({(layer, view): VIEWS[view](output) for view in views})

    with (
        hooks(inner(denoiser), {layer: partial(read, layer) for layer in layers}),
        tqdm(total=len(mine) * len(levels), desc=progress, disable=not progress, unit="image") as bar,
    ):
        for chosen in mine.split(batch):
            x0 = to_float(images[chosen]) if images.dtype == torch.uint8 else images[chosen].float()
            seeds = [(seed + int(i)) % (MAX_SEED + 1) for i in chosen]
            for level, t in enumerate(times.tolist()):
                xt = add_noise(x0, keyed_noise(seeds, x0.shape[1:], step=level), t, denoiser.schedule)
                time = torch.full((len(xt),), t) if given is None else given(chosen, level)
                features.clear()
                denoiser.output(xt.to(device), time.to(device))
                if unused := [layer for layer in layers for view in views if (layer, view) not in features]:
                    raise ValueError(NEVER_CALLED.format(unused[0]))  # now, not at the end of the sweep
                yield Batch(chosen, level, xt, dict(features), time)
                bar.update(len(xt))


@dataclass(frozen=True)
class Sums:
    """Sums over rows: ``count`` (L,), ``total`` (L, D) and ``gram`` (D, D), float64; see :class:`Statistics`."""

    count: Tensor
    total: Tensor
    gram: Tensor


class Statistics:
    """Sufficient statistics of every linear probe of the noise level, in memory independent of the number of rows.

    The noise level takes few values, so every target (logsnr, t, a bin, a shuffled control) is a function of the level. Counts
    and sums by level and the Gram matrix of the features suffice. They are kept by fold, split by source image, so that
    cross-validation of penalties needs no second pass.

    Args:
        features: D.
        levels: L.
        folds: K; image i belongs to fold i mod K.

    Attributes:
        count: float64 (K, L).
        total: float64 (K, L, D), sums of the features.
        gram: float64 (K, D, D), sums of their products.
        scrambled: float64 (K, L, D), sums of the features with the levels of each image permuted.
    """

    def __init__(self, features: int, levels: int, folds: int = FOLDS) -> None:
        if min(features, levels) < 1 or folds < 2:
            raise ValueError(f"features and levels must be at least 1 and folds 2, got {features}, {levels} and {folds}")
        self.count = torch.zeros(folds, levels, dtype=torch.float64)
        self.total = torch.zeros(folds, levels, features, dtype=torch.float64)
        self.gram = torch.zeros(folds, features, features, dtype=torch.float64)
        self.scrambled = torch.zeros_like(self.total)

    def add(self, features: Tensor, image: Tensor, level: int) -> None:
        """Adds rows (B, D), or (B P, D) with the P rows of an image together, of ``image`` (B,) at one level."""
        images = features.to("cpu", torch.float64).unflatten(0, (len(image), -1))  # (B, P, D)
        (folds, levels, width), per_image, fold = self.total.shape, images.shape[1], image % len(self.total)
        sums, cell = images.sum(1), fold * levels + level
        self.count.view(-1).index_add_(0, cell, torch.full((len(image),), float(per_image), dtype=torch.float64))
        self.total.view(-1, width).index_add_(0, cell, sums)
        dealt = _shuffled(1, tuple(image.tolist()), levels)[:, level]
        self.scrambled.view(-1, width).index_add_(0, fold * levels + dealt, sums)
        by_fold = images[fold.argsort(stable=True)].split(fold.bincount(minlength=folds).tolist())
        for gram, part in zip(self.gram, by_fold):
            gram.addmm_(part.flatten(0, 1).T, part.flatten(0, 1))

    def fold(self, k: int) -> Sums:
        """The rows of fold ``k``."""
        return Sums(self.count[k], self.total[k], self.gram[k])

    def pooled(self, without: int | None = None) -> Sums:
        """All rows, or all but those of one fold."""
        kept = [k for k in range(len(self.count)) if k != without]
        return Sums(self.count[kept].sum(0), self.total[kept].sum(0), self.gram[kept].sum(0))

    def shuffled(self) -> Statistics:
        """The same rows with the levels of each image permuted: a control that no probe should decode.

        Valid if every image was added once at every level, as a sweep does.
        """
        other = copy.copy(self)
        other.total = self.scrambled
        return other

    def merge(self, other: Statistics) -> Statistics:
        """Adds the sums of other rows, such as another process's."""
        for name in SUMMED:
            getattr(self, name).add_(getattr(other, name))
        return self


SUMMED = ("count", "total", "gram", "scrambled")  # of Statistics


def statistics(
    denoiser: Denoiser,
    images: Tensor,
    layers: Sequence[str],
    views: Sequence[str] = ("mean",),
    *,
    more: Callable[[Batch], dict[tuple[str, str], Tensor]] | None = None,
    **settings: Any,
) -> dict[tuple[str, str], Statistics]:
    """Statistics of every layer and view over images x levels.

    ``more`` adds features of a batch to those of the layers; other arguments as for :func:`sweep`.
    """
    found: dict[tuple[str, str], Statistics] = {}
    levels = len(settings.get("levels", LOGSNR_LEVELS))
    for batch in sweep(denoiser, images, layers, views, **settings):
        for key, features in {**batch.features, **(more(batch) if more else {})}.items():
            if key not in found:
                found[key] = Statistics(features.shape[1], levels)
            found[key].add(features, batch.image, batch.level)
    return found
