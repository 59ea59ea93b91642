"""The named endpoints ``/clock``, ``/probe`` and ``/ruler`` of the tab, for gradio_client.

``/probe`` reads a stored atlas, and no request covers ``/ruler``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import endpoints, pairs, ui
from app.clock.ruler import MAX_LOGSNR, measure
from explore import files, zoo
from explore.experiments import Clock
from explore.seeds import MAX_SEED
from explore.values import choose, real_number, whole_number


def build(opening: str) -> None:
    """Adds the named endpoints ``/clock``, ``/probe`` and ``/ruler``."""
    endpoints.add(Clock, downloads=0)

    def probe(model: str, layer: str = "", view: str = "") -> dict[str, Any]:
        """How well linear probes predict the noise level from a model's activations, measured on real held-out images.

        Args:
            model: Name of a model with an atlas, such as celeba32-unet-velocity-none.
            layer: A block, such as mid.block.1, or input for the estimates without a network; empty for all.
            view: mean, mean_std or another view of the atlas; empty for all.

        Returns:
            The atlas of the model: command, data, images, target, levels, yardsticks, the best layer, and for each layer
            and view r2, r2_random_network, selectivity, and by level bias, std, error and error_over_yardstick.
        """
        try:
            info = zoo.info(str(model)[:100])
            path = zoo.folder(info.name) / "atlas.json"
            if not path.is_file():
                raise ValueError(f"{info.name} has no atlas; python -m explore probe makes one")
            found = files.read_json(path)
            for key, wanted in (("name", str(layer)[:100]), ("view", str(view)[:40])):
                if wanted:
                    known = list(dict.fromkeys(one[key] for one in found["layers"]))
                    choose("layer" if key == "name" else key, wanted, known)
                    found["layers"] = [one for one in found["layers"] if one[key] == wanted]
        except ValueError as error:
            raise ui.visible(error) from error
        return found

    @endpoints.remembered
    def ruler(picture: str, logsnr: float, seed: int = 0, pair: str = opening) -> dict[str, Any]:
        """Adds noise to an image and gives every estimate of its level.

        Args:
            picture: An image file: PNG, JPEG, WebP, BMP or GIF.
            logsnr: -8 (noise) to 8 (clean).
            seed: Of the noise, 0 to 2^32 - 1.
            pair: A pair of models with an atlas.

        Returns:
            Settings, and rows of estimator (reader), what it is, and its value with the ends of an interval of about 95%.
        """
        try:
            pair = choose("pair", str(pair)[:100], zoo.pairs())
            logsnr = real_number("logsnr", logsnr, -MAX_LOGSNR, MAX_LOGSNR)
            seed = whole_number("seed", seed, 0, MAX_SEED)
            if not picture:
                raise ValueError("a picture is needed")
            pairs.clocks(pair)
            found, words = pairs.read_picture(picture, pairs.members(pair)[0].resolution)
            rows = measure(pair, found, logsnr, seed)
        except ValueError as error:
            raise ui.visible(error) from error
        return {"pair": pair, "logsnr": logsnr, "seed": seed, "picture": words, "rows": rows}

    one_model: dict[str, Any] = {"concurrency_id": ui.MODEL_QUEUE, "concurrency_limit": 1}
    wanted = [
        gr.Textbox(pairs.members(opening)[-1].name, label="model", visible=False),
        gr.Textbox("", label="layer", visible=False),
        gr.Textbox("", label="view", visible=False),
    ]
    answer = gr.JSON(label="probe", visible=False)
    gr.Button("probe", visible=False).click(probe, wanted, answer, api_name="probe", queue=False)
    shown: list[Any] = [
        gr.File(label="picture", type="filepath", visible=False),
        gr.Number(2.0, label="logsnr", visible=False),
        gr.Number(0, label="seed", visible=False),
        gr.Textbox(opening, label="pair", visible=False),
    ]
    answer = gr.JSON(label="ruler", visible=False)
    gr.Button("ruler", visible=False).click(ruler, shown, answer, api_name="ruler", **one_model)
