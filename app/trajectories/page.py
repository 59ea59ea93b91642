"""The page of the tab Trajectories: controls, handlers, examples and the stop of the tour."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import endpoints, pairs, sampling, ui, works
from app.runs import RUNS, Run, forget
from app.trajectories.scripts import LISTEN_JS, MOVE_JS, PICK_JS, PICTURES_JS
from app.trajectories.views import (
    COLORS,
    FILES,
    PROJECTIONS,
    as_code,
    chosen_view,
    color_menu,
    figure,
    grids,
    map_note,
    space_menu,
    summary,
    write,
)
from explore import figures, trajectories
from explore.data import to_uint8
from explore.experiments import Compare, Trajectories
from explore.values import choose

KIND = "paths"  # of work
MAX_MAPS = 12  # cached per record
MAPS: dict[str, Any] = {**ui.QUIET, "concurrency_id": "maps", "concurrency_limit": 1}
UMAP_COMPILED = threading.Event()
LEAD = (
    "Both models start from the same noise. One map, fitted to both, shows their paths: where do they diverge, whose path is "
    "straighter, and how do a network's activations move? Click a path or an image to follow it."
)


def examples() -> dict[str, tuple[Compare, str, str]]:
    """Name of an example -> settings, space and projection: the presets of Compare, and one of an activation."""
    found = {name: (settings, "xt", "pca") for name, settings in sampling.presets().items()}
    pair = list(found.values())[-1][0].pair
    inside = pairs.layers(pair)
    if inside:
        found[f"inside the {pair.rsplit('-', 1)[-1]} pair"] = (sampling.defaults(pair), inside[len(inside) // 2], "umap")
    return found


def tour() -> list[ui.Stop]:
    """The stop of the tour in this tab, which opens the first example."""
    return [
        ui.Stop(
            "Paths",
            "The pair that failed, on a map: where do the two paths diverge?",
            "Both start at one point. The plot below the map shows their distance over t: they diverge in the very first "
            "steps, near noise. The paths of the velocity pair (another example) stay together for much longer.",
            "paths-head",
            "paths-example-1",
        )
    ] if "eps pair, ODE: eta 0, unclamped" in sampling.presets() else []  # fmt: skip


def finished(session: str) -> Run | None:
    """The session's run if its last recording was completed, without an error or a stop."""
    work, run = works.WORKS.get(session, KIND), RUNS.get(session, KIND)
    ended = work is not None and work.ended.is_set() and not work.stop.is_set() and not work.failed
    return run if ended and run is not None and run.record.complete else None


@functools.cache
def compile_umap() -> None:
    """Starts to compile UMAP in a background thread, once, because the next request may be a UMAP map.

    Not done at the start of the app, where it would slow down the first run of any other tab.
    """

    def work() -> None:
        points = torch.randn(100, 60, generator=torch.Generator().manual_seed(0))
        trajectories.umap(points, 2, 0)
        UMAP_COMPILED.set()

    threading.Thread(target=work, name="umap", daemon=True).start()


def nearest(run: Run, step: float) -> int:
    """Index of the recorded point nearest to a step."""
    return int((run.record.paths.index - float(step)).abs().argmin())


