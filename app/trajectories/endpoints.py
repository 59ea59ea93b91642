"""The named endpoint ``/trajectory`` of the tab, for gradio_client."""

from __future__ import annotations

import uuid
from typing import Any

import gradio as gr

from app import ui, works
from app.sampling import read_settings
from app.trajectories.runs import RUNS, Run, finish, stream
from app.trajectories.views import space_menu, write
from explore import trajectories
from explore.experiments import Compare
from explore.values import choose


def build(opening: Compare) -> None:
    """Adds the named endpoint ``/trajectory``, on hidden components."""

    def trajectory(
        pair: str, sampler: str, steps: int = 25, seed: int = 0, count: int = 4, eta: float = 0.0, clamp: bool = False,
        start: float | None = None, space: str = "xt", projection: str = "pca", dimensions: int = 2,
        request: gr.Request | None = None,
    ) -> tuple[dict[str, Any], str, str]:  # fmt: skip
        """Records the paths of both members of a pair from the same noise, and draws one map of them.

        Args:
            pair: A pair of models, such as celeba32-unet-velocity.
            sampler: ddim, ddpm, euler, heun or dpmpp_2m.
            steps: 1 to 1000.
            seed: Of the first image, 0 to 2^32 - 1; the others count up from it.
            count: Number of images, 1 to 64.
            eta: 0 to 1; has an effect on ddim only.
            clamp: Hold the estimate of the image in [-1, 1]; has an effect on ddim and ddpm only.
            start: First t, above 0 and at most 1; null for the model's own.
            space: Of the map: xt, x0_hat, or the name of a hook point.
            projection: pca or umap.
            dimensions: 2 or 3.

        Returns:
            Path length, curvature, distances and parting steps with their definitions, and what is to be said of the map; an
            npz of all recorded paths with the map's coordinates; the map as a page.
        """
        try:
            values = {"pair": pair, "sampler": sampler, "steps": steps, "seed": seed, "count": count}
            settings = read_settings({**values, "eta": eta, "clamp": clamp, "start": start})
            choose("space", str(space)[:100], [name for _, name in space_menu(settings.pair)])
            choose("projection", str(projection)[:100], trajectories.PROJECTIONS)
            size = int(ui.number("dimensions", dimensions, 2, 3, whole=True))
            with works.calling(request) as work:
                current = RUNS.begin(f"call-{uuid.uuid4().hex}", settings, work)
                assert isinstance(current, Run)
                for both, recorder in () if current.again else works.going_on(stream(settings), work):
                    if both[0].index == settings.sampling.steps:
                        current.paths = finish(recorder)
            assert current.paths is not None  # set at the last step
            key = (space, projection, size)
            drawn = current.maps.get(key) or trajectories.project(current.paths, *key, seed=0)
            current.maps[key] = drawn
            result = {**current.paths.to_json(), "map": drawn.to_json()}
            return result, write(current, "npz", drawn), write(current, "html", drawn)
        except ValueError as error:
            raise ui.visible(error) from error

    inputs = [
        gr.Textbox(opening.pair, label="pair", visible=False),
        gr.Textbox(opening.sampling.sampler, label="sampler", visible=False),
        gr.Number(25, label="steps", visible=False),
        gr.Number(0, label="seed", visible=False),
        gr.Number(4, label="count", visible=False),
        gr.Number(0.0, label="eta", visible=False),
        gr.Checkbox(False, label="clamp", visible=False),
        gr.Number(None, label="start", visible=False),
        gr.Textbox("xt", label="space", visible=False),
        gr.Textbox("pca", label="projection", visible=False),
        gr.Number(2, label="dimensions", visible=False),
    ]
    outputs = [
        gr.JSON(label="figures", visible=False),
        gr.File(label="npz", visible=False),
        gr.File(label="map", visible=False),
    ]
    gr.Button("trajectory", visible=False).click(
        trajectory, inputs, outputs, api_name="trajectory", concurrency_id=ui.MODEL_QUEUE, concurrency_limit=1
    )
