"""The maps and checks of both members, and Python code that reproduces the maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app import pairs, snippets
from app.saliency.settings import Settings, Shown, default_layer, denoisers
from explore import saliency
from explore.experiments import Compare
from explore.saliency import Attribution, Routes

CHECKED = {"completeness": "completeness", "curves": "deletion and insertion", "randomisation": "reinitialized network"}


def box(settings: Settings, side: int) -> tuple[int, int, int, int]:
    half, quarter = side // 2, side // 4
    return {
        "all": (0, 0, side, side), "middle": (quarter, quarter, half, half), "upper": (0, 0, half, side),
        "lower": (half, 0, side - half, side),
    }[settings.region]  # fmt: skip


def read_at(settings: Settings) -> tuple[str, str]:
    """Block and view whose probe is read, the sharper view where both members have it."""
    layer = settings.layer or default_layer(settings.pair)
    return layer, "mean_std" if all(layer in one.layers("mean_std") for one in pairs.clocks(settings.pair)) else "mean"


def asked(settings: Settings, shown: Shown, member: int) -> dict[str, Any]:
    """Settings of the target, for one member."""
    found: dict[str, Any] = {"seed": settings.seed, "baseline": settings.baseline}
    if settings.target == "implied-clock":
        clock = pairs.clocks(settings.pair)[member]
        layer, view = read_at(settings)
        found |= {"clock": clock, "layer": layer, "view": view}
    elif settings.target == "x0-region":
        side = denoisers(settings.pair)[member].shape[-1]
        found |= {"box": box(settings, side), "channel": None if settings.channel < 0 else settings.channel}
    elif settings.target == "loss":
        if shown.x0 is None:
            raise ValueError("a frame of a run has no clean picture: choose another target, or a picture")
        found |= {"x0": shown.x0}
    return found


Part = tuple[str, list[Attribution], list[Routes]]  # what was done last, and what is there so far


def ask(settings: Settings, shown: Shown, quick: bool = False) -> Iterator[Part]:
    """Both members' maps, then check by check, then what comes through the t input.

    Args:
        settings: What is asked.
        shown: What of.
        quick: Leave out the curves and the parameters drawn anew.
    """
    models, found, checks = denoisers(settings.pair), [], []
    for member, model in enumerate(models):
        record, check = saliency.inquire(
            model, shown.xt[member], shown.t, settings.target, settings.method, at=settings.at or None,
            **asked(settings, shown, member),
        )  # fmt: skip
        found.append(check(record, "completeness"))
        checks.append(check)
        yield f"map of {pairs.titles(settings.pair)[member]}", list(found), []
    through: list[Routes] = []
    for member, model in enumerate(models):
        through.append(
            saliency.routes(model, shown.xt[member], shown.t, settings.target, **asked(settings, shown, member))
        )  # fmt: skip
        yield "what comes through the t input", list(found), list(through)
    if quick:
        return
    for name in ("curves", "randomisation"):
        for member, check in enumerate(checks):
            found[member] = check(found[member], name)
            yield CHECKED[name], list(found), list(through)


def as_code(settings: Settings, source: str, picture: int, run: Compare) -> str:
    """Python that makes both maps.

    Args:
        settings: What is asked.
        source: Of ``SOURCES``.
        picture: Number of the bundled picture, from 1.
        run: What is sampled for a frame of a run.
    """
    pair, seed = settings.pair, settings.seed
    info = pairs.members(pair)[0]
    if source == "run":
        sampling = snippets.call("Sampling", **run.sampling.arguments)
        lines = [
            "from explore.samplers import Sampling",
            snippets.loaded(pair).replace("models", "runners", 1),  # the run in its own precision, the maps in float32
            f"sampling = {sampling}",
            f"steps = [list(sampling.stream(model, [{seed}]))[:-1] for model in runners]",
            f"frames = [min(run, key=lambda step: abs(step.t - {settings.t!r})) for run in steps]",
            "xt, t = [frame.xt for frame in frames], frames[0].t",
        ]
    else:
        noise = snippets.call("keyed_noise", [seed], "=model.shape")
        lines = [
            *snippets.pictured(info.dataset, info.resolution, None if source == "upload" else picture),
            "x0 = to_float(picture)[None]",
            f"t = {settings.t!r}",
            f"xt = [add_noise(x0, {noise}, t, model.schedule) for model in models]",
        ]
    named: dict[str, Any] = {"at": settings.at} if settings.at else {}
    named |= {"seed": seed, "baseline": settings.baseline}
    if settings.target == "implied-clock":
        layer, view = read_at(settings)
        named |= {"clock": "=probes.load(model.name)", "layer": layer, "view": view}
    elif settings.target == "x0-region":
        channel = None if settings.channel < 0 else settings.channel
        named |= {"box": box(settings, denoisers(pair)[0].shape[-1]), "channel": channel}
    elif settings.target == "loss":
        named |= {"x0": "=x0"}
    asking = snippets.call("saliency.attribute", "=model", "=x", "=t", settings.target, settings.method, **named)
    return "\n".join(
        [
            "from explore import probes, saliency, zoo",
            snippets.loaded(pair, "float32"),
            *lines,
            f"maps = [{asking}.map[0] for model, x in zip(models, xt)]",
            "maps  # (H, W) of each member",
            "",
        ]
    )
