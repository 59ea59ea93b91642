"""The section on points in the plane: the paths of the exact network on a finite set, with and without t."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Sequence
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from app import snippets, ui
from app.theory.shared import COLORS, MAX_SAMPLES, MAX_STEPS, PATHS, SECTIONS, TITLES
from explore import bayes, figures
from explore.denoiser import PREDICTIONS
from explore.experiments.exact import LEVELS
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise, seed_range
from explore.values import choose, number_in, real_number, whole_number

MAX_POINTS = 64
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


def read_points(text: Any, pattern: Any, count: Any) -> Tensor:
    """Points (K, 2), parsed from ``x, y; x, y; ...``; for an empty text, ``count`` points of the pattern.

    Raises:
        ValueError: If the text is not such a list, has too many points, or has a coordinate outside [-2, 2].
    """
    typed = str(text or "").strip()[:4000]
    if not typed:
        name = choose("pattern", str(pattern)[:40], bayes.PLANAR)
        return bayes.PLANAR[name](whole_number("the number of points", count, 1, MAX_POINTS))
    points = []
    for part in filter(None, (part.strip() for part in re.split(r"[;\n]", typed))):
        values = [value for value in re.split(r"[,\s]+", part) if value]
        if len(values) != 2:
            raise ValueError(f"a point is two numbers, such as 0.5, -1; got {part[:40]!r}")
        points.append([real_number("a coordinate", number_in(value), -2, 2) for value in values])
    if not 1 <= len(points) <= MAX_POINTS:
        raise ValueError(f"1 to {MAX_POINTS} points are taken, got {len(points)}")
    return torch.tensor(points, dtype=torch.float64)


def planar(points: Tensor, target: str, path: str, start: float, steps: int, count: int) -> list[Tensor]:
    """Paths (N, S, 2) of the exact ODE on the finite set ``points`` (K, 2), with and without t, from the same noise.

    Raises:
        ValueError: If the target is not defined on the path.
    """
    choose("target", target, PREDICTIONS), choose("noise path", path, PATHS)
    if PREDICTIONS[target].flow_only and path != "flow":
        raise ValueError(f"the target {target} is defined on the path flow only")
    prior = bayes.FiniteSet(points[:, :, None, None])
    levels = bayes.Levels.midpoints(SCHEDULES[path], LEVELS)
    seeds, found = seed_range(0, count), []
    for hidden in (None, (0.0, 1.0)):
        denoiser = bayes.bayes_denoiser(prior, levels, target, (2, 1, 1), hidden=hidden)
        noise = keyed_noise(seeds, denoiser.shape).double()
        walk = SAMPLERS["ddim"](denoiser, noise, steps, seeds=seeds, start=start)
        found.append(torch.stack([step.xt.flatten(1) for step in walk], 1))
    return found


def planar_code(typed: str, pattern: str, number: int, target: str, path: str, start: float, steps: int, count: int) -> str:
    """Python code that reproduces :func:`planar` on the points of :func:`read_points`."""
    points = f"bayes.PLANAR[{pattern!r}]({number})"
    if typed.strip():
        points = snippets.call("torch.tensor", read_points(typed, pattern, number).tolist(), dtype="=torch.float64")
    network = snippets.call("bayes.bayes_denoiser", "=prior", "=levels", target, (2, 1, 1), hidden="=hidden")
    run = snippets.call("SAMPLERS['ddim']", "=network", "=noise", steps, seeds="=seeds", start=start)
    return f"""import torch
from explore import bayes
from explore.samplers import SAMPLERS
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise, seed_range
points = {points}
prior, levels = bayes.FiniteSet(points[:, :, None, None]), bayes.Levels.midpoints(SCHEDULES[{path!r}], {LEVELS})
seeds = seed_range(0, {count})
noise = keyed_noise(seeds, (2, 1, 1)).double()
networks = [{network} for hidden in (None, (0.0, 1.0))]
[torch.stack([step.xt.flatten(1) for step in {run}], 1) for network in networks]  # (N, S, 2) conditioned and not
"""


def plane_words(points: Tensor, paths: Sequence[Tensor], target: str, path: str) -> str:
    """HTML summary of the distances between the final samples and the data."""
    said = []
    for title, walk in zip(TITLES, paths):
        away = torch.cdist(walk[:, -1].double(), points.double()).amin(1)
        said.append(f"{title}: <b>{(away < 0.02).sum()}</b> of {len(away)} end on a point, mean distance {away.mean():.3f}")
    return (
        f"<p class='summary'>{'; '.join(said)}.<br>Exact for: one of these {len(points)} points, each equally likely; "
        f" target {html.escape(target)}, path {html.escape(path)}, t one of {LEVELS} midpoints, uniform. In two "
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
                    info="Where the points of the finite set lie.",
                )  # fmt: skip
                number = gr.Slider(
                    1, MAX_POINTS, 24, step=1, label="Points", info="How many of the pattern.", buttons=[],
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
                        list(PREDICTIONS), value="velocity", label="Predicts", filterable=False, min_width=120,
                        elem_id="plane-target", info="What the network gives.",
                    )  # fmt: skip
                    path = gr.Dropdown(
                        [(title, name) for name, title in PATHS.items()], value="flow", label="Noise path", filterable=False,
                        min_width=170, elem_id="plane-path", info="How point and noise are mixed.",
                    )  # fmt: skip
                with gr.Row():
                    steps = gr.Number(50, label="Steps", info=f"1 to {MAX_STEPS}", min_width=90, elem_id="plane-steps")
                    count = gr.Number(48, label="Samples", info=f"1 to {MAX_SAMPLES}", min_width=90, elem_id="plane-count")
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
        points = read_points(typed, pattern, number)
        steps = whole_number("steps", steps, 1, MAX_STEPS)
        count = whole_number("the number of samples", count, 1, MAX_SAMPLES)
        start = 1.0 if path == "flow" and target != "eps" else 0.99
        paths = planar(points, str(target)[:40], str(path)[:40], start, steps, count)
        drawn = [
            figures.planar_paths(points.tolist(), torch.nan_to_num(walk).clamp(-1e3, 1e3).tolist(), title, color)
            for walk, title, color in zip(paths, TITLES, COLORS)
        ]
        return {
            status: ui.status("Done.", 1.0), **dict(zip(planes, drawn)), summary: plane_words(points, paths, target, path),
            code: planar_code(str(typed or ""), pattern, int(number), target, path, start, steps, count),
        }  # fmt: skip

    asked = [pattern, number, typed, target, path, steps, count]
    ui.on_answer(go, follow, asked, [*planes, summary, code], status, trigger_mode="always_last")
    number.input(None, None, None, js=ui.rest_js("plane-go"))
    page.load(None, None, None, js=PAD_JS)
    typed.change(None, typed, None, js="text => window.clocklessPad?.(text ?? '')")
    clear.click(lambda: "", None, typed, **ui.AT_ONCE)
    for name, button in ready.items():
        values = dict(zip((pattern, number, typed, target, path), POINTS[name]))
        ui.on_example(button, "plane-go", functools.partial(dict, values), None, list(values))
