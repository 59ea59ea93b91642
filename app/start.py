"""The tab Start: the question in three sentences, two models answering it at once, and the way through the other tabs; and
the guided tour, a bar above all tabs.

The films are recorded beforehand, so that nobody waits: ``python -m app.start`` samples with the models and writes
``start.webp`` (a row a film, a column a moment) and ``start.json`` (what was run, with the hashes of the weights) beside this
file.
"""

from __future__ import annotations

import base64
import functools
import html
import io
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from app import ui
from explore import figures, files, trajectories, zoo
from explore.hardware import hardware_name
from explore.images import grid
from explore.samplers import Sampling

FILM, RECORD = (Path(__file__).with_name(f"start.{kind}") for kind in ("webp", "json"))
SEEDS, FRAMES, QUALITY = (0, 1, 2, 3), 17, 85
CASES: list[dict[str, Any]] = [
    {
        "title": "Noise prediction, plain ODE sampler",
        "pair": "celeba32-unet-eps",
        "settings": {"sampler": "ddim", "steps": 48, "eta": 0.0, "clamp": False},
    },
    {
        "title": "Same pair, rescued: clamping and fresh noise",
        "pair": "celeba32-unet-eps",
        "settings": {"sampler": "ddim", "steps": 48, "eta": 1.0, "clamp": True},
    },
    {
        "title": "Velocity prediction",
        "pair": "celeba32-unet-velocity",
        "settings": {"sampler": "heun", "steps": 24},
    },
]
QUESTION = (
    "A diffusion model turns noise into an image step by step, and at every step it is given the timestep: how noisy the "
    "image still is. But the noise is visible in the image itself. Each pair below was trained alike on the same images; "
    "one model is conditioned on the timestep, the other is time-agnostic: <b>does it matter?</b>"
)
# Tab -> what it answers; in the order of the lesson.
LESSON = {
    "Compare": "Denoise the same noise with both models, with any sampler, and step through the run.",
    "Clock": "Where inside the network is the noise level represented, and what happens with a wrong t?",
    "Saliency": "Which pixels does the implied noise level depend on?",
    "Trajectories": "Two paths from the same noise, on one map: where do they diverge?",
    "Theory": "What one image tells about its noise level, exactly, and what hiding t costs.",
    "Models": "All measurements, the model cards, and your own model.",
    "Quiz": "Can you see which model is time-agnostic?",
}


def record() -> None:
    """Samples every case and writes the films and their record.

    Raises:
        ValueError: If a pair is not installed.
    """
    rows, cases = [], []
    for case in CASES:
        members = zoo.members_of(case["pair"])
        denoisers = [zoo.load(name, "float32") for name in members]
        # The record grows along the stream: its end is all that is needed.
        [(_, run)] = deque(trajectories.compare(denoisers, SEEDS, pair=case["pair"], **case["settings"]), maxlen=1)
        chosen = [run.frames[round(k * (len(run.frames) - 1) / (FRAMES - 1))] for k in range(FRAMES)]
        for member in (0, 1):
            tiles = [np.asarray(grid(frame.xt[member], columns=2)) for frame in chosen]
            side = tiles[0].shape[0] - 1  # the grid has a line between pictures; films are enlarged, where it would be thick
            half = side // 2
            rows.append(np.concatenate([np.delete(np.delete(tile, half, 0), half, 1) for tile in tiles], 1))
        cases.append(
            {
                "pair": case["pair"], "members": members, "sha256": [zoo.index()[name]["sha256"] for name in members],
                "seeds": list(SEEDS), **case["settings"], "t": [round(frame.t, 4) for frame in chosen],
                "difference": run.differences[-1]["xt"], "standard_deviation": run.spread,
            }
        )  # fmt: skip
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, format="WEBP", quality=QUALITY, method=6)
    files.write_atomically(FILM, buffer.getvalue())
    about = {"command": "python -m app.start", "torch": torch.__version__, "hardware": hardware_name("cpu"), "cases": cases}
    files.write_json(RECORD, about, indent=1)


