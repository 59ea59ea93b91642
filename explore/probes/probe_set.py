"""The fitted probes of one model, and its implied noise level along a sampling run."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from explore import files, zoo
from explore.activations import VIEWS, hooks, inner
from explore.denoiser import Denoiser, misled
from explore.probes.linear import RidgeProbe
from explore.probes.targets import TARGETS, target_values
from explore.samplers import MAX_STEPS, SAMPLERS, Step, check_options
from explore.schedules import SCHEDULES, Schedule
from explore.seeds import check_seeds, keyed_noise
from explore.values import choose, real_number, whole_number


class Clock:
    """Fitted probes of one model: they read the implied clock, the noise level a layer believes it is at.

    Attributes:
        model: Name.
        target: A key of ``TARGETS``: what is read.
        schedule: The model's.
        levels: Values of logsnr that the probes were fitted at.
        probes: (given, layer, view) -> RidgeProbe. ``given`` is what the network was told while the probe was fitted:
            ``independent`` of the true t, or ``true``; ``any`` where the network does not hear it, and for the readers of
            the picture alone, whose layer is ``input``.
        best: (layer, view) with the smallest error near the data.
        sha256: Of the model's weights; empty where it is not known.
    """

    def __init__(
        self,
        model: str,
        target: str,
        schedule: Schedule,
        levels: Sequence[float],
        probes: dict[tuple[str, str, str], RidgeProbe],
        best: tuple[str, str],
        sha256: str = "",
    ) -> None:
        self.sha256 = sha256
        self.model, self.target, self.schedule, self.levels = model, target, schedule, list(levels)
        self.probes, self.best = probes, best

    def layers(self, view: str = "mean") -> list[str]:
        """Layers with a probe of ``view``, in the order of evaluation."""
        return list(dict.fromkeys(layer for _, layer, own in self.probes if own == view and layer != "input"))

    def probe(self, layer: str | None = None, view: str | None = None, given: str = "independent") -> RidgeProbe:
        """The probe of a layer, by default the best one.

        Args:
            layer: A hook point.
            view: A key of ``VIEWS``; by default the best one's if no layer is named, else ``mean``.
            given: ``independent`` or ``true``; alike for a network that does not hear the time.

        Raises:
            ValueError: For a layer, view or condition that no probe was fitted to.
        """
        layer, view = (self.best[0], view or self.best[1]) if layer is None else (layer, view or "mean")
        choose("condition", given, ("independent", "true"))
        choose("layer", layer, dict.fromkeys(own for _, own, _ in self.probes))
        choose("view", view, dict.fromkeys(own for _, name, own in self.probes if name == layer))
        return self.probes.get((given, layer, view)) or self.probes["any", layer, view]

    def uncertainty(self, probe: RidgeProbe, reading: float) -> float:
        """Root mean square error on held-out images, where the true value is what was read; between levels, interpolated."""
        values = target_values(self.target, self.schedule, self.levels)
        order = values.argsort()
        return float(np.interp(reading, values[order].numpy(), probe.held_out_error_[order].numpy()))

    @contextlib.contextmanager
    def follow(
        self, denoiser: Denoiser, layer: str | None = None, view: str | None = None, given: str = "independent"
    ) -> Iterator[list[Tensor]]:
        """Reads the clock at every evaluation of the network inside the block.

        Args:
            denoiser: The model that the probes were fitted to; a wrapper around it may be what is evaluated.
            layer: As for :meth:`probe`; so are ``view`` and ``given``.

        Yields:
            A list that grows by the reading of each evaluation, float64 (B,), or (B, P) for ``position``.
        """
        probe = self.probe(layer, view, given)
        layer, view = (self.best[0], view or self.best[1]) if layer is None else (layer, view or "mean")
        readings: list[Tensor] = []
        evaluations: list[bool] = []

        def read(module: nn.Module, inputs: Any, output: Tensor) -> None:
            value = probe.predict(VIEWS[view](output.detach()).cpu())
            value = value.unflatten(0, (len(output), -1)) if view == "position" else value
            readings[len(evaluations) - 1 :] = [value]  # of a module that is called several times, the last

        network = inner(denoiser)
        handle = network.register_forward_pre_hook(lambda *_: evaluations.append(True))
        try:
            with hooks(network, {layer: read}):
                yield readings
        finally:
            handle.remove()

    def save(self, path: Path) -> None:
        """Writes the probes as safetensors, float32, with what they are as JSON in the metadata."""
        tensors, entries = {}, []
        for number, ((given, layer, view), probe) in enumerate(self.probes.items()):
            tensors[f"{number}.coef"], tensors[f"{number}.pattern"] = probe.coef_.float(), probe.pattern_.float()
            tensors[f"{number}.error"] = probe.held_out_error_.float()
            entries.append(
                {"given": given, "layer": layer, "view": view, "intercept": probe.intercept_, "penalty": probe.penalty_}
            )
        about = {
            "model": self.model, "target": self.target, "levels": self.levels, "best": list(self.best), "probes": entries,
            "sha256": self.sha256,
        }  # fmt: skip
        files.save_state(path, tensors, kind="probes", **about)

    @staticmethod
    def read(path: Path, schedule: Schedule) -> Clock:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: If the file is missing or is something else.
        """
        if not path.is_file():
            raise ValueError(f"no probes at {path}; `python -m explore probe` makes them")
        tensors, about = files.load_state(path)
        if about.get("kind") != "probes":
            raise ValueError(f"{path} does not hold probes")
        probes = {}
        for number, entry in enumerate(about["probes"]):
            probe = RidgeProbe()
            probe.coef_, probe.pattern_ = (tensors[f"{number}.{name}"].double() for name in ("coef", "pattern"))
            probe.intercept_, probe.penalty_ = entry["intercept"], entry["penalty"]
            probe.held_out_error_ = tensors[f"{number}.error"].double()
            probes[entry["given"], entry["layer"], entry["view"]] = probe
        best = (about["best"][0], about["best"][1])
        return Clock(about["model"], about["target"], schedule, about["levels"], probes, best, about.get("sha256", ""))


