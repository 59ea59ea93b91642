"""The tab Saliency: which pixels the members of a pair read one number from, side by side on one colour scale.

A picture (bundled, uploaded, or a frame of a sampling run), a noise level, a target and a method are chosen; the maps come
first, then what makes them believable: completeness, deletion and insertion, the maps of parameters drawn anew, and how much
comes through what the network is told of the time. The work is that of :mod:`explore.saliency`; this file reads the settings,
shows what comes while it comes, and puts it into words.
"""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import pairs, runs, snippets, ui, works
from app import sampling as sampling_controls
from app.works import Work
from explore import figures, saliency, zoo
from explore.activations import hook_points
from explore.data import add_noise, to_float, to_uint8
from explore.denoiser import Denoiser
from explore.experiments import Compare
from explore.saliency import Attribution, Routes
from explore.seeds import MAX_SEED, keyed_noise
from explore.values import choose

SOURCES = {"a bundled picture": "bank", "my own picture": "upload", "a frame of the run in Compare": "run"}
TARGETS = {
    "implied clock of a block": "implied-clock",
    "norm of the predicted noise": "noise-norm",
    "region of the estimate x0_hat": "x0-region",
    "error against the clean picture": "loss",
}
METHODS = {
    "Integrated Gradients": "integrated-gradients",
    "gradient (saliency)": "saliency",
    "SmoothGrad": "smoothgrad",
    "input x gradient": "input-x-gradient",
    "occlusion": "occlusion",
    "bands of frequency, one left out at a time": "frequency-ablation",
    "GradCAM at a block": "layer-gradcam",
    "conductance of a block": "layer-conductance",
}
BASELINES = {"mid-grey, no noise": "zero", "the picture, blurred": "blurred", "flat, with as much noise": "matched-noise"}
REGIONS = {"all of it": "all", "the middle": "middle", "upper half": "upper", "lower half": "lower"}
CHANNELS = {"all channels": -1, "red": 0, "green": 1, "blue": 2}
# Name -> t, target, method, of a bundled picture.
EXAMPLES = {
    "the clock, near the data": (0.1, "implied-clock", "integrated-gradients"),
    "the clock, in the noise": (0.8, "implied-clock", "integrated-gradients"),
    "the clock, by frequency": (0.1, "implied-clock", "frequency-ablation"),
    "the predicted noise": (0.3, "noise-norm", "occlusion"),
}
CHECKED = {"completeness": "completeness", "curves": "deletion and insertion", "randomisation": "parameters drawn anew"}
NEVER = ", ".join(saliency.NEVER_OFFERED)


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


# Models ------------------------------------------------------------------------------------------------------------------


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
    """The best block near the data of the member that is never told."""
    best, layers = pairs.clocks(pair)[1].best[0], read_layers(pair)
    return best if best in layers else layers[-1]


@functools.lru_cache(maxsize=16)
def looked_layers(pair: str) -> list[str]:
    """Blocks that the layer methods can look at in both members."""
    first, second = (saliency.layers_for(one, "layer-gradcam") for one in denoisers(pair))
    return [name for name in first if name in second]


# The pictures that are asked about -------------------------------------------------------------------------------------------


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


# Asking -------------------------------------------------------------------------------------------------------------------


def _box(settings: Settings, side: int) -> tuple[int, int, int, int]:
    half, quarter = side // 2, side // 4
    return {
        "all": (0, 0, side, side), "middle": (quarter, quarter, half, half), "upper": (0, 0, half, side),
        "lower": (half, 0, side - half, side),
    }[settings.region]  # fmt: skip


def _read_at(settings: Settings) -> tuple[str, str]:
    """Block and view whose probe is read, the sharper view where both members have it."""
    layer = settings.layer or default_layer(settings.pair)
    return layer, "mean_std" if all(layer in one.layers("mean_std") for one in pairs.clocks(settings.pair)) else "mean"


