"""The tab Theory: how precisely one image determines its noise level, and what hiding t costs.

One file per section, none with a trained network: :mod:`~app.theory.posterior` (the posterior of t of one image under named
priors), :mod:`~app.theory.exact` (Gaussian images, for which the optimal network is a formula) and :mod:`~app.theory.plane` (a
finite set of points). They share :mod:`~app.theory.shared` and do not import each other. The computations are in
:mod:`explore.bayes`. Every result called exact names its prior.
"""

from __future__ import annotations

import gradio as gr

from app import endpoints, ui, works
from app.theory import exact, plane, posterior
from app.theory.exact import HIDDEN
from app.theory.posterior import bank, costs_code, dimensions, posterior_table, prices, widths
from app.theory.shared import SECTIONS
from explore.experiments import ExactSampling, PlaneFlow, Posterior
from explore.experiments.posterior import datasets

__all__ = [
    "CSS", "HIDDEN", "bank", "build", "costs_code", "dimensions", "posterior_table", "prices", "tour", "widths",
]  # fmt: skip

CSS = """
#plane-pad svg { display: block; width: 100%; max-width: 260px; margin: auto; cursor: crosshair; border-radius: 4px;
  border: 1px solid rgba(127,127,127,.5); }
#plane-pad path { fill: none; stroke: rgba(127,127,127,.35); stroke-width: .015; }
#plane-pad text { fill: var(--body-text-color); font-size: .26px; opacity: .8; pointer-events: none; }
#plane-pad svg:has(circle) text { display: none; }
#plane-pad circle { fill: var(--body-text-color); }
.theory-plot { min-width: 0; }
#theory-exact-pictures .pictures.two { max-width: 52rem; }
"""


def tour() -> list[ui.Stop]:
    """The stops of the tour in this tab: the posterior of t, and the cost of hiding t."""
    found = [
        ui.Stop(
            "Is t in the image?",
            "Without any network: how precisely does one noisy image determine t?",
            "The curves are exact, each under its prior. They are narrow: an image has thousands of values, and each carries "
            "noise. So t can be estimated from the image.",
            "theory-posterior",
            "posterior-example-1",
        ),
        ui.Stop(
            "What it costs",
            "Yet the noise prediction failed. Which end of the path causes it? Here the optimal networks are known, and t is "
            "hidden from one of them near noise only.",
            "Hiding t above .95 is enough to ruin the samples. The first example hides it below .5, near the data, and costs "
            "nothing. The last example rescues the samples, as in Compare.",
            "theory-exact",
            "exact-example-2",
        ),
    ]
    return found if datasets() else found[1:]


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, (title, _) in SECTIONS.items())
    with gr.Row(elem_classes="tab-head"):
        gr.HTML(f"<nav aria-label='Sections of this tab'>{links}</nav>")
    if datasets():
        posterior.build(page)
    exact.build()
    plane.build(page)
    page.unload(works.forget)
    endpoints.add(Posterior, downloads=0)
    endpoints.add(ExactSampling, downloads=2)
    endpoints.add(PlaneFlow, downloads=1)
