"""What is asked of both members: settings, the image that they see, maps and checks, and Python to copy."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from app import pairs, sampling, snippets
from app.runs import RUNS, Record
from explore import figures, saliency, zoo
from explore.data import add_noise, to_float
from explore.denoiser import Denoiser
from explore.experiments import Compare, Saliency
from explore.saliency import Attribution, Routes
from explore.seeds import keyed_noise
from explore.values import choose

REGIONS = {"all of it": "all", "the middle": "middle", "upper half": "upper", "lower half": "lower"}
CHECKS = {"curves": "deletion and insertion", "randomization": "reinitialized network"}


def read_settings(
    pair: Any, t: Any, target: Any, method: Any, baseline: Any = "zero", layer: Any = "", at: Any = "", region: Any = "all",
    channel: Any = None, seed: Any = 0, image: str = "", index: int = 0,
) -> Saliency:  # fmt: skip
    """The request of controls or a call, with the pair as its model; layer and view are explicit for the implied clock.

    Raises:
        ValueError: For the first value that is not allowed, saying what is.
    """
    pair = choose("pair", str(pair)[:100], zoo.pairs())
    if len(zoo.pairs()[pair]) < 2:
        raise ValueError(f"{pair} has one member only; choose from {', '.join(pairs.comparable_pairs())}")
    values: dict[str, Any] = {
        "model": pair, "image": image, "index": index, "t": t, "target": target, "method": method, "baseline": baseline,
        "seed": seed,
    }  # fmt: skip
    asked = Saliency.parse(values)
    if asked.target == "implied-clock":
        pairs.clocks(pair)
        values["layer"] = choose("layer", str(layer or default_layer(pair))[:100], read_layers(pair))
        values["view"] = pairs.sharper_view(pair, values["layer"])
    elif asked.target == "x0-region":
        values |= {"box": box(pair, choose("region", str(region)[:100], REGIONS.values())), "channel": channel}
    if at and saliency.SALIENCY[asked.method].domain == "layer":
        values["at"] = choose("layer", str(at)[:100], looked_layers(pair))
    return Saliency.parse(values)


def box(pair: str, region: str) -> str:
    """``top,left,height,width`` of a region."""
    side = pairs.members(pair)[0].resolution
    half, quarter = side // 2, side // 4
    found = {
        "all": (0, 0, side, side), "middle": (quarter, quarter, half, half), "upper": (0, 0, half, side),
        "lower": (half, 0, side - half, side),
    }  # fmt: skip
    return ",".join(map(str, found[region]))


@functools.lru_cache(maxsize=8)
def denoisers(pair: str) -> list[Denoiser]:
    """The members' models in float32: the rounding of bfloat16 would drown completeness. ``attribute`` works on copies."""
    return [zoo.load(info.name, "float32") for info in pairs.members(pair)]


def read_layers(pair: str) -> list[str]:
    """Blocks of which both members have a probe."""
    return [name for name in pairs.probed_layers(pair) if name in pairs.layers(pair)] if pairs.has_clocks(pair) else []


def default_layer(pair: str) -> str:
    """The best block near the data of the time-agnostic member."""
    best, layers = pairs.clocks(pair)[1].best[0], read_layers(pair)
    return best if best in layers else layers[-1]


@functools.lru_cache(maxsize=16)
def looked_layers(pair: str) -> list[str]:
    """Blocks that the layer methods can look at in both members."""
    first, second = (saliency.layers_for(one, "layer-gradcam") for one in denoisers(pair))
    return [name for name in first if name in second]


def unit(asked: Saliency) -> str:
    """Of the target."""
    if asked.target == "implied-clock":
        return figures.UNITS[pairs.clocks(str(asked.model))[0].target]
    return {"noise-norm": "norm", "x0-region": "gray, -1 to 1", "loss": "squared error"}[asked.target]


@dataclass(frozen=True)
class Shown:
    """What the members are shown.

    Attributes:
        xt: (1, C, H, W) for each member.
        ground: uint8 (3, H, W) for each, what maps are laid over: the clean image, or a run's estimate of it.
        x0: The clean image (1, C, H, W), None for a run.
        t: That of ``xt``.
        words: What it is.
        run: Settings of the run, None for an image.
        number: Of the image in the run, from 0.
    """

    xt: list[Tensor]
    ground: list[Tensor]
    x0: Tensor | None
    t: float
    words: str
    run: Compare | None = None
    number: int = 0