def load(model: str, root: Path | None = None) -> Clock:
    """The shipped probes of a model of the zoo, ready to read its implied clock; they need no data.

    Raises:
        ValueError: For an unknown model, or one whose probes are not there or belong to other weights.
    """
    folder = (root or zoo.ROOT) / model
    info = zoo.info(model, root)
    if not (folder / "atlas.json").is_file():
        raise ValueError(f"{model} has no atlas; `python -m explore probe {model} --data SOURCE --out {folder}` makes it")
    if files.read_json(folder / "atlas.json").get("sha256") != info.sha256:
        raise ValueError(f"the atlas of {model} was made of other weights; `python -m explore probe` makes it anew")
    return Clock.read(folder / "probes.safetensors", SCHEDULES[info.schedule])


def clock_stream(
    denoiser: Denoiser,
    clock: Clock,
    seeds: Sequence[int],
    *,
    layers: Sequence[str] | None = None,
    view: str = "mean",
    given: str | Sequence[str] = "independent",
    offset: float = 0.0,
    sampler: str = "heun",
    steps: int = 25,
    **options: Any,
) -> Generator[tuple[Step, dict[str, Any]], None, None]:
    """Samples step by step, and reads the implied clock of layers at every evaluation of the network, beside the true clock.

    While it is suspended its hooks stay on the network: close it before the network is put to other uses.

    Args:
        denoiser: The model.
        clock: Its probes.
        seeds: N seeds, one an image, sampled in one batch.
        layers: Hook points; by default the best one, in the view it is best in.
        view: Of the layers that are named.
        given: Which probes, see :class:`Clock`; several to read each layer by each of them.
        offset: The network is told t plus this, held in [0, 1].
        sampler: A key of ``SAMPLERS``; so are the further ``options`` a sampler's.
        steps: 1 to 1000.

    Yields:
        Each Step of the sampler, and the run so far: ``t`` (E,) of the evaluations in their order, ``target``, ``true``
        (E,), ``told`` (E,), the target's value at what the network was told, ``offset``, and for each layer ``name``,
        ``view``, ``given``, ``mean`` (E,), ``std`` (E,) over the images and ``readings`` (E, N).

    Raises:
        ValueError: For a layer without a probe, or a setting that is out of range.
    """
    check_options(sampler, options)
    seeds, offset = check_seeds(seeds), real_number("the clock's offset", offset, -1, 1)
    if not seeds:
        raise ValueError("seeds must hold at least one seed")
    named: list[tuple[str | None, str | None]] = [(None, None)] if layers is None else [(layer, view) for layer in layers]
    conditions = [given] if isinstance(given, str) else list(given)
    true: list[float] = []

    def note(module: nn.Module, inputs: Any) -> None:
        true.append(float(inputs[1].flatten()[0]))

    def so_far(streams: list[tuple[dict[str, str], list[Tensor]]]) -> dict[str, Any]:
        times = torch.tensor(true, dtype=torch.float64)
        values = TARGETS[clock.target].values
        rows = []
        for label, stream in streams:
            readings = torch.stack(stream) if stream else torch.zeros(0, len(seeds))  # (E, N)
            summary = {"mean": readings.mean(1).tolist(), "std": readings.std(1, unbiased=False).tolist()}
            rows.append({**label, **summary, "readings": readings.tolist()})
        return {
            "target": clock.target, "t": list(true), "true": values(denoiser.schedule, times).tolist(),
            "told": values(denoiser.schedule, (times + offset).clamp(0, 1)).tolist(), "offset": offset, "layers": rows,
        }  # fmt: skip

    shown = misled(denoiser, offset)
    with contextlib.ExitStack() as stack:
        streams = []
        for condition in conditions:
            for layer, own in named:
                stream = stack.enter_context(clock.follow(denoiser, layer, own, condition))
                label = {"name": layer or clock.best[0], "view": own or clock.best[1], "given": condition}
                streams.append((label, stream))
        handle = shown.network.register_forward_pre_hook(note)
        stack.callback(handle.remove)
        start = keyed_noise(seeds, denoiser.shape).to(denoiser.device)
        for step in SAMPLERS[sampler](shown, start, steps, seeds=seeds, **options):
            yield step, so_far(streams)


def clock_run(
    denoiser: Denoiser, clock: Clock, seeds: Sequence[int], *, steps: int = 25, progress: bool = False, **settings: Any
) -> dict[str, Any]:
    """What :func:`clock_stream` says at the end of the run.

    Args:
        denoiser: The model.
        clock: Its probes.
        seeds: N seeds, one an image.
        steps: 1 to 1000.
        progress: Show a progress bar.
        settings: Those of :func:`clock_stream`: layers, view, given, offset, sampler, and the sampler's options.

    Raises:
        ValueError: As :func:`clock_stream`.
    """
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    stream = clock_stream(denoiser, clock, seeds, steps=steps, **settings)
    [(_, run)] = deque(tqdm(stream, total=steps + 1, unit="step", disable=not progress), maxlen=1)
    return run