@functools.lru_cache(maxsize=1)
def recorded() -> list[dict[str, Any]]:
    """What was run for the films; empty where other models are installed than those they were made with."""
    known = {entry["sha256"] for entry in zoo.index().values()}
    cases = files.read_json(RECORD)["cases"] if RECORD.is_file() and FILM.is_file() else []
    return cases if all(set(case["sha256"]) <= known for case in cases) else []


def verdict(case: dict[str, Any]) -> str:
    """What the film shows, in words that follow from its figures."""
    conditioned, agnostic = case["standard_deviation"]
    figures = (
        f"the images differ by {case['difference']:.2f} per pixel (standard deviation {conditioned:.2f} and {agnostic:.2f}; "
        "photographs: 0.5)"
    )
    if agnostic > 2 * 0.5 and conditioned > 0.75:
        return f"The time-agnostic model leaves the range of images; the conditioned one strays too. On average {figures}."
    if agnostic > 2 * 0.5:
        return f"The time-agnostic model leaves the range of images: {figures}."
    near = case["difference"] < 0.25 * (conditioned + agnostic)
    return f"{'Hardly a difference' if near else 'A difference'}: {figures}."


def films() -> str:
    """The films as HTML: one picture holds all of them, and CSS moves it behind its windows."""
    cases = recorded()
    if not cases:
        return "<p class='note'>No films were recorded of the models that are installed here; Compare shows them live.</p>"
    content = base64.b64encode(FILM.read_bytes()).decode()
    last, parts = 2 * len(cases) - 1, []
    for number, (case, plan) in enumerate(zip(cases, CASES)):
        cells = []
        for member, name in enumerate(case["members"]):
            info = zoo.info(name)
            title, color = (
                zoo.TITLES[info.time_conditioning], figures.MEMBER_COLORS[info.time_conditioning]
            )  # fmt: skip
            said = html.escape(f"Film: four images from noise to the end, by the {title} model")
            window = (
                f'<div class="film" role="img" aria-label="{said}" style="--row:{100 * (2 * number + member) / last}%"></div>'
            )
            cells.append(ui.cell("", color, title, "", window))
        settings = {key: case[key] for key in plan["settings"]}
        query = "&".join(
            f"{key}={int(value) if isinstance(value, bool) else value}"
            for key, value in ({"pair": case["pair"]} | settings).items()
        )
        parts.append(
            f"<section><h3>{html.escape(plan['title'])}</h3><div class='pictures two'>{''.join(cells)}</div>"
            f"<p class='summary'>{html.escape(verdict(case))} "
            f"<a href='?{html.escape(query)}&seed=0&count=4'>Run it live</a></p>"
            f"<p class='note'>{html.escape(case['pair'])}, <code>{html.escape(Sampling(**settings).flags)}</code>, "
            f"<span>seeds 0-{len(case['seeds']) - 1}</span>, not cherry-picked.</p></section>"
        )
    moves = f"--film:url(data:image/webp;base64,{content});--frames:{FRAMES};--rows:{last + 1}"
    return (
        f'<div class="films" style="{moves}"><label class="pause"><input type="checkbox"> Pause on the final image</label>'
        f"<div class='row'>{''.join(parts)}</div></div>"
    )