def with_noise(asked: Saliency, image: Tensor, words: str) -> Shown:
    """An image uint8 (3, H, W) with noise of the seed up to t, the same for both members."""
    x0 = to_float(image)[None]
    models = denoisers(str(asked.model))
    xt = [add_noise(x0, keyed_noise([asked.seed], one.shape), asked.t, one.schedule) for one in models]
    return Shown(xt, [image, image], x0, asked.t, words)


def run_of(pair: str, session: str) -> Compare:
    """Settings of the session's run in Compare if it is of this pair, else those that suit the pair."""
    held = RUNS.get(session, "comparison")
    return held.settings if held is not None and held.settings.pair == pair else sampling.defaults(pair)


def of_a_run(asked: Saliency, record: Record) -> Shown:
    """The frame nearest to t of a recorded run, of its image with the seed that is asked for."""
    assert record.comparison is not None
    run = record.settings
    steps, number = run.sampling.steps, run.seeds.index(asked.seed)
    frames = [frame for frame in record.comparison.frames if frame.index < steps]
    frame = min(frames, key=lambda frame: abs(frame.t - asked.t))
    xt = [part[number : number + 1] for part in record.states[frame.index]]
    options = "".join(f", {name} {value:g}" for name, value in run.sampling.options.items())
    words = f"step {frame.index} of {steps} ({run.sampling.sampler}{options}) of the run from seed {asked.seed}"
    ground = list(frame.x0_hat[:, number])
    return Shown(xt, ground, None, frame.t, f"{words}; each member its own frame", run, number)


def target_settings(asked: Saliency, shown: Shown, member: int) -> dict[str, Any]:
    """Settings of the target, for one member."""
    found: dict[str, Any] = {"seed": asked.seed, "baseline": asked.baseline}
    if asked.target == "implied-clock":
        found |= {"probe_set": pairs.clocks(str(asked.model))[member], "layer": asked.layer, "view": asked.view}
    elif asked.target == "x0-region":
        found |= {"box": [int(part) for part in str(asked.box).split(",")], "channel": asked.channel}
    elif asked.target == "loss":
        if shown.x0 is None:
            raise ValueError("a frame of a run has no clean image: choose another target, or an image")
        found |= {"x0": shown.x0}
    return found


Part = tuple[str, list[Attribution], list[Routes]]  # what was done last, and what is there so far


def ask(asked: Saliency, shown: Shown) -> Iterator[Part]:
    """Both members' maps, then what comes through the t input, then check by check."""
    pair = str(asked.model)
    members = [(model, shown.xt[k], target_settings(asked, shown, k)) for k, model in enumerate(denoisers(pair))]
    found, checks, through = [], [], []
    for (model, xt, settings), title in zip(members, pairs.titles(pair)):
        record, check = saliency.inquire(model, xt, shown.t, asked.target, asked.method, at=asked.at, **settings)
        found.append(check(record, "completeness"))
        checks.append(check)
        yield f"map of {title}", list(found), []
    for model, xt, settings in members:
        through.append(saliency.routes(model, xt, shown.t, asked.target, **settings))
        yield "what comes through the t input", list(found), list(through)
    for name, words in CHECKS.items():
        for member, check in enumerate(checks):
            found[member] = check(found[member], name)
            yield words, list(found), list(through)


def as_code(asked: Saliency, shown: Shown) -> str:
    """Python that computes both maps: the request's own code, except for a frame of a run, which no request covers."""
    if shown.run is None:
        return asked.code
    pair, run = str(asked.model), shown.run
    named: dict[str, Any] = {"at": asked.at} if asked.at else {}
    named |= {"seed": asked.seed, "baseline": asked.baseline}
    if asked.target == "implied-clock":
        named |= {"probe_set": "=probes.load(model.name)", "layer": asked.layer, "view": asked.view}
    elif asked.target == "x0-region":
        named |= {"box": [int(part) for part in str(asked.box).split(",")], "channel": asked.channel}
    asking = snippets.call("saliency.attribute", "=model", "=x", "=t", asked.target, asked.method, **named)
    return f"""from explore import probes, saliency, zoo
from explore.samplers import Sampling
from explore.seeds import seed_range
{snippets.loaded(pair, "float32")}
{snippets.loaded(pair).replace("models", "runners", 1)}
sampling = {snippets.call("Sampling", **run.sampling.arguments)}
steps = [list(sampling.stream(model, {snippets.seeds(run.seed, run.count)[1:]}))[:-1] for model in runners]
frames = [min(run, key=lambda step: abs(step.t - {shown.t!r})) for run in steps]
xt, t = [frame.xt[{shown.number}:{shown.number + 1}] for frame in frames], frames[0].t
maps = [{asking}.map[0] for model, x in zip(models, xt)]
maps  # (H, W) of each member
"""
