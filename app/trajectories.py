"""The tab Trajectories: the paths that both members of a pair take from the same noise, on one map.

The work is :func:`explore.trajectories.follow` and :func:`explore.trajectories.project`. A run records both paths in every
space at once, so that space, projection and colour of the map can be changed without another run. Map and pictures are
linked: a point of the map that is clicked, or a picture, sets the sliders for image and step, and the sliders move both
members' markers on the map in the page itself, which leaves its zoom and its camera as they are. Depends on common, compare
(settings, runs that are held) and clock (probes, copies of the models).
"""

from __future__ import annotations

import contextlib
import functools
import html
import json
import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import clock, common, compare
from app.compare import defaults, read_settings, shown_values
from explore import encoder, figures, files, trajectories
from explore.activations import hook_points
from explore.data import to_uint8
from explore.experiments import Compare
from explore.probes import Clock
from explore.samplers import MAX_STEPS, SAMPLERS
from explore.samplers import options as sampler_options
from explore.trajectories import MAX_IMAGES, Map, Trajectories
from explore.values import choose

UPDATE_SECONDS = 0.15  # pictures that come faster are not sent
VIEW = "mean_std"  # of the activations that are recorded
MAX_MAPS = 12  # of a run, kept for when they are asked for again
SPACES = {"state xt": "xt", "estimate x0_hat": "x0_hat"}
PROJECTIONS = {"PCA": "pca", "UMAP": "umap"}
COLOURS = {"member": "member", "true t": "t", "implied t": "implied-t", "class": "class"}
FILES = {"npz": "npz: paths", "json": "JSON: figures", "html": "HTML: map", "gif": "GIF: film", "png": "PNG: images"}
KIND = "paths"
UMAP_COMPILED = threading.Event()
MAPS: dict[str, Any] = {**common.QUIET, "concurrency_id": "maps", "concurrency_limit": 1}


# Runs ----------------------------------------------------------------------------------------------------------------