CSS = """
#start-films .films .row { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 14px 26px; }
#start-films h3 { font-size: 1rem; font-weight: 600; margin: 0 0 6px; }
@media (min-width: 901px) { #start-films h3 { min-height: 2.7em; display: flex; align-items: end; } }
#start-films .pictures.two { max-width: none; }
#start-films .film { aspect-ratio: 1; background-image: var(--film); image-rendering: pixelated; background-repeat: no-repeat;
  background-size: calc(100% * var(--frames)) calc(100% * var(--rows)); background-position: 100% var(--row); }
#start-films .pause { display: inline-flex; gap: .5em; align-items: center; font-size: .85rem; padding: 4px 0 10px; }
#start-films a, #start-lesson button.link { color: var(--body-text-color); text-decoration: underline; }
#start-films code { font-size: .8rem; overflow-wrap: anywhere; }
#start-films .note span, #start-films .summary a { white-space: nowrap; }
#start-films .summary { padding-top: 6px; }
#start-question p { font-size: 1.1rem; max-width: 62rem; margin: .3rem 0; }
#start-lesson ol { padding-left: 1.3em; max-width: 62rem; }
#start-lesson li { margin: .3rem 0; }
#start-tour { max-width: 26rem; }
:is(#start-question, #start-films, #start-lesson) .html-container { padding: 0; }
#tour { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px 14px; gap: 6px;
  background: var(--background-fill-primary); }
#tour .stop p { margin: 0 0 .3rem; max-width: 75rem; }
#tour .stop { padding: 0; }
#tour .html-container { padding: 0; }
#tour .stepper-wrapper { padding: 2px 0 26px; }
#tour .tour-buttons { justify-content: flex-start; gap: 8px; }
#tour .tour-buttons button { flex: 0 1 auto; }
#tour .step-label { color: var(--body-text-color) !important; font-size: .85rem; }
@media (min-width: 641px) { #tour { position: sticky; top: 0; z-index: 60; } }
/* On a phone the text would cover the page: only the buttons stay, at its foot. */
@media (max-width: 640px) {
  #tour .tour-buttons { position: fixed; inset: auto 0 0 0; z-index: 60; padding: 8px 12px; justify-content: center;
    background: var(--background-fill-primary); border-top: 1px solid var(--border-color-primary); }
}
#start-lesson button.link { background: none; border: 0; padding: .2rem 0; font: inherit; font-weight: 600; cursor: pointer; }
@media (max-width: 900px) { #start-films .films .row { grid-template-columns: minmax(0, 1fr); }
  #start-films .pictures.two { max-width: 26rem; } }
"""
# Gradio confines CSS to the page's content, and with it the name of an animation: this part stands in the page's head.
HEAD = f"""<style>
@keyframes clockless-film {{ 0% {{ background-position-x: 0%; }} 72%, 100% {{ background-position-x: 100%; }} }}
@media (prefers-reduced-motion: no-preference) {{
  .films:not(:has(.pause input:checked)) .film {{ animation: clockless-film 6s steps({FRAMES}, jump-none) infinite; }}
}}
</style>
<script>
window.clocklessOpen = name => {{
  const tabs = [...document.querySelectorAll("button[role=tab]")];
  tabs.find(tab => tab.textContent.trim().toLowerCase() === name?.toLowerCase())?.click();
}};
// The stop of the tour that is shown.
window.clocklessStop = () => [...document.querySelectorAll("#tour .stop")].find(one => one.checkVisibility())?.dataset;
// Waits until the element is there (a tab is laid out when it is first opened), brings it below the tour, then goes on.
window.clocklessGoTo = (place, then) => {{
  const began = performance.now();
  const look = () => {{
    const found = document.getElementById(place);
    if (!found?.checkVisibility()) {{ if (performance.now() - began < 10000) setTimeout(look, 50); return; }}
    const go = () => {{
      const bar = document.getElementById("tour");
      const above = bar && getComputedStyle(bar).position === "sticky" ? bar.offsetHeight + 12 : 12;
      window.scrollTo({{top: window.scrollY + found.getBoundingClientRect().top - above, behavior: "smooth"}});
    }};
    go();
    then?.();
    // Figures above that came meanwhile have moved it, unless the person has moved already.
    let moved = false;
    for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"])
      addEventListener(kind, () => {{ moved = true; }}, {{once: true, passive: true}});
    setTimeout(() => {{ if (!moved) go(); }}, 1200);
  }};
  look();
}};
</script>"""
OPEN_TAB = "window.clocklessOpen(this.dataset.tab)"


def lesson(tabs: list[str]) -> str:
    """The way through the tabs that there are, as a list whose entries open them."""
    entries = "".join(
        f'<li><button class="link" data-tab="{name}" onclick="{OPEN_TAB}">{name}</button>: {LESSON[name]}</li>'
        for name in LESSON
        if name in tabs
    )
    return f"<h2>The tabs</h2><ol>{entries}</ol>"


