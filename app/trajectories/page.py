"""The page of the tab Trajectories: controls, handlers, examples and the stop of the tour."""

from __future__ import annotations

import functools
import time
from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from app import pairs, sampling, ui, works
from app.sampling import FIELDS, defaults, presets, read_settings
from app.trajectories.endpoints import build as build_endpoint
from app.trajectories.runs import (
    KIND,
    RUNS,
    UMAP_COMPILED,
    Run,
    as_code,
    chosen_image,
    compile_umap,
    finish,
    finished,
    held,
    layers,
    nearest,
    stream,
)
from app.trajectories.scripts import LISTEN_JS, MOVE_JS, PICK_JS, PICTURES_JS, SCROLL_JS
from app.trajectories.views import (
    COLORS,
    FILES,
    PROJECTIONS,
    chosen_view,
    color_menu,
    figure,
    grids,
    map_note,
    space_menu,
    summary,
    write,
)
from app.works import Work
from explore import figures, trajectories
from explore.data import to_uint8
from explore.experiments import Compare
from explore.values import choose

UPDATE_SECONDS = 0.15  # at most one update of the images in this time
MAX_MAPS = 12  # cached per run
MAPS: dict[str, Any] = {**ui.QUIET, "concurrency_id": "maps", "concurrency_limit": 1}
LEAD = (
    "Both members start from the same noise. Their paths are drawn on one map, fitted to both: where do they part, whose path "
    "is straighter, and what does a network's inside look like on the way? Click a path or a picture to follow it."
)


