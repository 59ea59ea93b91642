"""The tab Clock: where the networks of a pair represent the noise level, and how they use it.

One file per section: :mod:`~app.clock.atlas`, :mod:`~app.clock.run` (the implied noise level while sampling),
:mod:`~app.clock.steer` and :mod:`~app.clock.ruler`. They share :mod:`~app.clock.shared` and do not import each other;
:mod:`~app.clock.endpoints` holds the named endpoints. The computations are in :mod:`explore.probes` and
:mod:`explore.interventions`. Only pairs with an atlas are offered.
"""

from __future__ import annotations

import html

import gradio as gr

from app import pairs, sampling, ui, works
from app.clock import atlas, endpoints, ruler, run, steer
from app.clock.atlas import CSS, VALUES, atlas_code
from app.clock.run import LIES, off_by, read_request
from app.clock.shared import SECTIONS, atlases, offered

__all__ = [
    "CSS", "LIES", "VALUES", "atlas_code", "atlases", "build", "off_by", "offered", "read_request", "tour", "warm_up",
]  # fmt: skip


def warm_up() -> None:
    """Imports scikit-image and loads the first pair's bundled images, so that the first click does not wait for them."""
    import skimage.restoration  # noqa: F401

    if offered()[0]:
        pairs.bank(offered()[0][0])


def tour() -> list[ui.Stop]:
    """The stops of the tour in this tab: the atlas, and the run with a shifted timestep. Empty without an atlas."""
    if not offered()[0]:
        return []
    return [
        ui.Stop(
            "Inside",
            "The time-agnostic model must get the noise level from its input. Where in the network is it represented?",
            "Each row of the maps is a layer, each column a noise level, from noise to data; brighter means a larger error of "
            "the linear probe. The time-agnostic model predicts the level well even near the data, on the right, where it is "
            "hardest. The map of the conditioned model depends on the t that it was given (<b>Told t</b>). A random t disturbs "
            "its activations. With one fixed t near the data it predicts the level there much better, still less well than the "
            "time-agnostic model.",
            "clock-atlas",
        ),
        ui.Stop(
            "A wrong t",
            "Give both models a t that is too large, at every step. Do they follow the given t or the image?",
            "The conditioned model's probe that was fitted with the true t (dashed) follows the wrong t, and its images get "
            "worse. "
            "The time-agnostic model has no t input: its implied noise level stays with the true one, and its images are "
            "identical. The first example, with the true t, is there to compare.",
            "clock-running",
            f"clock-example-{list(LIES.values()).index(0.2) + 1}",
        ),
    ]


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    able, refused = offered()
    said = "".join(f"<li><b>{html.escape(pair)}</b>: {html.escape(reason)}</li>" for pair, reason in refused.items())
    missing = (
        f"<details class='note'><summary>Pairs not offered here: {len(refused)}</summary><ul>{said}</ul>"
        "<p><code>python -m explore probe MODEL --data SOURCE --out checkpoints/MODEL</code> makes an atlas; it is offered "
        "when the app starts again.</p></details>"
    )
    if able:
        links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, (title, _) in SECTIONS.items())
        with gr.Row(elem_id="clock-head", elem_classes="tab-head", equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pair = gr.Dropdown(
                    able, value=able[0], label="Pair", filterable=False, info=sampling.PAIR_INFO,
                    elem_id="clock-pair",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320):
                gr.HTML(f"<nav aria-label='Sections of this tab'>{links}</nav>{missing if refused else ''}")
        changes = [atlas.build(page, pair), run.build(page, pair), steer.build(pair), ruler.build(pair)]
        for inputs, outputs, handler in changes:
            pair.input(handler, [pair, *inputs], outputs, **ui.AT_ONCE)
        page.unload(works.forget)
    else:
        gr.HTML(f"<div class='notice'><b>No pair has an atlas yet.</b> {missing}</div>")
    endpoints.build(able[0] if able else pairs.comparable_pairs()[0])