def stops(tabs: Mapping[str, ModuleType]) -> list[tuple[str, ui.Stop]]:
    """The tour: name of a tab and its stop."""
    return [(name, stop) for name, tab in tabs.items() for stop in getattr(tab, "tour", list)()]


# Opens the tab of the stop that is shown and goes to its place; on a phone, where the text does not stay in sight, to the text.
ARRIVE_JS = """() => setTimeout(() => {
  const stop = window.clocklessStop();
  if (!stop) return;
  window.clocklessOpen(stop.tab);
  window.clocklessGoTo(window.innerWidth > 640 ? stop.place : "tour");
}, 80)"""
# Presses the button of the stop that is shown, in its tab, and goes to its place.
SHOW_JS = """() => {
  const stop = window.clocklessStop();
  window.clocklessOpen(stop.tab);
  window.clocklessGoTo(stop.place, () => document.getElementById(stop.press)?.click());
}"""


def build_tour(page: gr.Blocks, tabs: Mapping[str, ModuleType]) -> None:
    """Builds the guided tour, hidden until it is begun: by the button of the tab Start, or by an address with ``?tour=1``."""
    way = stops(tabs)
    with gr.Column(visible=False, elem_id="tour") as bar, gr.Walkthrough(selected=1, elem_id="tour-stops") as walk:
        moves = []
        for number, (tab, stop) in enumerate(way, start=1):
            with gr.Step(stop.title, id=number):
                gr.HTML(
                    f'<div class="stop" data-tab="{tab}" data-place="{stop.place}" data-press="{stop.press}">'
                    f"<p><b>{tab}: {stop.question}</b></p><p>{stop.look}</p></div>"
                )
                with gr.Row(elem_classes="tour-buttons"):
                    show = gr.Button(
                        "Show me", variant="primary", size="sm", min_width=90, visible=bool(stop.press),
                        elem_id=f"tour-show-{number}",
                    )  # fmt: skip
                    back = gr.Button("Back", size="sm", min_width=70, interactive=number > 1, elem_id=f"tour-back-{number}")
                    on = gr.Button(
                        "Next", size="sm", min_width=70, interactive=number < len(way), elem_id=f"tour-next-{number}"
                    )
                    end = gr.Button("End", size="sm", min_width=60, elem_id=f"tour-end-{number}")
                moves += [(back, number - 1), (on, number + 1)]
                show.click(None, None, None, js=SHOW_JS)
                end.click(lambda: gr.update(visible=False), None, bar, **ui.AT_ONCE)
    begin = gr.Button("tour", visible="hidden", elem_id="tour-begin")

    def at(number: int) -> dict[Any, Any]:
        return {bar: gr.update(visible=True), walk: gr.Walkthrough(selected=number)}

    def linked(request: gr.Request) -> dict[Any, Any]:
        wanted = str(request.query_params.get("tour", ""))
        number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 4 else 0
        return at(number) if 1 <= number <= len(way) else {bar: gr.skip()}

    for button, number in [(begin, 1), *moves]:
        button.click(functools.partial(at, number), None, [bar, walk], **ui.AT_ONCE).then(None, None, None, js=ARRIVE_JS)
    walk.select(None, None, None, js=ARRIVE_JS)  # a stop behind that is pressed in the row of stops
    page.load(linked, None, [bar, walk], **ui.AT_ONCE).then(None, None, None, js=ARRIVE_JS)


def build(page: gr.Blocks) -> None:
    """Builds the tab."""
    from app.__main__ import TABS  # here: the list of tabs has this one in it

    gr.HTML(f"<p>{QUESTION}</p>", elem_id="start-question")
    count = len(stops(TABS))
    take = gr.Button(f"Take the tour: {count} stops, ten minutes", variant="primary", elem_id="start-tour", min_width=200)
    take.click(None, None, None, js="() => document.querySelector('#tour-begin').click()")
    gr.HTML(films(), elem_id="start-films")
    gr.HTML(lesson(list(TABS)), elem_id="start-lesson")


if __name__ == "__main__":
    record()
