"""The named endpoints of the tab: those of its requests, and ``/probe``, which reads a stored atlas."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import endpoints, pairs, ui
from explore import files, probes, zoo
from explore.experiments import Clock, Ruler, Steering
from explore.values import choose


def build(opening: str) -> None:
    """Adds the named endpoints ``/clock``, ``/probe``, ``/ruler`` and ``/steering``."""
    endpoints.add(Clock, downloads=0)
    endpoints.add(Ruler, downloads=0)
    endpoints.add(Steering, downloads=2)

    def probe(model: str, layer: str = "", view: str = "", told: str = "") -> dict[str, Any]:
        """How well linear probes predict the noise level from a model's activations, measured on real held-out images.

        Args:
            model: Name of a model with an atlas, such as celeba32-unet-velocity-none.
            layer: A block, such as mid.block.1, or input for the estimates without a network; empty for all.
            view: mean, mean_std or another view of the atlas; empty for all.
            told: Regime of the t that a conditioned model was told, such as random or fixed:0.05; empty for the first.

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
            own = probes.regimes(found)
            found = own[choose("regime", str(told)[:40], own)] if told else found
            for key, wanted in (("name", str(layer)[:100]), ("view", str(view)[:40])):
                if wanted:
                    known = list(dict.fromkeys(one[key] for one in found["layers"]))
                    choose("layer" if key == "name" else key, wanted, known)
                    found["layers"] = [one for one in found["layers"] if one[key] == wanted]
        except ValueError as error:
            raise ui.visible(error) from error
        return found

    wanted = [
        gr.Textbox(pairs.members(opening)[-1].name, label="model", visible=False),
        gr.Textbox("", label="layer", visible=False),
        gr.Textbox("", label="view", visible=False),
        gr.Textbox("", label="told", visible=False),
    ]
    answer = gr.JSON(label="probe", visible=False)
    gr.Button("probe", visible=False).click(probe, wanted, answer, api_name="probe", queue=False)
