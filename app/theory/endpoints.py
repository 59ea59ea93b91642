"""The named endpoint ``/posterior`` of the tab, for gradio_client; no request covers it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import endpoints, pairs, ui
from app.theory.posterior import datasets, read_posteriors
from app.theory.shared import PATHS
from explore.seeds import MAX_SEED
from explore.values import choose, real_number, whole_number


def build() -> None:
    """Adds the named endpoint ``/posterior``, on hidden components."""

    @endpoints.remembered
    def posterior(picture: str, t: float, seed: int = 0, dataset: str = "celeba", schedule: str = "flow") -> dict[str, Any]:
        """The exact posterior of t of a noisy image under three priors, each named with its result.

        Args:
            picture: An image file: PNG, JPEG, WebP, BMP or GIF; it is brought to 32 x 32 pixels.
            t: .02 to .98; 1 is noise.
            seed: Of the noise, 0 to 2^32 - 1.
            dataset: Whose fitted Gaussian and bundled images serve as priors: celeba or cifar10.
            schedule: flow, ddpm-cosine or ddpm-linear.

        Returns:
            Settings, and a row for each prior: name, prior in words, whether the image lies outside it, mean, std and the
            ends of the 95 % interval of t, and t and density, the curve.
        """
        try:
            dataset = choose("data set", str(dataset)[:40], datasets())
            schedule = choose("schedule", str(schedule)[:40], PATHS)
            t = real_number("t", t, 0.02, 0.98)
            seed = whole_number("seed", seed, 0, MAX_SEED)
            if not picture:
                raise ValueError("an image is needed")
            found, words = pairs.read_picture(picture, 32)
            _, rows = read_posteriors(found, dataset, schedule, t, seed)
        except ValueError as error:
            raise ui.visible(error) from error
        # Not the key "path": clients would take its value for a file.
        return {"dataset": dataset, "schedule": schedule, "t": t, "seed": seed, "picture": words, "rows": rows}

    asked: list[Any] = [
        gr.File(label="picture", type="filepath", visible=False),
        gr.Number(0.3, label="t", visible=False),
        gr.Number(0, label="seed", visible=False),
        gr.Textbox(datasets()[0] if datasets() else "", label="dataset", visible=False),
        gr.Textbox("flow", label="schedule", visible=False),
    ]
    answer = gr.JSON(label="posterior", visible=False)
    one_model: dict[str, Any] = {"concurrency_id": ui.MODEL_QUEUE, "concurrency_limit": 1}
    gr.Button("posterior", visible=False).click(posterior, asked, answer, api_name="posterior", **one_model)