def asked(settings: Settings, shown: Shown, member: int) -> dict[str, Any]:
    """Settings of the target, for one member."""
    found: dict[str, Any] = {"seed": settings.seed, "baseline": settings.baseline}
    if settings.target == "implied-clock":
        clock = pairs.clocks(settings.pair)[member]
        layer, view = _read_at(settings)
        found |= {"clock": clock, "layer": layer, "view": view}
    elif settings.target == "x0-region":
        side = denoisers(settings.pair)[member].shape[-1]
        found |= {"box": _box(settings, side), "channel": None if settings.channel < 0 else settings.channel}
    elif settings.target == "loss":
        if shown.x0 is None:
            raise ValueError("a frame of a run has no clean picture: choose another target, or a picture")
        found |= {"x0": shown.x0}
    return found


Part = tuple[str, list[Attribution], list[Routes]]  # what was done last, and what is there so far


def ask(settings: Settings, shown: Shown, quick: bool = False) -> Iterator[Part]:
    """Both members' maps, then check by check, then what comes through the clock.

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
        yield "what comes through the clock", list(found), list(through)
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
        layer, view = _read_at(settings)
        named |= {"clock": "=probes.load(model.name)", "layer": layer, "view": view}
    elif settings.target == "x0-region":
        channel = None if settings.channel < 0 else settings.channel
        named |= {"box": _box(settings, denoisers(pair)[0].shape[-1]), "channel": channel}
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


# What the page shows -----------------------------------------------------------------------------------------------------


def unit(settings: Settings) -> str:
    """Of the target."""
    if settings.target == "implied-clock":
        return figures.UNITS[pairs.clocks(settings.pair)[0].target]
    return {"noise-norm": "norm", "x0-region": "grey, -1 to 1", "loss": "squared error"}[settings.target]


def maps_figure(settings: Settings, shown: Shown, found: list[Attribution]) -> Any:
    """Both maps on one scale."""
    grounds = [one.permute(1, 2, 0).tolist() for one in shown.ground]
    maps = [one.map[0].tolist() for one in found]
    signed = found[0].signed
    value = f"contribution, {unit(settings)}" if signed else "sensitivity"
    if found[0].domain == "frequencies":
        grounds = [[[[128]] * len(line) for line in one] for one in maps]
        value = f"change, {unit(settings)}"
    limit = saliency.scale_of([one.map for one in found])
    return figures.saliency_maps(
        grounds, maps, pairs.titles(settings.pair), limit, signed=signed, value=value, colours=pairs.colors(settings.pair)
    )


def curves_figure(settings: Settings, found: list[Attribution]) -> Any:
    """Deletion and insertion of both members."""
    curves = [one.quality["curves"] for one in found]
    return figures.deletion_curves(curves, pairs.titles(settings.pair), unit(settings), pairs.colors(settings.pair))


def routes_figure(settings: Settings, through: list[Routes]) -> Any:
    """What comes through the clock, block by block."""
    parts = [one.to_json() for one in through]
    return figures.routes_bars(parts, pairs.titles(settings.pair), pairs.colors(settings.pair), unit(settings))


def pictures_view(pair: str, shown: Shown | None) -> str:
    """What the members are shown."""
    if shown is None:
        return ""
    title = "the clean picture" if shown.x0 is not None else "what it takes the picture to be"
    cells = []
    same = torch.equal(shown.xt[0], shown.xt[1])
    for number, (name, colour) in enumerate(zip(pairs.titles(pair), pairs.colors(pair))):
        if same and number:
            break
        who, tint = ("both", "#7f7f7f") if same else (name, colour)
        seen = ui.picture(to_uint8(shown.xt[number]), f"what {who} sees")
        cells.append(ui.cell("seen", tint, f"shown to {who}", f"t = {shown.t:.3f}", seen))
        cells.append(ui.cell("ground", tint, title, "", ui.picture(shown.ground[number][None], title)))
    return f'<div class="pictures saliency-shown">{"".join(cells)}</div>'


def _share(value: float | None) -> str:
    return "does not apply" if value is None else f"{value:.2%}" if value < 0.1 else f"{value:.0%}"


def quality_table(settings: Settings, found: list[Attribution], through: list[Routes]) -> str:
    """The figures beside the maps, as far as they are there."""

    def row(name: str, pick: Callable[[int], str]) -> list[str]:
        return [name, *(pick(number) for number in range(len(found)))]

    def completeness(number: int) -> str:
        part = found[number].quality.get("completeness")
        if part is None:
            return "does not apply to this method"
        if found[number].domain == "layer":
            return f"{part['share']:.0%} passes through the block"
        return f"misses by {part['relative_gap']:.2%} in {found[number].steps} steps"

    def area(name: str) -> Callable[[int], str]:
        def pick(number: int) -> str:
            curves = found[number].quality.get("curves")
            if curves is None:
                return "does not apply" if found[number].domain == "frequencies" else "&hellip;"
            return f"{curves[f'{name}_area']:.3f} <small>(random order {curves[f'{name}_random_area']:.3f})</small>"

        return pick

    def drawn(number: int) -> str:
        check = found[number].quality.get("randomisation")
        if check is None:
            return "&hellip;"
        if check["rank_correlation"] is None:
            return f"not defined <small>({html.escape(check['why'])})</small>"
        passed = "passes" if check["passes"] else "<b>fails</b>"
        return f"{check['rank_correlation']:+.2f}, of sizes {check['of_sizes']:+.2f}: {passed}"

    def clock(number: int) -> str:
        if number >= len(through):
            return "&hellip;"
        way = through[number]
        return "0, by definition" if way.steps == 0 and not way.clock.any() else f"{way.clock[0]:+.3f}"

    place = f"{found[0].layer} <small>({found[0].view})</small>" if found[0].layer else "the network's output"
    lines = [
        row("read from", lambda number: place),
        row("value of the target", lambda number: f"{found[number].output[0]:.3f}"),
        row("completeness of the map", completeness),
        row("change by deleting", area("deletion")),
        row("distance while inserting", area("insertion")),
        row("rank correlation with parameters drawn anew", drawn),
        row("contribution of what it is told", clock),
        row("contribution of the picture", lambda n: f"{through[n].picture[0]:+.3f}" if n < len(through) else "&hellip;"),
    ]
    if found[0].band_shares is not None:
        high = [saliency.high_pass(one.band_shares[0]).item() for one in found if one.band_shares is not None]
        lines.append(["share above a quarter of a cycle a pixel", *(_share(one) for one in high)])
    head = [
        f'<i class="swatch" style="background:{colour}"></i>{html.escape(title)}'
        for title, colour in zip(pairs.titles(settings.pair), pairs.colors(settings.pair))
    ][: len(found)]
    said = [f"{html.escape(one.model)}: {html.escape(note)}" for one in found for note in one.notes]
    notes = "".join(f"<li>{note}</li>" for note in said)
    return ui.table("", ["", *head], lines) + (f"<ul class='note'>{notes}</ul>" if notes else "")


NOTE = (
    "<p class='note'>Green adds to the target, purple takes from it, in the target's own unit; both maps have one scale. The "
    "picture shows through where there is little. <b>Deleting</b>: pixels in the map's order get the picture's mean colour and "
    "noise of the same level, so that the noise level stays; the change should be larger than in a random order. "
    "<b>Inserting</b> is the way back; the distance should be smaller. <b>Parameters drawn anew</b>: a map that a network "
    "which learned nothing gives too (rank correlation of 0.3 or more) says nothing of this one. Not on offer: "
    f"{NEVER}, which on these networks do not run or silently give something else.</p>"
)
CSS = """
.saliency-shown { grid-template-columns: repeat(4, minmax(0, 1fr)); max-width: 40rem; }
#saliency-table ul.note { padding-left: 1.1rem; margin-top: 6px; }
@media (max-width: 640px) { .saliency-shown { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""


def warm_up() -> None:
    """Imports what the first use would wait for."""
    import captum.attr  # noqa: F401
    import scipy.stats  # noqa: F401


@functools.lru_cache(maxsize=16)
def _method_menu(pair: str) -> list[tuple[str, str]]:
    """Methods that work on both members, by label."""
    refused = {name for one in denoisers(pair) for name, why in saliency.offered(one).items() if why}
    return [(label, name) for label, name in METHODS.items() if name not in refused]


def empty(pair: str) -> str:
    """Where the maps will be."""
    what = "which pixels its number is read from"
    return ui.waiting([(title, what, colour) for title, colour in zip(pairs.titles(pair), pairs.colors(pair))])


def target_note(target: str) -> str:
    """What is shared out over the picture."""
    what = saliency.TARGETS[target].what
    return f"{what[0].upper()}{what[1:]}."


def method_note(method: str) -> str:
    """How it is shared out."""
    what = saliency.SALIENCY[method].what
    return f"{what[0].upper()}{what[1:]}."


def _target_menu(pair: str) -> list[tuple[str, str]]:
    return [(label, name) for label, name in TARGETS.items() if name != "implied-clock" or pairs.has_clock(pair)]


def tour() -> list[ui.Stop]:
    """The first example."""
    return [
        ui.Stop(
            "Pixels",
            "Which pixels does it read the noise level from?",
            "Green adds to the reading, purple takes from it, on one scale for both. Before you believe a map, look at the "
            "table: does it add up to the reading, and does a network with parameters drawn anew give another one?",
            "saliency-maps",
            "saliency-example-1",
        )
    ]


def build(page: gr.Blocks) -> None:
    """Lays out the tab and connects it."""
    able = pairs.comparable_pairs()
    opening = next((pair for pair in able if pairs.has_clock(pair)), able[0])
    layers, looked = read_layers(opening), looked_layers(opening)
    targets = _target_menu(opening)
    with gr.Column(elem_classes="tab-section"):
        ui.heading(
            "saliency-maps",
            "Which pixels is it read from?",
            "One number of each network is shared out over the picture it is shown: the noise level that it takes the picture "
            "to have, the noise that it predicts, or a part of the picture that it sees behind the noise.",
        )
        ready = ui.examples("saliency", EXAMPLES)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pair = pairs.menu(able, opening, "saliency")
                source = gr.Radio(
                    list(SOURCES.items()), value="bank", label="Shown", info="What both members look at.",
                    elem_id="saliency-source",
                )  # fmt: skip
                number, upload = ui.picture_controls("saliency", len(pairs.bank(opening)), visible=False)
                t = gr.Slider(
                    0.02, 1.0, 0.3, step=0.02, label="Noise level t", buttons=[], elem_id="saliency-t",
                    info="Noise up to here is added (1: nothing else); of a run, the frame nearest to it.",
                )  # fmt: skip
                seed = gr.Number(0, label="Seed", info="of the noise, or of an image in Compare", elem_id="saliency-seed")
                target = gr.Dropdown(
                    targets, value=targets[0][1], label="Target", filterable=False, elem_id="saliency-target",
                    info=target_note(targets[0][1]),
                )  # fmt: skip
                layer = gr.Dropdown(
                    layers, value=default_layer(opening) if layers else None, label="Block whose clock is read",
                    info="Its probe's reading is shared out.", filterable=False, visible=targets[0][1] == "implied-clock",
                    elem_id="saliency-layer",
                )  # fmt: skip
                with gr.Row(visible=False) as region_row:
                    region = gr.Dropdown(
                        list(REGIONS.items()), value="middle", label="Region", filterable=False, elem_id="saliency-region",
                        min_width=100, info="Of x0_hat.",
                    )  # fmt: skip
                    channel = gr.Dropdown(
                        list(CHANNELS.items()), value=-1, label="Channel", filterable=False, elem_id="saliency-channel",
                        min_width=100, info="Of x0_hat.",
                    )  # fmt: skip
                method = gr.Dropdown(
                    _method_menu(opening), value="integrated-gradients", label="Method", filterable=False,
                    elem_id="saliency-method", info=method_note("integrated-gradients"),
                )  # fmt: skip
                at = gr.Dropdown(
                    looked, value=looked[0] if looked else None, label="Block that the method looks at", filterable=False,
                    info="Its positions are shown in place of pixels.", visible=False, elem_id="saliency-at",
                )  # fmt: skip
                baseline = gr.Dropdown(
                    list(BASELINES.items()), value="zero", label="Counted from", filterable=False, elem_id="saliency-baseline",
                    info="The baseline: what stands for a pixel that is not there.",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt = ui.go_and_stop("Show the maps", "saliency")
                status = gr.HTML(ui.status(ui.READY), elem_id="saliency-status")
                pictures = gr.HTML(empty(opening), elem_id="saliency-pictures")
                maps = ui.plot("Maps", "saliency-figure")
                table = gr.HTML("", elem_id="saliency-table")
                curves = ui.plot("Deletion and insertion", "saliency-curves")
                ways = ui.plot("Through the clock", "saliency-routes")
                code = ui.code_part("saliency")
                gr.HTML(NOTE)

    def run(
        work: Work, pair: str, source: str, number: float, path: str | None, t: float, seed: float, target: str, layer: str,
        region: str, channel: int, method: str, at: str, baseline: str,
    ) -> Generator[dict[Any, Any]]:  # fmt: skip
        """Maps, then checks, of both members."""
        began = time.monotonic()
        settings = read_settings(pair, t, target, method, baseline, layer, at, region, channel, seed)
        yield {table: "", pictures: "", **dict.fromkeys((maps, curves, ways))}
        live = run_of(pair, work.session)
        if source == "run":
            shown = of_a_run(settings, live, work.at)
        elif source == "upload" and not path:
            raise ValueError("upload a picture first")
        else:
            _, picture, words = pairs.chosen(pair, number, path if source == "upload" else None)
            shown = with_noise(settings, picture, words)
        # Of messages that come together the page may pass over all but the last, so that one has everything once more.
        whole: dict[Any, Any] = {pictures: pictures_view(pair, shown)}
        yield {**whole, status: ui.status("The first map.")}
        total = 2 * (2 + (saliency.SALIENCY[method].domain != "frequencies") + 1)
        found: list[Attribution] = []
        through: list[Routes] = []
        for done, (words, found, through) in enumerate(ask(settings, shown), start=1):
            work.at(done / total, f"Done: {html.escape(words)}")
            change: dict[Any, Any] = {}
            if len(found) == 2:
                change[table] = quality_table(settings, found, through)
                if done == 2:
                    change[maps] = maps_figure(settings, shown, found)
                if len(through) == 2 and done == 4:
                    change[ways] = routes_figure(settings, through)
                if curves not in whole and all("curves" in one.quality for one in found):
                    change[curves] = curves_figure(settings, found)
            whole |= change
            yield change
        what = f" {html.escape(shown.words[:1].upper() + shown.words[1:])}." if shown.words else ""
        yield {
            **whole,
            code: as_code(settings, source, int(number), live),
            status: ui.status(f"<b>Finished</b> after {time.monotonic() - began:.1f} s.{what}", 1.0),
        }

    def on_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        works.WORKS.end(str(request.session_hash), "saliency")
        count, targets, layers, looked = len(pairs.bank(pair)), _target_menu(pair), read_layers(pair), looked_layers(pair)
        return {
            number: gr.update(maximum=max(2, count), value=1, interactive=count > 1),
            target: gr.update(choices=targets, value=targets[0][1], info=target_note(targets[0][1])),
            layer: gr.update(choices=layers, value=default_layer(pair) if layers else None, visible=bool(layers)),
            region_row: gr.update(visible=False),
            method: gr.update(choices=_method_menu(pair)),
            at: gr.update(choices=looked, value=looked[0] if looked else None),
            status: ui.status(ui.READY), pictures: empty(pair), table: "",
            **dict.fromkeys((maps, curves, ways)),
        }  # fmt: skip

    def picked(source: str, pair: str, request: gr.Request) -> dict[Any, Any]:
        first = run_of(pairs.known(pair), str(request.session_hash)).seed
        return {
            number: gr.update(visible=source == "bank"), upload: gr.update(visible=source == "upload"),
            seed: first if source == "run" else gr.skip(),
        }  # fmt: skip

    def aimed(target: str) -> dict[Any, Any]:
        return {
            target_part: gr.update(info=target_note(target)),
            layer: gr.update(visible=target == "implied-clock"), region_row: gr.update(visible=target == "x0-region"),
        }  # fmt: skip

    def fitted(method: str) -> dict[Any, Any]:
        uses = saliency.SALIENCY[method].uses
        return {
            method_part: gr.update(info=method_note(method)),
            at: gr.update(visible="at" in uses), baseline: gr.update(visible="baseline" in uses),
        }  # fmt: skip

    target_part, method_part = target, method  # the listeners' arguments bear these names
    parts = [status, pictures, maps, table, curves, ways, code, halt]
    asked_for = [pair, source, number, upload, t, seed, target, layer, region, channel, method, at, baseline]
    event = ui.on_run("saliency", go, halt, status, run, asked_for, parts)
    ui.stops("saliency", [event], halt, status)
    pair.input(
        on_pair, pair,
        [number, target, layer, region_row, method, at, status, pictures, table, maps, curves, ways], **ui.AT_ONCE,
    )  # fmt: skip
    source.input(picked, [source, pair], [number, upload, seed], **ui.AT_ONCE)
    target.input(aimed, target, [target, layer, region_row], **ui.AT_ONCE)
    method.input(fitted, method, [method, at, baseline], **ui.AT_ONCE)
    for name, button in ready.items():

        def example(pair: str, name: str = name) -> dict[Any, Any]:
            noise_level, aim, way = EXAMPLES[name]
            pairs.known(pair)
            if aim == "implied-clock" and not pairs.has_clock(pair):  # the menu lacks it, as no probe was fitted
                aim = "noise-norm"
            changes: dict[Any, Any] = {number: gr.update(visible=True, value=1), upload: gr.update(visible=False)}
            changes |= {source: "bank", t: noise_level, seed: 0, baseline: gr.update(value="zero")} | aimed(aim)
            for part, change in fitted(way).items():
                changes[part] = {**changes.get(part, {}), **change}
            changes[target]["value"], changes[method]["value"] = aim, way
            return changes

        outputs = [number, upload, source, t, seed, target, layer, region_row, method, at, baseline]
        ui.on_example(button, "saliency-go", example, pair, outputs)
    page.unload(works.forget)
    _endpoint(opening)


def _endpoint(opening: str) -> None:
    """The named endpoint ``/saliency`` for gradio_client, on components that the page does not show."""

    @works.remembered
    def ask_both(
        picture: str, pair: str = opening, t: float = 0.3, target: str = "implied-clock",
        method: str = "integrated-gradients", layer: str = "", baseline: str = "zero", seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Which pixels of a picture with noise each member of a pair reads one number from.

        Args:
            picture: A picture file: PNG, JPEG, WebP, BMP or GIF.
            pair: A pair of models, such as celeba32-unet-velocity.
            t: Noise level, above 0 and at most 1.
            target: implied-clock, noise-norm, x0-region (all of it) or loss.
            method: saliency, integrated-gradients, smoothgrad, input-x-gradient, occlusion, frequency-ablation, layer-gradcam
                or layer-conductance.
            layer: Block whose clock is read; empty for the best one of the member that is never told.
            baseline: zero, blurred or matched-noise.
            seed: Of the noise, 0 to 2^32 - 1.

        Returns:
            Settings; the scale that both maps share; and for each member, by name, its map as rows of numbers, the target's
            value, completeness, and the contributions of the picture and of what the network is told.
        """
        try:
            if not picture:
                raise ValueError("a picture is needed")
            settings = read_settings(pair, t, target, method, baseline, layer, seed=seed)
            found, words = pairs.read_picture(picture, pairs.members(settings.pair)[0].resolution)
            shown = with_noise(settings, found, words)
            *_, (_, records, through) = ask(settings, shown, quick=True)
        except ValueError as error:
            raise ui.visible(error) from error
        return {
            **{name: getattr(settings, name) for name in ("pair", "t", "target", "method", "baseline", "seed")},
            "layer": records[0].layer, "picture": words, "scale": saliency.scale_of([one.map for one in records]),
            "members": {
                one.model: {
                    "map": [[round(value, 6) for value in line] for line in one.map[0].tolist()],
                    "value": one.output[0].item(), "completeness": one.quality.get("completeness"),
                    "picture": way.picture[0].item(), "clock": way.clock[0].item(), "notes": list(one.notes),
                }
                for one, way in zip(records, through)
            },
        }  # fmt: skip

    shown: list[Any] = [
        gr.File(label="picture", type="filepath", visible=False),
        gr.Textbox(opening, label="pair", visible=False),
        gr.Number(0.3, label="t", visible=False),
        gr.Textbox("implied-clock", label="target", visible=False),
        gr.Textbox("integrated-gradients", label="method", visible=False),
        gr.Textbox("", label="layer", visible=False),
        gr.Textbox("zero", label="baseline", visible=False),
        gr.Number(0, label="seed", visible=False),
    ]
    answer = gr.JSON(label="saliency", visible=False)
    gr.Button("saliency", visible=False).click(
        ask_both, shown, answer, api_name="saliency", concurrency_id=ui.MODEL_QUEUE, concurrency_limit=1
    )
