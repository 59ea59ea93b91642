"""Settings of the tab Saliency, the models it attributes, and what they are shown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from app import pairs, runs, ui
from app import sampling as sampling_controls
from explore import saliency, zoo
from explore.activations import hook_points
from explore.data import add_noise, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.experiments import Compare
from explore.seeds import MAX_SEED, keyed_noise
from explore.values import choose

REGIONS = {"all of it": "all", "the middle": "middle", "upper half": "upper", "lower half": "lower"}


@dataclass(frozen=True)
class Settings:
    """What is asked.

    Attributes:
        pair: A pair of the checkpoint index.
        t: Noise level of the picture, above 0 and at most 1.
        target, method, baseline: Keys of the registries of :mod:`explore.saliency`.
        layer: Whose probe is read.
        at: Block that layer methods look at; empty for the default.
        region: Of ``REGIONS``, for x0-region; ``channel`` -1 for all.
        seed: Of the noise, or of the sampling run.
    """

    pair: str
    t: float
    target: str
    method: str
    baseline: str
    layer: str
    at: str
    region: str
    channel: int
    seed: int


def read_settings(
    pair: Any, t: Any, target: Any, method: Any, baseline: Any = "zero", layer: Any = "", at: Any = "", region: Any = "all",
    channel: Any = -1, seed: Any = 0,
) -> Settings:  # fmt: skip
    """Settings from controls or a call, each checked.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    pair = pairs.known(pair)
    if len(zoo.pairs()[pair]) < 2:
        raise ValueError(f"{pair} has one member only; choose from {', '.join(pairs.comparable_pairs())}")
    method = str(method)[:100]
    if method in saliency.NEVER_OFFERED:
        raise ValueError(f"{method} is not available: {saliency.NEVER_OFFERED[method]}")
    settings = Settings(
        pair,
        ui.number("t", t, 0, 1, above=True),
        choose("target", str(target)[:100], saliency.TARGETS),
        choose("method", method, saliency.SALIENCY),
        choose("baseline", str(baseline)[:100], saliency.BASELINES),
        str(layer or "")[:100],
        str(at or "")[:100] if saliency.SALIENCY[method].domain == "layer" else "",
        choose("region", str(region)[:100], REGIONS.values()),
        int(ui.number("channel", channel, -1, 2, whole=True)),
        int(ui.number("the seed", seed, 0, MAX_SEED, whole=True)),
    )
    if settings.target == "implied-clock":
        pairs.clocks(pair)
        choose("layer", settings.layer or default_layer(pair), read_layers(pair))
    if settings.at:
        choose("layer", settings.at, looked_layers(pair))
    return settings


@functools.lru_cache(maxsize=8)
def denoisers(pair: str) -> list[Denoiser]:
    """The members' models in float32: the rounding of bfloat16 would drown completeness. ``attribute`` works on copies."""
    return [zoo.load(info.name, "float32") for info in pairs.members(pair)]


@functools.lru_cache(maxsize=16)
def read_layers(pair: str) -> list[str]:
    """Blocks of which both members have a probe."""
    if not pairs.has_clock(pair):
        return []
    return [name for name in pairs.shared_layers(pair) if name in hook_points(denoisers(pair)[0])]


def default_layer(pair: str) -> str:
    """The best block near the data of the time-agnostic member."""
    best, layers = pairs.clocks(pair)[1].best[0], read_layers(pair)
    return best if best in layers else layers[-1]


@functools.lru_cache(maxsize=16)
def looked_layers(pair: str) -> list[str]:
    """Blocks that the layer methods can look at in both members."""
    first, second = (saliency.layers_for(one, "layer-gradcam") for one in denoisers(pair))
    return [name for name in first if name in second]


@dataclass(frozen=True)
class Shown:
    """What the members are shown.

    Attributes:
        xt: (1, C, H, W) for each member.
        ground: uint8 (3, H, W) for each, what maps are laid over: the clean picture, or a run's estimate of it.
        x0: The clean picture (1, C, H, W), None for a run.
        t: That of ``xt``.
        words: What it is.
    """

    xt: list[Tensor]
    ground: list[Tensor]
    x0: Tensor | None
    t: float
    words: str


def with_noise(settings: Settings, picture: Tensor, words: str) -> Shown:
    """A picture uint8 (3, H, W) with noise of the seed up to t, the same for both members."""
    x0 = to_float(picture)[None]
    models = denoisers(settings.pair)
    xt = [add_noise(x0, keyed_noise([settings.seed], one.shape), settings.t, one.schedule) for one in models]
    return Shown(xt, [picture, picture], x0, settings.t, words)


def run_of(pair: str, session: str) -> Compare:
    """Settings of the session's run in Compare if it is of this pair, else those that suit the pair."""
    held = runs.RUNS.get(session)
    return held.settings if held is not None and held.settings.pair == pair else sampling_controls.defaults(pair)


def of_a_run(settings: Settings, run: Compare, at: Callable[[float, str], Any]) -> Shown:
    """The frame nearest to t of the run that each member samples from the seed.

    Args:
        settings: What is asked; its seed is the image's.
        run: The sampler and its settings; of the same pair.
        at: Is told the progress, as :meth:`app.works.Work.at`.
    """
    steps, found = run.sampling.steps, []
    for number, model in enumerate(pairs.denoisers(settings.pair)):
        nearest = None
        for step in run.sampling.stream(model, [settings.seed]):
            at((number + step.index / steps) / 2, f"Sampling: step <b>{step.index}</b> of {steps}")
            if step.index < steps and (nearest is None or abs(step.t - settings.t) < abs(nearest.t - settings.t)):
                nearest = step
            if step.t < settings.t - 0.5:
                break
        assert nearest is not None
        found.append(nearest)
    ground = [to_uint8(step.x0_hat)[0] for step in found]
    options = "".join(f", {name} {value:g}" for name, value in run.sampling.options.items())
    words = f"step {found[0].index} of {steps} ({run.sampling.sampler}{options}) of the run from seed {settings.seed}"
    return Shown([step.xt for step in found], ground, None, found[0].t, f"{words}; each member its own frame")
