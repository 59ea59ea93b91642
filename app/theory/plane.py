"""The section on points in the plane: the paths of the exact network on a finite set, with and without t."""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr
import torch

from app import ui
from app.theory.shared import COLORS, PATHS, SECTIONS, TITLES
from explore import bayes, figures
from explore.denoiser import PREDICTIONS
from explore.experiments import PlaneFlow, PlanePaths
from explore.experiments.exact import LEVELS
from explore.experiments.plane import MAX_POINTS, NEAR
from explore.samplers import MAX_STEPS

# Examples: pattern, number of points, typed points, target and path.
POINTS = {
    "two points": ("ring", 2, "-1, 0; 1, 0", "velocity", "flow"),
    "a spiral of 24": ("spiral", 24, "", "velocity", "flow"),
    "the spiral, predicting noise": ("spiral", 24, "", "eps", "ddpm-cosine"),
}
PLANE_EMPTY = tuple(
    (title, "paths from noise to the points", color) for title, color in zip(TITLES, COLORS)
)  # fmt: skip
# The plane from -2 to 2; a click appends a point to the text field.
PAD = """<svg viewBox="-2 -2 4 4" role="img" aria-label="The plane from -2 to 2 with your points; a click adds one">
<path d="M-2 0H2M0-2V2M-2-1H2M-2 1H2M-1-2V2M1-2V2"/><text text-anchor="middle" y=".35">click to add points</text><g></g>
</svg>"""
PAD_JS = """() => {
  if (window.clocklessPad) return;
  window.clocklessPad = text => {
    const dots = document.querySelector("#plane-pad g");
    if (!dots) return;
    const points = text.split(/[;\\n]/).map(part => part.trim().split(/[,\\s]+/).map(Number)).filter(one => one.length === 2);
    dots.replaceChildren(...points.map(([x, y]) => {
      const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      for (const [name, value] of Object.entries({cx: x, cy: -y, r: 0.07})) dot.setAttribute(name, value);
      return dot;
    }));
  };
  document.addEventListener("click", event => {
    const pad = event.target.closest?.("#plane-pad svg"), field = document.querySelector("#plane-typed :is(textarea, input)");
    if (!pad || !field) return;
    const box = pad.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * 4 - 2, y = 2 - (event.clientY - box.top) / box.height * 4;
    const known = field.value.trim().replace(/;$/, "");
    field.value = `${known}${known ? "; " : ""}${x.toFixed(2)}, ${y.toFixed(2)}`;
    field.dispatchEvent(new Event("input", {bubbles: true}));
    (REST)();
  });
}""".replace("REST", ui.rest_js("plane-go"))


def plane_words(asked: PlaneFlow, found: PlanePaths) -> str:
    """HTML summary of the distances between the final samples and the data."""
    said = [
        f"{title}: <b>{(away < NEAR).sum()}</b> of {len(away)} end on a point, mean distance {away.mean():.3f}"
        for title, away in zip(TITLES, found.away)
    ]
    return (
        f"<p class='summary'>{'; '.join(said)}.<br>Exact for: one of these {len(found.data)} points, each equally likely; "
        f" target {asked.target}, path {asked.schedule}, t one of {LEVELS} midpoints, uniform. In two "
        "dimensions a point tells little about its noise level; an image has thousands of dimensions.</p>"
    )


def build(page: gr.Blocks) -> None:
    with gr.Column(elem_classes="tab-section"):
        ui.heading("theory-plane", *SECTIONS["theory-plane"])
        ready = ui.examples("plane", POINTS)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pattern = gr.Dropdown(
                    list(bayes.PLANAR), value="spiral", label="Pattern", filterable=False, elem_id="plane-pattern",
                    info="Arrangement of the points.",
                )  # fmt: skip
                number = gr.Slider(
                    1, MAX_POINTS, 24, step=1, label="Points", info="Number in the pattern.", buttons=[],
                    elem_id="plane-points",
                )  # fmt: skip
                typed = gr.Textbox(
                    "", label="Or your own points", placeholder="-1, 0; 1, 0; 0, 1.5", elem_id="plane-typed",
                    info="x, y; x, y; ... from -2 to 2. Empty: the pattern.", max_length=4000,
                )  # fmt: skip
                gr.HTML(PAD, elem_id="plane-pad")
                clear = gr.Button("Clear my points", size="sm", elem_id="plane-clear")
                with gr.Row():
                    target = gr.Dropdown(
                        list(PREDICTIONS), value="velocity", label="Prediction type", filterable=False, min_width=120,
                        elem_id="plane-target", info="What the network predicts.",
                    )  # fmt: skip
                    path = gr.Dropdown(
                        [(title, name) for name, title in PATHS.items()], value="flow", label="Noise path", filterable=False,
                        min_width=170, elem_id="plane-path", info="How point and noise are mixed.",
                    )  # fmt: skip
                with gr.Row():
                    steps = gr.Number(50, label="Steps", info=f"1 to {MAX_STEPS}", min_width=90, elem_id="plane-steps")
                    count = gr.Number(48, label="Samples", info="1 to 64", min_width=90, elem_id="plane-count")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go = gr.Button("Follow the paths", variant="primary", elem_id="plane-go")
                status = gr.HTML(ui.status(ui.READY), elem_id="plane-status")
                with gr.Row(equal_height=False):
                    planes = []
                    for title in TITLES:
                        with gr.Column(min_width=320):
                            planes.append(
                                gr.Plot(show_label=False, label=title, elem_id=f"plane-{title}", elem_classes="tab-plot")
                            )
                summary = gr.HTML(ui.waiting(PLANE_EMPTY), elem_id="plane-summary")
                code = ui.code_part("plane")

    def follow(pattern: str, number: float, typed: str, target: str, path: str, steps: float, count: float) -> dict[Any, Any]:
        """Computes and draws the paths of both networks."""
        values = {
            "points": str(typed or "").strip(), "pattern": pattern, "number": number, "target": target, "schedule": path,
            "steps": steps, "count": count,
        }  # fmt: skip
        asked = PlaneFlow.parse(values)
        found = asked.run()
        drawn = [
            figures.planar_paths(found.data.tolist(), torch.nan_to_num(walk).clamp(-1e3, 1e3).tolist(), title, color)
            for walk, title, color in zip(found.paths, TITLES, COLORS)
        ]
        return {
            status: ui.status("Done.", 1.0), **dict(zip(planes, drawn)), summary: plane_words(asked, found), code: asked.code,
        }  # fmt: skip

    given = [pattern, number, typed, target, path, steps, count]
    ui.on_answer(go, follow, given, [*planes, summary, code], status, trigger_mode="always_last")
    number.input(None, None, None, js=ui.rest_js("plane-go"))
    page.load(None, None, None, js=PAD_JS)
    typed.change(None, typed, None, js="text => window.clocklessPad?.(text ?? '')")
    clear.click(lambda: "", None, typed, **ui.AT_ONCE)
    for name, button in ready.items():
        values = dict(zip((pattern, number, typed, target, path), POINTS[name]))
        ui.on_example(button, "plane-go", functools.partial(dict, values), None, list(values))
