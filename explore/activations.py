"""What goes on inside a network: named hook points, ``capture()``, and sweeps over images, noise levels and layers.

A hook point is the dotted module name of a block. Nothing here knows an architecture: blocks are found by how networks are
built, so a person's own module has hook points too. Sweeps keep sums, not activations: their memory does not grow with the
number of images. Depends on data, denoiser, schedules, zoo.
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
        calls: How often one evaluation calls it; what is captured is its last output.
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
    """The hook points of a network, in the order in which one evaluation passes them.

    These are the innermost elements of ``nn.ModuleList`` that have at least two layers with parameters (a residual block,
    an attention block, a transformer block), and the layers that are the network's own children (``stem``, ``norm``,
    ``head``) or, in a wrapper, those of the one network inside; of both only those that are called and give images
    (B, C, H, W) or tokens (B, L, C). Of a module that returns several values, it is the first tensor; see :func:`hooks`.

    Args:
        network: Module called as ``network(xt, t)``, or a Denoiser.
        shape: Shape (C, H, W) of one image; may be left out for a Denoiser, which knows it.

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
    """Modules inside (or itself) that have parameters of their own; one with a parametrization (weight norm) is one."""
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
    """The tensor that a module's output stands for: itself, or the first one in a tuple, list, mapping or dataclass."""
    return next((part for _, part in _parts(output) if isinstance(part, Tensor)), None)


def _parts(output: Any) -> list[tuple[Any, Any]]:
    """The values in a module's output with the index, key or field that each has; a tensor is its own only part."""
    if isinstance(output, (tuple, list)):
        return list(enumerate(output))
    if isinstance(output, Mapping):  # also the outputs of diffusers and transformers
        return list(output.items())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(part.name, getattr(output, part.name)) for part in dataclasses.fields(output)]
    return [(None, output)]


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """``output`` with ``tensor`` in the place of its first one; what was returned is not changed itself."""
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
    """Forward hooks by module name; gone after the block, also after an exception.

    A hook is called as ``hook(module, inputs, output)`` with the tensor that the module returned; of several values, the first
    tensor in the tuple, list, mapping or dataclass. If it returns a tensor, that takes the place of the one returned. A module
    that is called several times in an evaluation calls its hook each time. Compiled networks run uncompiled inside the block,
    as compiled code passes hooks over.

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
        if name not in modules:  # any module may be named, too many to list
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
    """Raises ValueError for TorchScript, which takes neither hooks nor gradients of its copies."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise ValueError("nothing can be read inside a TorchScript module: use the module that it was made from")


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """A block in which compiled modules run as they were written: compiled code passes hooks over."""
    # Nothing is compiled where this was never imported, and importing it takes a second.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