def chosen_number(run: Run, image: float) -> int:
    """The number of the chosen image, clamped to 1 to N, or 0 for none."""
    return min(max(int(image or 0), 0), run.settings.count)


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    opening = sampling.defaults(next(iter(sampling.presets().values())).pair)
    with gr.Column(elem_classes="tab-section"):
        ui.heading("paths-head", "Two paths from the same noise", LEAD)
        prepared = examples()
        ready = ui.examples("paths", prepared)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                controls = sampling.Controls.build("paths", opening)
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage", elem_id="paths-stage"):
                go, halt, status = ui.run_button("paths", "Record both paths")
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
                            [("2-D", 2), ("3-D", 3)], value=2, label="Dimensions", filterable=False, min_width=90,
                            elem_id="paths-dimensions", info="Of the map.",
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
                                info="Moves the markers on the map, and the images below.",
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
                    files = ui.download_buttons("paths", FILES)
                    code = ui.code_part("paths")
    pick = gr.Button("pick", visible="hidden", elem_id="paths-pick")

    def run(session: str, *values: Any) -> ui.Messages:
        """Records the paths of both members and streams their states to the page."""
        going = {results: gr.update(visible=False), charts: gr.update(visible=False)}
        settings = sampling.read_settings(dict(zip(sampling.FIELDS, values)))
        current = RUNS.begin(session, KIND, settings)
        if current.again:
            yield {status: ui.status("Cached. The map is drawn next.", 1.0), **going}
            return
        yield {status: ui.status("The same noise for both."), **going}
        steps = settings.sampling.steps

        def draw(states: Tensor) -> dict[Any, Any]:
            return {pictures: grids(settings.pair, list(states), "state xt"), **going}

        with contextlib.closing(current.stream()) as stream:  # type: ignore[type-var]
            for frame in stream:
                said = f"Recording: step <b>{frame.index}</b> of {steps}, t = <b>{frame.t:.3f}</b>"
                yield ui.Progress(said, frame.index / steps, functools.partial(draw, frame.xt))
        compile_umap()
        yield {status: ui.status("Recorded. The map is drawn next.", 1.0)}

    def held(request: gr.Request) -> Run | None:
        run = RUNS.get(str(request.session_hash), KIND)
        return run if run is not None and run.record.complete else None

    def view(current: Run, step: float, image: float) -> dict[Any, Any]:
        """All images at one step, and the chosen image enlarged."""
        paths, frame, number = current.record.paths, nearest(current, step), chosen_number(current, image)
        states = [to_uint8(part[:, frame].float()) for part in paths.points["xt"]]
        said = f"step <b>{paths.index[frame]}</b> of {paths.steps}, t = <b>{paths.t[frame]:.3f}</b>"
        if number:
            said = f"image <b>{number}</b> (seed {paths.seeds[number - 1]}), {said}"
            if paths.implied_t is not None:
                read = ", ".join(f"{value:.3f}" for value in paths.implied_t[:, number - 1, frame].tolist())
                said += f"; implied t: {read}"
            if paths.classes is not None:
                said += "; classified as " + " and ".join(names[number - 1] for names in paths.classes)
        return {
            pictures: grids(paths.pair, states, f"state xt at step {paths.index[frame]}", number),
            chosen: chosen_view(paths, paths.pair, number, frame),
            where: f"<p class='summary'>{said}</p>",
        }

    def show(step: float, image: float, request: gr.Request) -> dict[Any, Any]:
        """Shows what the sliders ask for."""
        current = held(request)
        return {where: ""} if current is None else view(current, step, image)

    @ui.streamed
    def draw(
        space: str, projection: str, dimensions: int, color: str, step: float, image: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Draws the requested map from the recorded paths. The previous map stays visible until then."""
        current = held(request)
        if current is None:
            return
        maps = current.record.maps
        try:
            choose("color", color, COLORS.values())
            key = (space, choose("projection", projection, trajectories.PROJECTIONS), int(dimensions))
            if key not in maps:
                first = "" if projection != "umap" or UMAP_COMPILED.is_set() else " UMAP compiles for about 10 s at first."
                yield {status: ui.status(f"Drawing the map.{first}", 0.5)}
                maps[key] = trajectories.project(current.record.paths, *key, seed=current.settings.seed)
                while len(maps) > MAX_MAPS:
                    del maps[next(iter(maps))]
            if held(request) is not current:
                return  # another run has started meanwhile
            drawn, number = maps[key], chosen_number(current, image)
            yield {
                plot: figure(current, drawn, color, nearest(current, step), number - 1 if number else None),
                note: map_note(drawn),
                code: as_code(current, drawn),
                status: ui.status(f"Shown: {space}, {projection.upper()}, {key[2]}-D.", 1.0),
            }
        except ValueError as error:
            yield {status: ui.notice(error)}

    @ui.streamed
    def draw_first(
        space: str, projection: str, dimensions: int, color: str, step: float, image: float, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        """Draws the map after a recording. After an error or a stop, its message and the previous map stay."""
        if finished(str(request.session_hash)) is not None:
            yield from draw(space, projection, dimensions, color, step, image, request)

    def unveil(request: gr.Request) -> dict[Any, Any]:
        """After a recording, shows its results and sets the sliders to the last step."""
        current = finished(str(request.session_hash))
        if current is None:
            return {halt: gr.update()}
        paths = current.record.paths
        record = paths.to_json()
        return {
            results: gr.update(visible=True),
            charts: gr.update(visible=True),
            step: gr.update(maximum=max(1, paths.steps), value=paths.steps),
            image: gr.update(maximum=len(paths.seeds), value=0),
            # Not by an event of its own: its answer could come after that of a slider that was moved meanwhile.
            **view(current, paths.steps, 0),
            words: summary(current),
            distance: figures.distance_curve(record["spaces"], record["times"], at=0.0),
            shapes: figures.path_figures(record["spaces"]["xt"]["members"], pairs.titles(paths.pair), pairs.colors(paths.pair)),
            **ui.no_downloads(files),
        }

    @ui.streamed
    def save(space: str, projection: str, dimensions: int, color: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Writes the files one after the other. Ends early if another run replaces this one."""
        current = held(request)
        if current is None or not (maps := current.record.maps):
            return
        drawn = maps.get((space, projection, int(dimensions))) or next(reversed(maps.values()))
        yield from ui.save(files, lambda kind: write(current, kind, drawn, color), lambda: held(request) is current)

    def choose_pair(pair: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        works.WORKS.end(session, KIND)
        RUNS.drop(session, KIND)
        return {
            **controls.fill_sampling(pair),
            space: gr.update(choices=space_menu(pair), value="xt"),
            color: gr.update(choices=color_menu(pair), value="member"),
            pictures: grids(pair, None, "state xt"),
            chosen: chosen_view(None, pair, 0, 0),
            results: gr.update(visible=False),
            charts: gr.update(visible=False),
            status: ui.status(ui.READY),
        }

    map_parts = [space, projection, dimensions, color]
    map_shown = [plot, note, code, status]
    unveiled = [results, charts, step, image, pictures, chosen, where, words, distance, shapes, halt, *files.values()]
    running = ui.on_run(
        KIND, run, controls.listed, [pictures, results, charts], go=go, halt=halt, line=status, stoppable=False,
        first=ui.scroll_js("paths-stage"),
    )  # fmt: skip
    unveiling = running.then(unveil, None, unveiled, **ui.AT_ONCE)
    ui.on_stop(KIND, unveiling, halt, status)
    drawing = unveiling.then(draw_first, [*map_parts, step, image], map_shown, **MAPS)
    drawing.then(save, map_parts, list(files.values()), **ui.FILES)
    for part in map_parts:
        part.input(draw, [*map_parts, step, image], map_shown, trigger_mode="always_last", **MAPS)
    plot.change(None, None, None, js=LISTEN_JS)
    for slider in (step, image):
        slider.change(None, [step, image], None, js=MOVE_JS)
        slider.change(show, [step, image], [pictures, chosen, where], trigger_mode="always_last", **ui.AT_ONCE)
    pick.click(None, [step, image], [step, image], js=PICK_JS)
    pair = controls.parts["pair"]
    changed = [*controls.listed, space, color, pictures, chosen, results, charts, status]
    pair.input(choose_pair, pair, changed, **ui.AT_ONCE)
    for name, button in ready.items():

        def example(request: gr.Request, name: str = name) -> dict[Any, Any]:
            settings, where, how = prepared[name]
            changes = choose_pair(settings.pair, request) | controls.fill(settings)
            changes[space]["value"] = where
            return {**changes, projection: how, dimensions: 2}

        ui.on_example(button, "paths-go", example, None, [*changed, projection, dimensions])
    page.load(None, None, None, js=PICTURES_JS)
    page.unload(forget)
    endpoints.add(Trajectories, downloads=2)
