"""The fitted probes of one model: a file format, and the implied noise level during sampling.

The implied noise level of a layer is the prediction of a probe of it. Depends on activations, denoiser, files, samplers,
schedules, seeds, values, zoo, and targets, linear and told of this package.
"""

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
from explore.denoiser import Denoiser, shifted
from explore.probes.linear import RidgeProbe
from explore.probes.targets import TARGETS, target_values
from explore.probes.told import ANY, INDEPENDENT, check_condition, told_label
from explore.samplers import MAX_STEPS, SAMPLERS, Step, check_options
from explore.schedules import SCHEDULES, Schedule
from explore.seeds import check_seeds, keyed_noise
from explore.values import choose, real_number, whole_number


class ProbeSet:
    """The fitted probes of one model. They predict the implied noise level of a layer from its activations.

    Attributes:
        model: Name of the model.
        target: The predicted target, a key of ``TARGETS``.
        schedule: The model's noise schedule.
        levels: Log SNR values of the fit.
        probes: (given, layer, view) -> RidgeProbe. ``given`` is the regime of the network's input t during the fit, see
            :mod:`explore.probes.told`. It is ``any`` for a time-agnostic network, and for the baselines, whose layer is
            ``input``.
        best: (layer, view) of the probe with the smallest error near the data.
        sha256: Hash of the model's weights; empty if unknown.
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

    @property
    def regime(self) -> str:
        """The first regime that the probes were fitted in; ``any`` for a time-agnostic network."""
        return next((given for given, layer, _ in self.probes if layer != "input"), ANY)

    def regime_of(self, given: str) -> str:
        """The regime of the probes that :meth:`probe` finds for ``given``; ``any`` for a time-agnostic network.

        Raises:
            ValueError: If ``given`` is no condition, or if no probes were fitted in it.
        """
        given = check_condition("condition", given)
        if given == INDEPENDENT or self.regime == ANY:
            return self.regime
        fitted = list(dict.fromkeys(own for own, *_ in self.probes if own != ANY))
        if given not in fitted:
            raise ValueError(f"{self.model} has no probes with the condition {given}; it has {', '.join(fitted)}")
        return given

    def layers(self, view: str = "mean") -> list[str]:
        """Layers that have a probe of ``view``, in order of evaluation."""
        return list(dict.fromkeys(layer for _, layer, own in self.probes if own == view and layer != "input"))

    def probe(self, layer: str | None = None, view: str | None = None, given: str = "independent") -> RidgeProbe:
        """The probe of a layer, by default the best probe.

        Args:
            layer: A hook point; by default that of the best probe.
            view: A key of ``VIEWS``. By default that of the best probe if ``layer`` is None, else ``mean``.
            given: Input t during the fit: ``independent``, which stands for :attr:`regime`, or a regime, such as ``fixed:0.05``
                or ``true``. All give the same probe for a time-agnostic network.

        Raises:
            ValueError: If there is no probe of this layer, view or condition.
        """
        layer, view = (self.best[0], view or self.best[1]) if layer is None else (layer, view or "mean")
        given = self.regime_of(given)
        choose("layer", layer, dict.fromkeys(own for _, own, _ in self.probes))
        choose("view", view, dict.fromkeys(own for _, name, own in self.probes if name == layer))
        return self.probes.get((given, layer, view)) or self.probes[ANY, layer, view]

    def uncertainty(self, probe: RidgeProbe, reading: float) -> float:
        """Held-out root mean square error at the level where the target equals ``reading``, interpolated between levels."""
        values = target_values(self.target, self.schedule, self.levels)
        order = values.argsort()
        return float(np.interp(reading, values[order].numpy(), probe.held_out_error_[order].numpy()))

    @contextlib.contextmanager
    def follow(
        self, denoiser: Denoiser, layer: str | None = None, view: str | None = None, given: str = "independent"
    ) -> Iterator[list[Tensor]]:
        """Records the probe prediction at every evaluation of the network inside the ``with`` block.

        Args:
            denoiser: The model of the probes. Evaluations through a wrapper of it are recorded too.
            layer: As in :meth:`probe`, like ``view`` and ``given``.

        Yields:
            A list with one entry for each evaluation so far: predictions, float64 (B,), or (B, P) for the view ``position``.

        Raises:
            ValueError: As :meth:`probe`.
        """
        probe = self.probe(layer, view, given)
        layer, view = (self.best[0], view or self.best[1]) if layer is None else (layer, view or "mean")
        readings: list[Tensor] = []
        evaluations: list[bool] = []

        def read(module: nn.Module, inputs: Any, output: Tensor) -> None:
            value = probe.predict(VIEWS[view](output.detach()).cpu())
            value = value.unflatten(0, (len(output), -1)) if view == "position" else value
            readings[len(evaluations) - 1 :] = [value]  # if a module is called several times, keep its last output

        network = inner(denoiser)
        handle = network.register_forward_pre_hook(lambda *_: evaluations.append(True))
        try:
            with hooks(network, {layer: read}):
                yield readings
        finally:
            handle.remove()

    def to_bytes(self) -> bytes:
        """The probes as a safetensors file, float32, with what they are as JSON in the metadata."""
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
        return files.state_bytes(tensors, kind="probes", **about)

    def save(self, path: Path) -> None:
        """Writes :meth:`to_bytes`."""
        files.write_atomically(path, self.to_bytes())

    @staticmethod
    def read(path: Path, schedule: Schedule) -> ProbeSet:
        """Reads a file that :meth:`save` wrote.

        Args:
            path: The file.
            schedule: The model's noise schedule.

        Raises:
            ValueError: If the file is missing or does not hold probes.
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
            # Files from before there were several regimes have this name for the one that there was.
            given = "random" if entry["given"] == "independent" else entry["given"]
            probes[given, entry["layer"], entry["view"]] = probe
        best = (about["best"][0], about["best"][1])
        return ProbeSet(about["model"], about["target"], schedule, about["levels"], probes, best, about.get("sha256", ""))