class Captured(dict[str, Tensor]):
    """Activations by name; asking for one that is not there says why in a ValueError."""

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
        A dictionary that after each evaluation holds what every module returned (of several values, the first tensor; of
        several calls, the last). They are copies without gradients: what later layers do in place is not seen in them.

    Raises:
        ValueError: For an unknown name, with near matches, before anything runs; for a module that is not used.
    """
    cache = Captured(names)

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        cache[name] = output.detach().clone()

    with hooks(inner(network), {name: partial(keep, name) for name in names}):
        yield cache


# Views: one block's activation (B, C, H, W) or (B, L, C) -> features (B, D), or (B P, D) for ``position``. -----------------


def rows_of(activation: Tensor) -> Tensor:
    """An activation (B, C, H, W) or (B, L, C) as its positions in rows, (B, P, C).

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
    # Three to seven times faster on a CPU than torch.std_mean, whose one pass is not vectorized; a few images at a time,
    # so that their float32 copy stays in the cache, half of that again.
    found = []
    for part in rows.split(max(1, CACHED // rows[0].numel())):
        part = part.float()
        average = part.mean(1)
        squares = (part - average[:, None]).square_().sum(1)
        found.append(torch.cat([average, (squares / (part.shape[1] - 1)).sqrt()], dim=1))
    return torch.cat(found)


def position(activation: Tensor) -> Tensor:
    """Every position for itself: (B P, C), the positions of one image together."""
    return rows_of(activation).flatten(0, 1)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "mean_std": mean_std, "position": position}


# Sweeps: images x noise levels x layers, summed up as they pass ------------------------------------------------------------

LOGSNR_LEVELS = tuple((k - 16) / 2 for k in range(33))  # -8 to 8
FOLDS = 5
CACHED = 2**17  # values of an activation that are worked on at a time


@dataclass(frozen=True)
class Batch:
    """Some images at one noise level.

    Attributes:
        image: int64 (B,), which of the images.
        level: Which of the levels.
        xt: (B, C, H, W) float32, what the network was shown.
        features: (layer, view) -> (B, D), or (B P, D) for ``position``.
    """

    image: Tensor
    level: int
    xt: Tensor
    features: dict[tuple[str, str], Tensor]


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


# Kept by batch, and few of them: small tensors kept for every image would lie between the large activations that are freed,
# and the heap would grow with the number of images.
@functools.lru_cache(maxsize=4)  # every layer and level of a batch asks for the same
def _shuffled(key: int, images: tuple[int, ...], levels: int) -> Tensor:
    """(B, L): a permutation of the levels for each image, its own, the same in every run and process."""
    seeds = (np.random.SeedSequence([key, image]) for image in images)
    return torch.from_numpy(np.stack([np.random.Generator(np.random.Philox(seed)).permutation(levels) for seed in seeds]))


def independent_times(schedule: Schedule, levels: Sequence[float]) -> Callable[[Tensor, int], Tensor]:
    """A given clock that says nothing of the true one: each image is told the t of every level once, in an order of its own."""
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
    """Shows a network every image at every noise level and yields what its layers make of it; nothing is kept.

    Args:
        denoiser: The model.
        images: uint8 (N, C, H, W), or float with values in about [-1, 1], which are not rounded.
        layers: Names of hook points.
        views: Keys of ``VIEWS``.
        levels: Values of logsnr.
        seed: First seed of the noise; image i has seed + i, with another draw at every level.
        batch: Images in one pass of the network.
        given: What the network is told in place of the true t: (images (B,), level) -> (B,), such as
            :func:`independent_times`; by default t itself.
        share: (k, n): only images k, k + n, k + 2 n, ... as process k of n processes takes them.
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
        # Here and not after the evaluation: later layers may change the activation in place.
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
                clock = torch.full((len(xt),), t) if given is None else given(chosen, level)
                features.clear()
                denoiser.output(xt.to(device), clock.to(device))
                if unused := [layer for layer in layers for view in views if (layer, view) not in features]:
                    raise ValueError(NEVER_CALLED.format(unused[0]))  # now, not at the end of the sweep
                yield Batch(chosen, level, xt, dict(features))
                bar.update(len(xt))


@dataclass(frozen=True)
class Sums:
    """Sums over rows: ``count`` (L,), ``total`` (L, D) and ``gram`` (D, D), float64; see :class:`Statistics`."""

    count: Tensor
    total: Tensor
    gram: Tensor


class Statistics:
    """Sums over rows from which every linear readout of the noise level follows, with memory that rows do not add to.

    The noise level takes few values, so whatever is to be read (logsnr, t, a bin, a shuffled control) is a function of the
    level: counts and sums by level, and the products of the features, say it all. They are kept by fold, folds split by
    source image, so that penalties are chosen by cross-validation without a second pass.

    Args:
        features: D.
        levels: L.
        folds: K; image i belongs to fold i mod K.

    Attributes:
        count: float64 (K, L).
        total: float64 (K, L, D), sums of the features.
        gram: float64 (K, D, D), sums of their products.
        scrambled: float64 (K, L, D), sums of the features as if the levels of each image were dealt out anew.
    """

    def __init__(self, features: int, levels: int, folds: int = FOLDS) -> None:
        if min(features, levels) < 1 or folds < 2:
            raise ValueError(f"features and levels must be at least 1 and folds 2, got {features}, {levels} and {folds}")
        self.count = torch.zeros(folds, levels, dtype=torch.float64)
        self.total = torch.zeros(folds, levels, features, dtype=torch.float64)
        self.gram = torch.zeros(folds, features, features, dtype=torch.float64)
        self.scrambled = torch.zeros_like(self.total)

    def add(self, features: Tensor, image: Tensor, level: int) -> None:
        """Takes rows (B, D), or (B P, D) with the P rows of one image together, of ``image`` (B,) at one level."""
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
        """The same rows with the levels of each image dealt out anew: nothing should be readable from them.

        It holds for images that were added at every level once, as a sweep does.
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

    ``more`` gives features of a batch besides those of the layers; the other arguments are those of :func:`sweep`.
    """
    found: dict[tuple[str, str], Statistics] = {}
    levels = len(settings.get("levels", LOGSNR_LEVELS))
    for batch in sweep(denoiser, images, layers, views, **settings):
        for key, features in {**batch.features, **(more(batch) if more else {})}.items():
            if key not in found:
                found[key] = Statistics(features.shape[1], levels)
            found[key].add(features, batch.image, batch.level)
    return found
