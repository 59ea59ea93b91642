"""The named endpoint ``/saliency`` of the tab, for gradio_client."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import pairs, ui, works
from app.saliency.asking import ask
from app.saliency.settings import read_settings, with_noise
from explore import saliency


def build(opening: str) -> None:
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