@dataclass
class Run(compare.Run):
    """The last run of a session: its recorded paths and the maps drawn of them."""

    paths: Trajectories | None = None
    maps: dict[tuple[str, str, int], Map] = field(default_factory=dict)

    def complete(self) -> bool:
        """Whether its paths are there."""
        return self.paths is not None

    def take(self, other: compare.Run) -> None:
        """Paths and maps of a complete run of the same settings."""
        assert isinstance(other, Run)
        self.paths, self.maps, self.seconds, self.again = other.paths, dict(other.maps), other.seconds, True

    def bytes(self) -> int:
        """Of the recorded points when the run is complete, float16."""
        settings = self.settings
        denoiser = common.denoisers(settings.pair)[0]
        features = 2 * sum(point.channels for point in hook_points(denoiser).values())
        kept = min(
            settings.sampling.steps + 1, trajectories.PATH_POINTS, max(2, trajectories.MAP_POINTS // (2 * settings.count))
        )
        return 2 * 2 * kept * settings.count * (2 * math.prod(denoiser.shape) + features)


RUNS = compare.Runs(Run)


def held(session: str) -> Run | None:
    """The session's run, if its paths are there."""
    run = RUNS.get(session)
    return run if isinstance(run, Run) and run.paths is not None else None


def finished(session: str) -> bool:
    """Whether the session's last work was a recording that came to its end: no mistake, not stopped."""
    work = common.WORKS.get(session, KIND)
    return work is not None and work.ended.is_set() and work.done == 1 and held(session) is not None


def clocks(pair: str) -> list[Clock] | None:
    """The members' probes, or None where they are missing."""
    with contextlib.suppress(ValueError):
        return clock.clocks(pair)
    return None


def layers(pair: str) -> list[str]:
    """Hook points that both members have, in the order of evaluation."""
    first, second = (hook_points(denoiser) for denoiser in common.denoisers(pair))
    return [name for name in first if name in second]


def stream(settings: Compare) -> Iterator[tuple[list[Any], trajectories.Recorder]]:
    """Both members' Steps and the recorder, on networks of this run's own."""
    pair = settings.pair
    return trajectories.follow(
        clock.models(pair), settings.seeds, layers=layers(pair), view=VIEW, clocks=clocks(pair), pair=pair,
        titles=common.titles(pair), **settings.sampling.arguments,
    )  # fmt: skip


def finish(recorder: trajectories.Recorder) -> Trajectories:
    """The recorded paths; those of CIFAR-10's models with the classes that the shipped encoder names."""
    paths = recorder.result()
    if common.members(paths.pair)[0].dataset == "cifar10":
        with contextlib.suppress(ValueError):  # no encoder is shipped
            paths = replace(paths, classes=[encoder.name_classes(samples) for samples in paths.samples()])
    return paths


def as_code(settings: Compare, drawn: Map) -> str:
    """Python that records the paths and draws the map."""
    pair, hooked = settings.pair, [drawn.space] if drawn.space in layers(settings.pair) else []
    seeds = common.seeds(settings.seed, settings.count)
    paths = common.call(
        "trajectories.record", "=models", seeds, layers=hooked, view=VIEW, **settings.sampling.arguments
    )  # fmt: skip
    drawing = common.call("trajectories.project", "=paths", drawn.space, drawn.projection, drawn.coordinates.shape[-1], seed=0)
    return f"""from explore import trajectories, zoo
from explore.seeds import seed_range
{common.loaded(pair)}
paths = {paths}
drawn = {drawing}
drawn.coordinates  # of both members, by image and step
"""


@functools.cache
def compile_umap() -> None:
    """Begins, once, to compile UMAP in the background: who has recorded paths may ask for its map next.

    Not when the app starts: it would take a core from whoever presses the first button of another tab.
    """

    def work() -> None:
        points = torch.randn(100, 60, generator=torch.Generator().manual_seed(0))
        trajectories.umap(points, 2, 0)
        UMAP_COMPILED.set()

    threading.Thread(target=work, name="umap", daemon=True).start()


# What the page shows -------------------------------------------------------------------------------------------------


def space_menu(pair: str) -> list[tuple[str, str]]:
    """Spaces of the map by label."""
    return [*SPACES.items(), *((f"activation of {name}", name) for name in layers(pair))]


def colour_menu(pair: str) -> list[tuple[str, str]]:
    """What can colour a map of this pair, by label."""
    able = {"member", "t"}
    if clocks(pair):
        able.add("implied-t")
    if common.members(pair)[0].dataset == "cifar10":
        able.add("class")
    return [(label, name) for label, name in COLOURS.items() if name in able]


def colour_note(pair: str) -> str:
    """What the colours mean, and which are not to be had for this pair."""
    said = ["A circle is told the time, a diamond never."]
    if clocks(pair):
        said.append("Implied t: read by each member's best probe, from the picture alone.")
    else:
        said.append("No probes of this pair are here, so no implied t.")
    if common.members(pair)[0].dataset == "cifar10":
        said.append(f"Class: as the encoder {encoder.NAME} names the finished sample.")
    return " ".join(said)


def figure(run: Run, drawn: Map, colour: str, frame: int, image: int | None) -> Any:
    """The map with its markers at the kept point ``frame``, and one image standing out if named."""
    paths = run.paths
    assert paths is not None
    values = {"t": paths.t.expand(2, len(paths.seeds), -1), "implied-t": paths.implied_t}.get(colour)
    return figures.trajectory_map(
        drawn.coordinates.tolist(), paths.titles, paths.t.tolist(), common.colours(paths.pair),
        values=None if values is None else values.tolist(), value_title=colour.replace("-", " "),
        classes=paths.classes if colour == "class" else None, at=frame, chosen=image, axes=drawn.axes(),
        indices=paths.index.tolist(),
    )  # fmt: skip


def map_note(drawn: Map) -> str:
    """What can be trusted on a map, in words."""
    about = drawn.about
    said = f"Fitted on the union of both members' {drawn.coordinates[..., 0].numel():,} points. "
    if "variance" in about:
        said += f"The axes hold <b>{sum(about['variance']):.1%}</b> of the variance. "
    else:
        said += (
            f"UMAP of {about['reduced_to']} principal components ({about['variance_before_umap']:.1%} of the variance): it "
            "keeps neighbours, not distances. "
        )
    said += (
        f"<b>Trustworthiness {drawn.trustworthiness:.3f}</b> (1: whoever are the {drawn.neighbours} neighbours on the map are "
        "neighbours in the space)."
    )
    if drawn.space not in trajectories.SPACES:
        said += " Each network's channels are axes of its own: that members lie apart here means little."
    return f"<p class='note'>{said}</p>"


def grids(pair: str, states: Sequence[Tensor] | None, what: str, image: int = 0) -> str:
    """A grid of one state of all images for each member; ``image`` (from 1) is framed. A click on a picture chooses it."""
    cells = []
    for member, (title, colour) in enumerate(zip(common.titles(pair), common.colours(pair))):
        body = '<div class="empty">from noise to image, step by step</div>'
        if states is not None:
            count = len(states[member])
            columns = math.ceil(math.sqrt(count))
            rows = math.ceil(count / columns)
            frame = ""
            if image:
                row, column = divmod(image - 1, columns)
                frame = (
                    f'<i style="left:{100 * column / columns:.2f}%;top:{100 * row / rows:.2f}%;'
                    f'width:{100 / columns:.2f}%;height:{100 / rows:.2f}%"></i>'
                )
            picture = common.picture(states[member], f"{title}, {what}, a grid of images")
            body = f'<div class="pick" data-count="{count}" data-columns="{columns}" data-rows="{rows}">{picture}{frame}</div>'
        cells.append(common.cell(f"member-{member}", colour, title, what, body))
    return f'<div class="pictures two">{"".join(cells)}</div>'


def chosen_view(paths: Trajectories | None, pair: str, image: int, frame: int) -> str:
    """State and estimate of one image by both members, enlarged; or what is to be done to see them."""
    cells = []
    for space, what in (("xt", "state xt"), ("x0_hat", "estimate x0_hat")):
        for member, (title, colour) in enumerate(zip(common.titles(pair), common.colours(pair))):
            body = '<div class="empty">click a path on the map or a picture below</div>'
            if paths is not None and image:
                picture = paths.pictures(space, image - 1, frame)[member][None]
                body = common.picture(picture, f"image {image}, {title}, {what}")
            cells.append(common.cell(f"{space} member-{member}", colour, title, what, body))
    return f'<div class="pictures two">{"".join(cells)}</div>'


def summary(run: Run) -> str:
    """Geometry of the paths and where they part, as a table and in words."""
    paths = run.paths
    assert paths is not None
    record = paths.to_json()
    rows = []
    for space, title in (("xt", "state xt"), ("x0_hat", "estimate x0_hat")):
        for member, colour, name in zip(common.titles(paths.pair), common.colours(paths.pair), paths.members):
            found = record["spaces"][space]["members"][name]
            cells = [
                f"{found[what]['median']:.3f} <small>[{found[what]['low']:.3f}, {found[what]['high']:.3f}]</small>"
                if found[what]["median"] is not None else "none"
                for what in ("length", "detour", "curvature")
            ]  # fmt: skip
            swatch = f'<i class="swatch" style="background:{colour}"></i>'
            rows.append([f"{swatch}{html.escape(member)}, {title}", *cells])
    caption = "Median and quartiles over the images; lengths are root mean square for images in [-1, 1]"
    head = ["", "path length", "length / straight line", "curvature, radians / length"]
    said = []
    for space, title in (("xt", "states"), ("x0_hat", "estimates")):
        parting = record["spaces"][space]["parting"]
        step = parting["step"]
        when = f", the median at step <b>{step['median']:g}</b> of {paths.steps}" if step else ""
        said.append(f"the {title} of <b>{parting['images_that_part']} of {parting['images']}</b> images part{when}")
    last = record["spaces"]["xt"]
    gap, strangers = last["between"]["per_step"][-1]["median"], last["strangers"]["per_step"][-1]
    yard = f" (two images of one member: {strangers:.3f})" if strangers is not None else ""
    held = "before and held:" if run.again else "after"
    words = (
        f"<b>Finished</b> {held} {run.seconds:.1f} s: {'; '.join(said)}. Parted means: the distance between the members is "
        f"{trajectories.PARTED:g} or more of what it would be between unrelated pictures, and stays so to the end. In the end "
        f"the members lie {gap:.3f} apart{yard}. One training seed: part of a difference is chance."
    )
    if paths.options.get("eta") or paths.sampler == "ddpm":
        words += " This sampler adds noise at every step: its paths grow longer with more steps."
    return f"<p class='summary'>{words}</p>{common.table(caption, head, rows)}"


def write(run: Run, kind: str, drawn: Map, colour: str = "member") -> str:
    """Writes one file of a run; returns its path."""
    paths, settings = run.paths, run.settings
    assert paths is not None
    colours = common.colours(settings.pair)
    parts = [
        settings.pair,
        settings.sampling.sampler,
        settings.sampling.steps,
        f"seed-{settings.seed}",
        f"count-{settings.count}",
        "paths",
    ]
    path = run.folder / f"{'-'.join(map(str, parts))}.{kind}"
    if kind == "npz":
        path.write_bytes(paths.to_npz(drawn))
    elif kind == "json":
        path.write_text(json.dumps({**paths.to_json(), "map": drawn.to_json()}, indent=2) + "\n")
    elif kind == "html":
        files.write_atomically(path, figures.page(figure(run, drawn, colour, len(paths.t) - 1, None)))
    else:
        record = paths.comparison()
        path.write_bytes(record.to_gif(colours) if kind == "gif" else record.to_png(colours))
    return str(path)


# The tab -------------------------------------------------------------------------------------------------------------

CSS = """
#paths-map { overflow: hidden; min-width: 0; }
#paths-map .modebar-container .modebar { opacity: .75; }
#paths-chosen .pictures.two { max-width: none; gap: 8px; }
#paths-grids .pictures.two { max-width: none; }
.pick { position: relative; cursor: pointer; }
.pick i { position: absolute; box-sizing: border-box; border: 2.5px solid #fff; outline: 2.5px solid var(--member);
  pointer-events: none; }
#paths-choice .form { gap: 8px; }
@media (max-width: 640px) { #paths-map .modebar-container { display: none; } }
"""

# Markers and the chosen path move in the page: a new figure from the server would reset zoom and camera.
MOVE_JS = (
    """(step, image) => {
  const map = document.querySelector("#paths-map .js-plotly-plot");
  if (!map?.data || !window.Plotly) return;
  const number = (role, member) => map.data.findIndex(trace => trace.meta?.role === role && trace.meta.member === member);
  const about = map.data[number("path", 0)]?.customdata;
  if (!about) return;
  const frames = about.findIndex(row => row[0] === null), images = about.length / (frames + 1);
  let frame = 0;
  for (let k = 1; k < frames; k++) if (Math.abs(about[k][2] - step) < Math.abs(about[frame][2] - step)) frame = k;
  const axes = ["x", "y", "z"].filter(axis => axis in map.data[0]);
  const chosen = image >= 1 && image <= images ? image - 1 : null;
  const coloured = number("point", 0) >= 0;
  const change = {customdata: []}, traces = [];
  for (const axis of axes) change[axis] = [];
  for (const member of [0, 1]) {
    const path = map.data[number("path", member)];
    const at = [...Array(images).keys()].map(i => i * (frames + 1) + frame);
    const whole = chosen === null ? [] : [...Array(frames).keys()].map(k => chosen * (frames + 1) + k);
    const here = chosen === null ? [] : [chosen * (frames + 1) + frame];
    for (const [role, picked] of [["at", at], ["chosen", whole], ["chosen-at", here]]) {
      traces.push(number(role, member));
      for (const axis of axes) change[axis].push(picked.length ? picked.map(k => path[axis][k]) : [null]);
      change.customdata.push(picked.map(k => about[k]));
    }
  }
  const faint = chosen !== null ? BEHIND : coloured ? FAINT : CLEAR;
  window.Plotly.restyle(map, change, traces)
    .then(() => window.Plotly.restyle(map, {opacity: faint}, [number("path", 0), number("path", 1)]));
  const curve = document.querySelector("#paths-distance .js-plotly-plot");
  const lines = curve?.layout?.shapes?.length;
  if (lines) {
    const t = about[frame][3];
    window.Plotly.relayout(curve, {[`shapes[${lines - 1}].x0`]: t, [`shapes[${lines - 1}].x1`]: t});
  }
}""".replace("BEHIND", str(figures.BEHIND))
    .replace("FAINT", str(figures.FAINT))
    .replace("CLEAR", str(figures.CLEAR))
)

# A point of the map that is clicked sets image and step. The page builds a new figure for every map: listen to each.
LISTEN_JS = """() => {
  let tries = 0;
  const listen = () => {
    const map = document.querySelector("#paths-map .js-plotly-plot");
    if (!map?.on || !map._fullData) { if (++tries < 100) setTimeout(listen, 100); return; }
    if (map.dataset.linked) return;
    map.dataset.linked = "1";
    map.on("plotly_click", event => {
      const about = event.points?.[0]?.customdata;
      if (!about || about[0] === null) return;
      window.clocklessPick = {image: about[0], step: about[2]};
      document.querySelector("#paths-pick").click();
    });
  };
  listen();
}"""
# A picture that is clicked sets the image; once more lets it go.
PICTURES_JS = """() => {
  if (window.clocklessPictures) return;
  window.clocklessPictures = true;
  document.addEventListener("click", event => {
    const grid = event.target.closest?.("#paths-grids .pick");
    if (!grid) return;
    const box = grid.getBoundingClientRect(), {count, columns, rows} = grid.dataset;
    const column = Math.min(columns - 1, Math.floor((event.clientX - box.left) / box.width * columns));
    const row = Math.min(rows - 1, Math.floor((event.clientY - box.top) / box.height * rows));
    const image = row * columns + column + 1;
    if (image > count) return;
    window.clocklessPick = {image, step: null};
    document.querySelector("#paths-pick").click();
  });
}"""
PICK_JS = """(step, image) => {
  const pick = window.clocklessPick;
  if (!pick) return [step, image];
  return [pick.step ?? step, pick.step === null && pick.image === image ? 0 : pick.image];
}"""
SCROLL_JS = """() => {
  if (window.innerWidth <= 640) document.querySelector('#paths-stage').scrollIntoView({behavior: 'smooth'});
}"""

LEAD = (
    "Both members start from the same noise. Their paths are drawn on one map, fitted to both: where do they part, whose path "
    "is straighter, and what does a network's inside look like on the way? Click a path or a picture to follow it."
)


def examples() -> dict[str, tuple[Compare, str, str]]:
    """Settings, space and projection worth seeing, by name; those of Compare, and one of the inside of the first pair."""
    found = {name: (settings, "xt", "pca") for name, settings in compare.presets().items()}
    pair = list(found.values())[-1][0].pair
    inside = layers(pair)
    if inside:
        found[f"inside the {pair.rsplit('-', 1)[-1]} pair"] = (defaults(pair), inside[len(inside) // 2], "umap")
    return found


def tour() -> list[common.Stop]:
    """The first example."""
    return [
        common.Stop(
            "Paths",
            "The pair that failed, on a map: where do the two paths part?",
            "Both begin at one point. Under the map, the distance over t: they part in the very first steps, near noise. The "
            "example of the velocity pair, beside this one, stays together for much longer.",
            "paths-head",
            "paths-example-1",
        )
    ] if "eps pair, ODE: eta 0, unclamped" in compare.presets() else []  # fmt: skip


def build(page: gr.Blocks) -> None:
    """Lays out the tab and connects it."""
    opening = defaults(next(iter(compare.presets().values())).pair)
    has, at = sampler_options(opening.sampling.sampler), shown_values(opening)
    controls: dict[str, Any] = {}  # field of Settings -> its component, in the order of its fields
    with gr.Column(elem_classes="tab-section"):
        common.heading("paths-head", "Two paths from the same noise", LEAD)
        prepared = examples()
        ready = common.examples("paths", prepared)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                controls["pair"] = gr.Dropdown(
                    common.comparable_pairs(), value=opening.pair, label="Pair", filterable=False, elem_id="paths-pair",
                    info="Trained alike; only one is told the time.",
                )  # fmt: skip
                controls["sampler"] = gr.Dropdown(
                    compare.sampler_menu(opening.pair), value=at["sampler"], label="Sampler", filterable=False,
                    elem_id="paths-sampler", info=compare.sampler_note(opening.pair, at["sampler"]),
                )  # fmt: skip
                with gr.Row():
                    controls["steps"] = gr.Number(
                        at["steps"], label="Steps", info=f"1 to {MAX_STEPS}", min_width=80, elem_id="paths-steps"
                    )
                    controls["seed"] = gr.Number(0, label="Seed", info="of image 1", min_width=80, elem_id="paths-seed")
                    controls["count"] = gr.Number(
                        16, label="Images", info=f"1 to {MAX_IMAGES}", min_width=80, elem_id="paths-count"
                    )
                with gr.Accordion("Advanced", open=False):
                    with gr.Row():
                        controls["eta"] = gr.Number(
                            at["eta"], label="eta", info="0: ODE, 1: DDPM", step=0.1, interactive="eta" in has, min_width=100,
                            elem_id="paths-eta",
                        )  # fmt: skip
                        controls["clamp"] = gr.Checkbox(
                            at["clamp"], label="clamp", info="x0_hat in [-1, 1]", interactive="clamp" in has, min_width=100,
                            elem_id="paths-clamp",
                        )  # fmt: skip
                    controls["start"] = gr.Number(
                        None, label="Start t", placeholder="the model's own", info="Above 0, at most 1.", elem_id="paths-start"
                    )
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage", elem_id="paths-stage"):
                with gr.Row():
                    go = gr.Button("Record both paths", variant="primary", elem_id="paths-go", scale=4, min_width=180)
                    halt = gr.Button("Stop", variant="stop", interactive=False, elem_id="paths-stop", scale=1, min_width=64)
                status = gr.HTML(common.status(common.READY), elem_id="paths-status")
                with gr.Column(visible=False) as results:
                    with gr.Row():
                        space = gr.Dropdown(
                            space_menu(opening.pair), value="xt", label="Space", filterable=False, elem_id="paths-space",
                            min_width=200, info="What a point is.",
                        )  # fmt: skip
                        projection = gr.Dropdown(
                            list(PROJECTIONS.items()), value="pca", label="Projection", filterable=False, min_width=110,
                            elem_id="paths-projection", info="Fitted to both.",
                        )  # fmt: skip
                        dimensions = gr.Dropdown(
                            [("2-D", 2), ("3-D", 3)], value=2, label="Map", filterable=False, min_width=90,
                            elem_id="paths-dimensions", info="Its axes.",
                        )  # fmt: skip
                        colour = gr.Dropdown(
                            colour_menu(opening.pair), value="member", label="Colour", filterable=False, min_width=120,
                            elem_id="paths-colour", info="Of the points.",
                        )  # fmt: skip
                    with gr.Row(equal_height=False):
                        with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                            plot = gr.Plot(label="Map of both members' paths", show_label=False, elem_id="paths-map")
                            note = gr.HTML("", elem_id="paths-note")
                        with gr.Column(scale=2, min_width=300, elem_classes="tab-stage", elem_id="paths-choice"):
                            step = gr.Slider(
                                0, 1, 0, step=1, label="Step", buttons=[], elem_id="paths-step",
                                info="Moves the markers on the map, and the pictures below.",
                            )  # fmt: skip
                            image = gr.Slider(
                                0, 1, 0, step=1, label="Image", buttons=[], elem_id="paths-image",
                                info="Whose paths stand out; 0 for none.",
                            )  # fmt: skip
                            where = gr.HTML("", elem_id="paths-where")
                            chosen = gr.HTML(chosen_view(None, opening.pair, 0, 0), elem_id="paths-chosen")
                pictures = gr.HTML(grids(opening.pair, None, "state xt"), elem_id="paths-grids")
                with gr.Column(visible=False) as charts:
                    words = gr.HTML("", elem_id="paths-summary")
                    with gr.Row(equal_height=False):
                        with gr.Column(min_width=320):
                            distance = gr.Plot(
                                label="Distance between the members over t", show_label=False, elem_id="paths-distance",
                                elem_classes="tab-plot",
                            )  # fmt: skip
                        with gr.Column(min_width=320):
                            shapes = gr.Plot(
                                label="Length and curvature of the paths", show_label=False, elem_id="paths-geometry",
                                elem_classes="tab-plot",
                            )  # fmt: skip
                    with gr.Row():
                        files = {
                            kind: gr.DownloadButton(label, size="sm", interactive=False, min_width=110, elem_id=f"paths-{kind}")
                            for kind, label in FILES.items()
                        }
                    code = common.code_part("paths")
    pick = gr.Button("pick", visible="hidden", elem_id="paths-pick")

    @common.streamed
    def run(
        pair: str, sampler: str, steps: float, seed: float, count: float, eta: float, clamp: bool, start: float | None,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:  # fmt: skip
        """Streams the states of both members to the page while their paths are recorded."""
        session = str(request.session_hash)
        work = common.WORKS.begin(session, KIND)
        going = {halt: gr.update(interactive=True), results: gr.update(visible=False), charts: gr.update(visible=False)}
        began, shown = time.monotonic(), -math.inf
        recording = None
        try:
            if work.stop.is_set():  # while it waited
                return
            settings = read_settings(
                {
                    "pair": pair,
                    "sampler": sampler,
                    "steps": steps,
                    "seed": seed,
                    "count": count,
                    "eta": eta,
                    "clamp": clamp,
                    "start": start,
                }
            )
            current = RUNS.begin(session, settings, work)
            assert isinstance(current, Run)
            yield {status: common.status("The same noise for both."), **going}
            if current.again:
                work.done = 1.0
                yield {status: common.status("Held from before. The map is drawn next.", 1.0)}
                return
            recording = stream(settings)
            for both, recorder in recording:
                at, now = both[0], time.monotonic()
                work.said = f"Step <b>{at.index}</b> of {settings.sampling.steps}, t = <b>{at.t:.3f}</b>"
                work.done = at.index / settings.sampling.steps
                if work.stop.is_set():
                    return
                if at.index == settings.sampling.steps:
                    current.paths, current.seconds = finish(recorder), now - began
                if now - shown >= UPDATE_SECONDS:
                    shown = now
                    states = [to_uint8(one.xt) for one in both]
                    yield {
                        status: common.status(f"Recording: {work.said}", work.done),
                        pictures: grids(settings.pair, states, "state xt"),
                        **going,
                    }
            compile_umap()
            yield {status: common.status("Recorded. The map is drawn next.", 1.0)}
        except ValueError as error:
            yield {status: common.notice(error), halt: gr.update(interactive=False)}
        finally:
            work.ended.set()
            if recording is not None:
                recording.close()  # type: ignore[attr-defined]  # also when the page stops the run or is closed

    def show(step: float, image: float, request: gr.Request) -> dict[Any, Any]:
        """The pictures at one step, and those of one image."""
        current = held(str(request.session_hash))
        if current is None:
            return {where: ""}
        paths = current.paths
        assert paths is not None
        frame, number = nearest(paths, step), chosen_image(paths, image)
        states = [to_uint8(part[:, frame].float()) for part in paths.points["xt"]]
        said = f"step <b>{paths.index[frame]}</b> of {paths.steps}, t = <b>{paths.t[frame]:.3f}</b>"
        if number:
            said = f"image <b>{number}</b> (seed {paths.seeds[number - 1]}), {said}"
            if paths.implied_t is not None:
                read = ", ".join(f"{value:.3f}" for value in paths.implied_t[:, number - 1, frame].tolist())
                said += f"; implied t: {read}"
            if paths.classes is not None:
                said += "; named " + " and ".join(names[number - 1] for names in paths.classes)
        return {
            pictures: grids(paths.pair, states, f"state xt at step {paths.index[frame]}", number),
            chosen: chosen_view(paths, paths.pair, number, frame),
            where: f"<p class='summary'>{said}</p>",
        }

    @common.streamed
    def draw(
        space: str, projection: str, dimensions: int, colour: str, step: float, image: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Draws the map that is asked for, from what was recorded; the one before stays until then."""
        session = str(request.session_hash)
        current = held(session)
        if current is None:
            return
        paths = current.paths
        assert paths is not None
        try:
            choose("colour", colour, COLOURS.values())
            key = (space, choose("projection", projection, trajectories.PROJECTIONS), int(dimensions))
            if key not in current.maps:
                first = "" if projection != "umap" or UMAP_COMPILED.is_set() else " UMAP compiles for about 10 s at first."
                yield {status: common.status(f"Drawing the map.{first}", 0.5)}
                current.maps[key] = trajectories.project(paths, *key, seed=0)
                while len(current.maps) > MAX_MAPS:
                    del current.maps[next(iter(current.maps))]
            if RUNS.get(session) is not current:
                return  # another run has begun meanwhile
            drawn = current.maps[key]
            yield {
                plot: figure(current, drawn, colour, nearest(paths, step), chosen_image(paths, image) - 1 if image else None),
                note: map_note(drawn),
                code: as_code(current.settings, drawn),
                status: common.status(f"Shown: {space}, {projection.upper()}, {key[2]}-D.", 1.0),
            }
        except ValueError as error:
            yield {status: common.notice(error)}

    @common.streamed
    def draw_first(
        space: str, projection: str, dimensions: int, colour: str, step: float, image: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """The map of a recording that has just ended; after a mistake the words on it stay, and so does the map before."""
        if finished(str(request.session_hash)):
            yield from draw(space, projection, dimensions, colour, step, image, request)

    def unveil(request: gr.Request) -> dict[Any, Any]:
        """After a recording: the sliders at its end, and its figures."""
        current = held(str(request.session_hash)) if finished(str(request.session_hash)) else None
        if current is None:
            return {halt: gr.update()}
        paths = current.paths
        assert paths is not None
        record = paths.to_json()
        return {
            results: gr.update(visible=True),
            charts: gr.update(visible=True),
            step: gr.update(maximum=max(1, paths.steps), value=paths.steps),
            image: gr.update(maximum=len(paths.seeds), value=0),
            words: summary(current),
            distance: figures.distance_curve(record["spaces"], record["times"], at=0.0),
            shapes: figures.path_figures(
                record["spaces"]["xt"]["members"], common.titles(paths.pair), common.colours(paths.pair)
            ),
            **{button: gr.update(interactive=False, value=None) for button in files.values()},
        }

    @common.streamed
    def save(space: str, projection: str, dimensions: int, colour: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Makes the files one after the other; ends early when the run is replaced meanwhile."""
        session = str(request.session_hash)
        current = held(session)
        ready: dict[Any, Any] = {}
        for kind, button in files.items():
            if current is None or RUNS.get(session) is not current or not current.maps:
                return
            drawn = current.maps.get((space, projection, int(dimensions))) or next(reversed(current.maps.values()))
            try:
                path = write(current, kind, drawn, colour)
            except FileNotFoundError:  # the run was dropped, and its folder with it
                return
            ready[button] = gr.update(value=path, interactive=True)
            yield dict(ready)  # all so far: of messages that come together the page may pass over all but the last

    def fill(settings: Compare) -> dict[Any, Any]:
        """All controls at ``settings``."""
        values = shown_values(settings)
        changes = {part: gr.update(value=values[name]) for name, part in controls.items()}
        changes[controls["sampler"]]["choices"] = compare.sampler_menu(settings.pair)
        for part, change in choose_sampler(settings.pair, settings.sampling.sampler).items():
            changes[part] |= change
        return changes

    def choose_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        common.WORKS.end(session, KIND)
        RUNS.drop(session)
        kept = [controls[name] for name in ("pair", "seed", "count", "start")]
        return {
            **{part: change for part, change in fill(defaults(pair)).items() if part not in kept},
            space: gr.update(choices=space_menu(pair), value="xt"),
            colour: gr.update(choices=colour_menu(pair), value="member"),
            pictures: grids(pair, None, "state xt"),
            chosen: chosen_view(None, pair, 0, 0),
            results: gr.update(visible=False),
            charts: gr.update(visible=False),
            status: common.status(common.READY),
        }

    def choose_sampler(pair: str, sampler: str) -> dict[Any, Any]:
        choose("sampler", sampler, SAMPLERS)
        able = {controls[name]: gr.update(interactive=name in sampler_options(sampler)) for name in ("eta", "clamp")}
        return {**able, controls["sampler"]: gr.update(info=compare.sampler_note(pair, sampler))}

    settings_parts, map_parts = list(controls.values()), [space, projection, dimensions, colour]
    map_shown = [plot, note, code, status]
    unveiled = [results, charts, step, image, words, distance, shapes, halt, *files.values()]
    common.announce(KIND, go, halt, status)
    go.click(None, None, None, js=SCROLL_JS)
    running = go.click(
        run, settings_parts, [status, pictures, halt, results, charts], trigger_mode="always_last", **common.ONE_MODEL
    )
    unveiling = running.then(unveil, None, unveiled, **common.AT_ONCE)
    common.stops(KIND, [unveiling], halt, status)
    drawing = unveiling.then(draw_first, [*map_parts, step, image], map_shown, **MAPS)
    drawing.then(show, [step, image], [pictures, chosen, where], **common.AT_ONCE)
    drawing.then(save, map_parts, list(files.values()), concurrency_id="files", concurrency_limit=1, **common.QUIET)
    for part in map_parts:
        part.input(draw, [*map_parts, step, image], map_shown, trigger_mode="always_last", **MAPS)
    plot.change(None, None, None, js=LISTEN_JS)
    for slider in (step, image):
        slider.change(None, [step, image], None, js=MOVE_JS)
        slider.change(show, [step, image], [pictures, chosen, where], trigger_mode="always_last", **common.AT_ONCE)
    pick.click(None, [step, image], [step, image], js=PICK_JS)
    changed = [
        *(controls[name] for name in ("sampler", "steps", "eta", "clamp")), space, colour, pictures, chosen, results, charts,
        status,
    ]  # fmt: skip
    controls["pair"].input(choose_pair, controls["pair"], changed, **common.AT_ONCE)
    asked = [controls["pair"], controls["sampler"]]
    controls["sampler"].input(
        choose_sampler, asked, [controls["sampler"], controls["eta"], controls["clamp"]], **common.AT_ONCE
    )
    for name, button in ready.items():

        def example(request: gr.Request, name: str = name) -> dict[Any, Any]:
            settings, where, how = prepared[name]
            changes = choose_pair(settings.pair, request) | fill(settings)
            changes[space]["value"] = where
            return {**changes, projection: how, dimensions: 2}

        outputs = [*dict.fromkeys([*settings_parts, *changed, projection, dimensions])]
        common.on_example(button, "paths-go", example, None, outputs)
    page.load(None, None, None, js=PICTURES_JS)
    page.unload(_forget)
    _endpoint(opening)


def nearest(paths: Trajectories, step: float) -> int:
    """Number of the kept point nearest to a step."""
    return int((paths.index - float(step)).abs().argmin())


def chosen_image(paths: Trajectories, image: float) -> int:
    """The image, 1 to N, or 0 for none."""
    return min(max(int(image or 0), 0), len(paths.seeds))


def _forget(request: gr.Request) -> None:
    """Frees a session's run when its page is closed."""
    common.forget(request)
    RUNS.drop(str(request.session_hash))


def _endpoint(opening: Compare) -> None:
    """The named endpoint ``/trajectory`` for gradio_client, on components that the page does not show."""

    def trajectory(
        pair: str, sampler: str, steps: int = 25, seed: int = 0, count: int = 4, eta: float = 0.0, clamp: bool = False,
        start: float | None = None, space: str = "xt", projection: str = "pca", dimensions: int = 2,
        request: gr.Request | None = None,
    ) -> tuple[dict[str, Any], str, str]:  # fmt: skip
        """Records the paths of both members of a pair from the same noise, and draws one map of them.

        Args:
            pair: A pair of models, such as celeba32-unet-velocity.
            sampler: ddim, ddpm, euler, heun or dpmpp_2m.
            steps: 1 to 1000.
            seed: Of the first image, 0 to 2^32 - 1; the others count up from it.
            count: Number of images, 1 to 64.
            eta: 0 to 1; has an effect on ddim only.
            clamp: Hold the estimate of the image in [-1, 1]; has an effect on ddim and ddpm only.
            start: First t, above 0 and at most 1; null for the model's own.
            space: Of the map: xt, x0_hat, or the name of a hook point.
            projection: pca or umap.
            dimensions: 2 or 3.

        Returns:
            Path length, curvature, distances and parting steps with their definitions, and what is to be said of the map; an
            npz of all recorded paths with the map's coordinates; the map as a page.
        """
        try:
            values = {"pair": pair, "sampler": sampler, "steps": steps, "seed": seed, "count": count}
            settings = read_settings({**values, "eta": eta, "clamp": clamp, "start": start})
            choose("space", str(space)[:100], [name for _, name in space_menu(settings.pair)])
            choose("projection", str(projection)[:100], trajectories.PROJECTIONS)
            size = int(common.number("dimensions", dimensions, 2, 3, whole=True))
            with common.calling(request) as work:
                current = RUNS.begin(f"call-{uuid.uuid4().hex}", settings, work)
                assert isinstance(current, Run)
                for both, recorder in () if current.again else common.going_on(stream(settings), work):
                    if both[0].index == settings.sampling.steps:
                        current.paths = finish(recorder)
            assert current.paths is not None  # the last step has come
            key = (space, projection, size)
            drawn = current.maps.get(key) or trajectories.project(current.paths, *key, seed=0)
            current.maps[key] = drawn
            result = {**current.paths.to_json(), "map": drawn.to_json()}
            return result, write(current, "npz", drawn), write(current, "html", drawn)
        except ValueError as error:
            raise common.visible(error) from error

    inputs = [
        gr.Textbox(opening.pair, label="pair", visible=False),
        gr.Textbox(opening.sampling.sampler, label="sampler", visible=False),
        gr.Number(25, label="steps", visible=False),
        gr.Number(0, label="seed", visible=False),
        gr.Number(4, label="count", visible=False),
        gr.Number(0.0, label="eta", visible=False),
        gr.Checkbox(False, label="clamp", visible=False),
        gr.Number(None, label="start", visible=False),
        gr.Textbox("xt", label="space", visible=False),
        gr.Textbox("pca", label="projection", visible=False),
        gr.Number(2, label="dimensions", visible=False),
    ]
    outputs = [
        gr.JSON(label="figures", visible=False),
        gr.File(label="npz", visible=False),
        gr.File(label="map", visible=False),
    ]
    gr.Button("trajectory", visible=False).click(
        trajectory, inputs, outputs, api_name="trajectory", concurrency_id=common.MODEL_QUEUE, concurrency_limit=1
    )
