"""How the tab Trajectories shows a run: menus, map, image grids, summary and files."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from app import pairs, ui
from app.runs import VIEW, Run
from explore import figures, files, trajectories
from explore.experiments import Trajectories as Request
from explore.trajectories import Map, Trajectories

SPACES = {"state xt": "xt", "estimate x0_hat": "x0_hat"}
PROJECTIONS = {"PCA": "pca", "UMAP": "umap"}
COLORS = {"member": "member", "true t": "t", "implied t": "implied-t", "class": "class"}
FILES = {"npz": "npz: paths", "json": "JSON: figures", "html": "HTML: map", "gif": "GIF: film", "png": "PNG: images"}


def space_menu(pair: str) -> list[tuple[str, str]]:
    """(label, value) of the spaces of the map."""
    return [*SPACES.items(), *((f"activation of {name}", name) for name in pairs.layers(pair))]


def color_menu(pair: str) -> list[tuple[str, str]]:
    """(label, value) of the quantities that can color a map of this pair."""
    able = {"member", "t"}
    if pairs.has_clocks(pair):
        able.add("implied-t")
    if pairs.members(pair)[0].dataset == "cifar10":
        able.add("class")
    return [(label, name) for label, name in COLORS.items() if name in able]


def figure(run: Run, drawn: Map, color: str, frame: int, image: int | None) -> Any:
    """The map with markers at recorded point ``frame``; the paths of ``image`` (from 0) are highlighted, if given."""
    paths = run.record.paths
    values = {"t": paths.t.expand(2, len(paths.seeds), -1), "implied-t": paths.implied_t}.get(color)
    return figures.trajectory_map(
        drawn.coordinates.tolist(), paths.titles, paths.t.tolist(), pairs.colors(paths.pair),
        values=None if values is None else values.tolist(), value_title=color.replace("-", " "),
        classes=paths.classes if color == "class" else None, at=frame, chosen=image, axes=drawn.axes(),
        indices=paths.index.tolist(),
    )  # fmt: skip


def map_note(drawn: Map) -> str:
    """HTML note on the quality of a map."""
    about = drawn.about
    said = f"Fitted on the union of both members' {drawn.coordinates[..., 0].numel():,} points. "
    if "variance" in about:
        said += f"The axes explain <b>{sum(about['variance']):.1%}</b> of the variance. "
    else:
        said += (
            f"UMAP of {about['reduced_to']} principal components ({about['variance_before_umap']:.1%} of the variance): it "
            "keeps neighbors, not distances. "
        )
    said += (
        f"<b>Trustworthiness {drawn.trustworthiness:.3f}</b> (1: the {drawn.neighbors} nearest neighbors on the map are the "
        "nearest in the space)."
    )
    if drawn.space not in trajectories.SPACES:
        said += " Each network's channels are axes of its own, so a distance between the members means little here."
    return f"<p class='note'>{said}</p>"


def grids(pair: str, states: Sequence[Tensor] | None, what: str, image: int = 0) -> str:
    """HTML of one grid of images per member; ``image`` (from 1) is framed. A click on an image chooses it."""
    cells = []
    for member, (title, color) in enumerate(zip(pairs.titles(pair), pairs.colors(pair))):
        body = ui.empty("from noise to image, step by step")
        if states is not None:
            count = len(states[member])
            columns = math.ceil(math.sqrt(count))
            rows = math.ceil(count / columns)
            frame = ""
            if image:
                row, column = divmod(image - 1, columns)
                frame = (
                    f'<i style="left:{100 * column / columns:.2f}%;top:{100 * row / rows:.2f}%;'
                    f'width:{100 / columns:.2f}%;height:{100 / rows:.2f}%"></i>'
                )
            picture = ui.picture(states[member], f"{title}, {what}, a grid of images")
            body = f'<div class="pick" data-count="{count}" data-columns="{columns}" data-rows="{rows}">{picture}{frame}</div>'
        cells.append(ui.cell(f"member-{member}", color, title, what, body))
    return ui.pair_view(cells)


def chosen_view(paths: Trajectories | None, pair: str, image: int, frame: int) -> str:
    """HTML of state and estimate of one image by both members, enlarged; a hint if no image is chosen."""
    cells = []
    for space, what in (("xt", "state xt"), ("x0_hat", "estimate x0_hat")):
        for member, (title, color) in enumerate(zip(pairs.titles(pair), pairs.colors(pair))):
            body = ui.empty("click a path on the map or an image below")
            if paths is not None and image:
                picture = paths.pictures(space, image - 1, frame)[member][None]
                body = ui.picture(picture, f"image {image}, {title}, {what}")
            cells.append(ui.cell(f"{space} member-{member}", color, title, what, body))
    return ui.pair_view(cells)


def summary(run: Run) -> str:
    """HTML summary of a run: table of path geometry, and where the paths diverge."""
    paths = run.record.paths
    record = paths.to_json()
    rows = []
    for space, title in (("xt", "state xt"), ("x0_hat", "estimate x0_hat")):
        for member, color, name in zip(pairs.titles(paths.pair), pairs.colors(paths.pair), paths.members):
            found = record["spaces"][space]["members"][name]
            cells = [
                f"{found[what]['median']:.3f} <small>[{found[what]['low']:.3f}, {found[what]['high']:.3f}]</small>"
                if found[what]["median"] is not None else "none"
                for what in ("length", "detour", "curvature")
            ]  # fmt: skip
            rows.append([f"{ui.swatch(color)}{html.escape(member)}, {title}", *cells])
    caption = "Median and quartiles over the images; lengths are root mean square for images in [-1, 1]"
    head = ["", "path length", "length / straight line", "curvature, radians / length"]
    said = []
    for space, title in (("xt", "states"), ("x0_hat", "estimates")):
        parting = record["spaces"][space]["parting"]
        step = parting["step"]
        when = f", the median at step <b>{step['median']:g}</b> of {paths.steps}" if step else ""
        said.append(f"the {title} of <b>{parting['images_that_part']} of {parting['images']}</b> images diverge{when}")
    last = record["spaces"]["xt"]
    gap, strangers = last["between"]["per_step"][-1]["median"], last["strangers"]["per_step"][-1]
    yard = f" (two images of one member: {strangers:.3f})" if strangers is not None else ""
    took = f"{'(cached):' if run.again else 'after'} {run.record.seconds:.1f} s"
    words = (
        f"<b>Finished</b> {took}: {'; '.join(said)}. From its divergence step to the end, the distance between the members of "
        f"an image is {trajectories.PARTED:g} or more of what it would be between unrelated images. In the end the members are "
        f"{gap:.3f} apart{yard}. One training seed: part of a difference is chance."
    )
    if paths.options.get("eta") or paths.sampler == "ddpm":
        words += " This sampler adds noise at every step, so its paths are longer with more steps."
    return f"<p class='summary'>{words}</p>{ui.table(caption, head, rows)}"


def write(run: Run, kind: str, drawn: Map, color: str = "member") -> str:
    """Writes one file of a run and returns its path."""
    paths, colors, path = run.record.paths, pairs.colors(run.settings.pair), run.path(f"-paths.{kind}")
    if kind == "npz":
        path.write_bytes(paths.to_npz(drawn))
    elif kind == "json":
        path.write_text(json.dumps({**paths.to_json(), "map": drawn.to_json()}, indent=2) + "\n")
    elif kind == "html":
        files.write_atomically(path, figures.page(figure(run, drawn, color, len(paths.t) - 1, None)))
    else:
        record = paths.comparison()
        path.write_bytes(record.to_gif(colors) if kind == "gif" else record.to_png(colors))
    return str(path)


def as_code(run: Run, drawn: Map) -> str:
    """Python code that reproduces the paths and the map: that of the request, whose seed is also the projection's."""
    values: dict[str, Any] = {**run.settings.values, "projection": drawn.projection, "dimensions": drawn.coordinates.shape[-1]}
    if drawn.space in trajectories.SPACES:
        return Request.parse({**values, "space": drawn.space}).code
    return Request.parse({**values, "space": "activation", "layer": drawn.space, "view": VIEW}).code