def load(model: str) -> ProbeSet:
    """The probes that ship with a model of the zoo. They need no data.

    Args:
        model: Name of the model.

    Raises:
        ValueError: If the model is unknown, or if its probes are missing or were fitted to other weights.
    """
    folder, info = zoo.folder(model), zoo.info(model)
    if not (folder / "atlas.json").is_file():
        raise ValueError(f"{model} has no atlas; `python -m explore probe {model} --data SOURCE --out {folder}` makes it")
    if files.read_json(folder / "atlas.json").get("sha256") != info.sha256:
        raise ValueError(f"the atlas of {model} was made of other weights; run `python -m explore probe` again")
    return ProbeSet.read(folder / "probes.safetensors", SCHEDULES[info.schedule])


def implied_level_stream(
    denoiser: Denoiser,
    probe_set: ProbeSet,
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
    """Samples step by step, and records the true and the implied noise level at every evaluation of the network.

    The generator's hooks stay on the network while it is suspended. Close it before you use the network for something else.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        seeds: N seeds, one for each image. All images are sampled in one batch.
        layers: Hook points; by default the layer and view of the best probe.
        view: View of the named layers, a key of ``VIEWS``.
        given: Condition of the probes, see :class:`ProbeSet`. With several, each layer has one prediction for each.
        offset: Added to the network's input t, from -1 to 1. The sum is clipped to [0, 1].
        sampler: A key of ``SAMPLERS``.
        steps: 1 to 1000.
        options: Further options of the sampler.

    Yields:
        Each Step of the sampler, and the record so far, for E evaluations:

        - ``t`` (E,), their true t in order; ``target``; ``true`` (E,), the target at the true t;
        - ``given`` (E,), the target at the network's input t; ``offset``;
        - ``layers``, for each layer and condition ``name``, ``view``, ``given``, ``told`` (the regime of the probe), ``fitted``
          (the same in words, empty without a t input), ``readings`` (E, N), the probe predictions, and their ``mean`` (E,) and
          ``std`` (E,) over the images.

    Raises:
        ValueError: If a layer has no probe, or if a setting is out of range.
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
        values = TARGETS[probe_set.target].values
        rows = []
        for row, stream in streams:
            readings = torch.stack(stream) if stream else torch.zeros(0, len(seeds))  # (E, N)
            summary = {"mean": readings.mean(1).tolist(), "std": readings.std(1, unbiased=False).tolist()}
            rows.append({**row, **summary, "readings": readings.tolist()})
        return {
            "target": probe_set.target, "t": list(true), "true": values(denoiser.schedule, times).tolist(),
            "given": values(denoiser.schedule, (times + offset).clamp(0, 1)).tolist(), "offset": offset, "layers": rows,
        }  # fmt: skip

    shown = shifted(denoiser, offset)
    with contextlib.ExitStack() as stack:
        streams = []
        for condition in conditions:
            for layer, own in named:
                stream = stack.enter_context(probe_set.follow(denoiser, layer, own, condition))
                row = {"name": layer or probe_set.best[0], "view": own or probe_set.best[1], "given": condition}
                regime = probe_set.regime_of(condition)
                fitted = told_label(regime) if regime != ANY else ""
                streams.append((row | {"told": regime, "fitted": fitted}, stream))
        handle = shown.network.register_forward_pre_hook(note)
        stack.callback(handle.remove)
        start = keyed_noise(seeds, denoiser.shape).to(denoiser.device)
        for step in SAMPLERS[sampler](shown, start, steps, seeds=seeds, **options):
            yield step, so_far(streams)


def implied_level_run(
    denoiser: Denoiser, probe_set: ProbeSet, seeds: Sequence[int], *, steps: int = 25, progress: bool = False, **settings: Any
) -> dict[str, Any]:
    """The complete record of :func:`implied_level_stream` at the end of a sampling run.

    Args:
        denoiser: The model.
        probe_set: Its probes.
        seeds: N seeds, one for each image.
        steps: 1 to 1000.
        progress: Show a progress bar.
        settings: Other arguments of :func:`implied_level_stream`: ``layers``, ``view``, ``given``, ``offset``, ``sampler`` and
            its options.

    Raises:
        ValueError: As :func:`implied_level_stream`.
    """
    steps = whole_number("steps", steps, 1, MAX_STEPS)
    stream = implied_level_stream(denoiser, probe_set, seeds, steps=steps, **settings)
    [(_, run)] = deque(tqdm(stream, total=steps + 1, unit="step", disable=not progress), maxlen=1)
    return run