def examples() -> dict[str, tuple[Compare, str, str]]:
    """Name of an example -> settings, space and projection: the presets of Compare, and one of an activation."""
    found = {name: (settings, "xt", "pca") for name, settings in presets().items()}
    pair = list(found.values())[-1][0].pair
    inside = layers(pair)
    if inside:
        found[f"inside the {pair.rsplit('-', 1)[-1]} pair"] = (defaults(pair), inside[len(inside) // 2], "umap")
    return found


def tour() -> list[ui.Stop]:
    """The stop of the tour in this tab, which opens the first example."""
    return [
        ui.Stop(
            "Paths",
            "The pair that failed, on a map: where do the two paths part?",
            "Both begin at one point. Under the map, the distance over t: they part in the very first steps, near noise. The "
            "example of the velocity pair, beside this one, stays together for much longer.",
            "paths-head",
            "paths-example-1",
        )
    ] if "eps pair, ODE: eta 0, unclamped" in presets() else []  # fmt: skip


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    opening = defaults(next(iter(presets().values())).pair)
    with gr.Column(elem_classes="tab-section"):
        ui.heading("paths-head", "Two paths from the same noise", LEAD)
        prepared = examples()
        ready = ui.examples("paths", prepared)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                controls = sampling.build(opening, "paths", count=16, tidy=True)
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage", elem_id="paths-stage"):
                go, halt = ui.go_and_stop("Record both paths", "paths")
                status = gr.HTML(ui.status(ui.READY), elem_id="paths-status")
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
                        color = gr.Dropdown(
                            color_menu(opening.pair), value="member", label="Color", filterable=False, min_width=120,
                            elem_id="paths-color", info="Of the points.",
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
                            distance = ui.plot("Distance between the members over t", "paths-distance")
                        with gr.Column(min_width=320):
                            shapes = ui.plot("Length and curvature of the paths", "paths-geometry")
                    with gr.Row():
                        files = {
                            kind: gr.DownloadButton(label, size="sm", interactive=False, min_width=110, elem_id=f"paths-{kind}")
                            for kind, label in FILES.items()
                        }
                    code = ui.code_part("paths")
    pick = gr.Button("pick", visible="hidden", elem_id="paths-pick")

    def run(work: Work, *values: Any) -> Generator[dict[Any, Any]]:
        """Records the paths of both members and streams their states."""
        busy = {results: gr.update(visible=False), charts: gr.update(visible=False)}
        began, settings = time.monotonic(), read_settings(dict(zip(FIELDS, values)))
        current = RUNS.begin(work.session, settings, work)
        assert isinstance(current, Run)
        yield {status: ui.status("The same noise for both."), **busy}
        if current.again:
            work.done = 1.0
            yield {status: ui.status("Cached. The map is drawn next.", 1.0), **busy}
            return
        steps = settings.sampling.steps
        for both, recorder in stream(settings):
            at = both[0]
            said = f"Recording: Step <b>{at.index}</b> of {steps}, t = <b>{at.t:.3f}</b>"
            if work.at(at.index / steps, said, UPDATE_SECONDS):
                yield {pictures: grids(settings.pair, [to_uint8(one.xt) for one in both], "state xt"), **busy}
            if at.index == steps:
                current.paths, current.seconds = finish(recorder), time.monotonic() - began
        compile_umap()
        yield {status: ui.status("Recorded. The map is drawn next.", 1.0), **busy}

    def show(step: float, image: float, request: gr.Request) -> dict[Any, Any]:
        """Shows all images at one step, and the chosen image enlarged."""
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

    @ui.streamed
    def draw(
        space: str, projection: str, dimensions: int, color: str, step: float, image: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Draws the requested map from the recorded paths. The previous map stays visible until then."""
        session = str(request.session_hash)
        current = held(session)
        if current is None:
            return
        paths = current.paths
        assert paths is not None
        try:
            choose("color", color, COLORS.values())
            key = (space, choose("projection", projection, trajectories.PROJECTIONS), int(dimensions))
            if key not in current.maps:
                first = "" if projection != "umap" or UMAP_COMPILED.is_set() else " UMAP compiles for about 10 s at first."
                yield {status: ui.status(f"Drawing the map.{first}", 0.5)}
                current.maps[key] = trajectories.project(paths, *key, seed=0)
                while len(current.maps) > MAX_MAPS:
                    del current.maps[next(iter(current.maps))]
            if RUNS.get(session) is not current:
                return  # another run has started meanwhile
            drawn = current.maps[key]
            yield {
                plot: figure(current, drawn, color, nearest(paths, step), chosen_image(paths, image) - 1 if image else None),
                note: map_note(drawn),
                code: as_code(current.settings, drawn),
                status: ui.status(f"Shown: {space}, {projection.upper()}, {key[2]}-D.", 1.0),
            }
        except ValueError as error:
            yield {status: ui.notice(error)}

    @ui.streamed
    def draw_first(
        space: str, projection: str, dimensions: int, color: str, step: float, image: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Draws the map after a recording. After an error or a stop, its message and the previous map stay."""
        if finished(str(request.session_hash)):
            yield from draw(space, projection, dimensions, color, step, image, request)

    def unveil(request: gr.Request) -> dict[Any, Any]:
        """After a recording, shows its results and sets the sliders to the last step."""
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
            shapes: figures.path_figures(record["spaces"]["xt"]["members"], pairs.titles(paths.pair), pairs.colors(paths.pair)),
            **{button: gr.update(interactive=False, value=None) for button in files.values()},
        }

    @ui.streamed
    def save(space: str, projection: str, dimensions: int, color: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Writes the files one after the other. Ends early if another run replaces this one."""
        session = str(request.session_hash)
        current = held(session)
        ready: dict[Any, Any] = {}
        for kind, button in files.items():
            if current is None or RUNS.get(session) is not current or not current.maps:
                return
            drawn = current.maps.get((space, projection, int(dimensions))) or next(reversed(current.maps.values()))
            try:
                path = write(current, kind, drawn, color)
            except FileNotFoundError:  # the run was dropped, and its folder deleted
                return
            ready[button] = gr.update(value=path, interactive=True)
            yield dict(ready)  # all files so far: the page may skip all but the last of several quick updates

    def choose_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        works.WORKS.end(session, KIND)
        RUNS.drop(session)
        return {
            **sampling.follow_pair(controls, pair),
            space: gr.update(choices=space_menu(pair), value="xt"),
            color: gr.update(choices=color_menu(pair), value="member"),
            pictures: grids(pair, None, "state xt"),
            chosen: chosen_view(None, pair, 0, 0),
            results: gr.update(visible=False),
            charts: gr.update(visible=False),
            status: ui.status(ui.READY),
        }

    settings_parts, map_parts = list(controls.values()), [space, projection, dimensions, color]
    map_shown = [plot, note, code, status]
    unveiled = [results, charts, step, image, words, distance, shapes, halt, *files.values()]
    go.click(None, None, None, js=SCROLL_JS)
    running = ui.on_run(KIND, go, halt, status, run, settings_parts, [status, pictures, halt, results, charts])
    unveiling = running.then(unveil, None, unveiled, **ui.AT_ONCE)
    ui.stops(KIND, [unveiling], halt, status)
    drawing = unveiling.then(draw_first, [*map_parts, step, image], map_shown, **MAPS)
    drawing.then(show, [step, image], [pictures, chosen, where], **ui.AT_ONCE)
    drawing.then(save, map_parts, list(files.values()), concurrency_id="files", concurrency_limit=1, **ui.QUIET)
    for part in map_parts:
        part.input(draw, [*map_parts, step, image], map_shown, trigger_mode="always_last", **MAPS)
    plot.change(None, None, None, js=LISTEN_JS)
    for slider in (step, image):
        slider.change(None, [step, image], None, js=MOVE_JS)
        slider.change(show, [step, image], [pictures, chosen, where], trigger_mode="always_last", **ui.AT_ONCE)
    pick.click(None, [step, image], [step, image], js=PICK_JS)
    changed = [
        *settings_parts, space, color, pictures, chosen, results, charts,
        status,
    ]  # fmt: skip
    controls["pair"].input(choose_pair, controls["pair"], changed, **ui.AT_ONCE)
    asked = [controls["pair"], controls["sampler"]]
    controls["sampler"].input(functools.partial(sampling.follow_sampler, controls), asked, settings_parts, **ui.AT_ONCE)
    for name, button in ready.items():

        def example(request: gr.Request, name: str = name) -> dict[Any, Any]:
            settings, where, how = prepared[name]
            changes = choose_pair(settings.pair, request) | sampling.fill(controls, settings)
            changes[space]["value"] = where
            return {**changes, projection: how, dimensions: 2}

        outputs = [*dict.fromkeys([*settings_parts, *changed, projection, dimensions])]
        ui.on_example(button, "paths-go", example, None, outputs)
    page.load(None, None, None, js=PICTURES_JS)
    page.unload(_forget)
    build_endpoint(opening)


def _forget(request: gr.Request) -> None:
    """Frees a session's run when its page is closed."""
    works.forget(request)
    RUNS.drop(str(request.session_hash))
