"""Modules as people write them: in place, reused, compiled, wrapped. Each gives what the plain network gives, or one line.

Every case is the same function with the same weights, written in another way. Sampling, capturing, probing and attributing
must give the plain network's numbers; where a case cannot be used, the error says so in one line.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from explore import probes, saliency
from explore.activations import capture, hook_points
from explore.adapters import adapt
from explore.interventions import edited, steer
from explore.samplers import sample
from explore.values import Note

SHAPE = (3, 8, 8)
LEVELS = (-4.0, 0.0, 4.0)
LAYERS = ["stem", "block.0", "block.1"]


class Block(nn.Module):
    """3x3 convolutions with a ReLU between: a block with two layers, so a hook point in a ModuleList."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.last(torch.relu(self.first(h)))


class Plain(nn.Module):
    """stem, two blocks with a ReLU after each, head; it hears the time through a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.ModuleList([Block(), Block()])
        self.shift = nn.Linear(1, 8)
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def embed(self, t: Tensor) -> Tensor:
        return self.shift(t[:, None].to(self.shift.weight.dtype))[:, :, None, None]

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        h = self.stem(xt) + self.embed(t)
        for block in self.block:
            h = torch.relu(block(h))
        return self.head(h)


class InPlaceActivation(Plain):
    """An in-place ReLU after every hook point: what was captured before it must not change."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        h = self.stem(xt)
        h = h + self.embed(t)
        for block in self.block:
            h = block(h).relu_()
        return self.head(h)


class InPlaceInput(Plain):
    """Works on the very tensors it is handed: afterwards neither xt nor t is what it was."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        out = super().forward(xt.clone(), t.clone())
        if not xt.requires_grad:
            xt.mul_(0.5)
        t.mul_(1000)
        return out


class InPlaceResidual(Plain):
    """Adds to what a block returned, in place."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        h = self.stem(xt)
        h += self.embed(t)
        for block in self.block:
            h = block(h)
            h.clamp_(min=0)
        return self.head(h)


class OneBuffer(Plain):
    """Returns the same tensor at every call, and writes over it at the next."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        out = super().forward(xt, t)
        if torch.is_grad_enabled():
            return out
        if getattr(self, "out", None) is None or self.out.shape != out.shape:
            self.out = torch.empty_like(out)
        return self.out.copy_(out)


class TupleBlock(Block):
    def forward(self, h: Tensor) -> tuple[Tensor, str]:  # type: ignore[override]
        return super().forward(h), "and more"


class Pair(NamedTuple):
    sample: Tensor
    more: int


class NamedTupleBlock(Block):
    def forward(self, h: Tensor) -> Pair:  # type: ignore[override]
        return Pair(super().forward(h), 1)


@dataclass(frozen=True)
class Output:
    label: str
    sample: Tensor


class DataclassBlock(Block):
    def forward(self, h: Tensor) -> Output:  # type: ignore[override]
        return Output("sample", super().forward(h))


class MappingBlock(Block):
    def forward(self, h: Tensor) -> OrderedDict[str, Tensor]:  # type: ignore[override]
        return OrderedDict(sample=super().forward(h))


class Unpacking(Plain):
    """Blocks that return several values."""

    kind: type[Block]

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleList([self.kind(), self.kind()])

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        h = self.stem(xt) + self.embed(t)
        for block in self.block:
            out = block(h)
            h = out.sample if hasattr(out, "sample") else out["sample"] if isinstance(out, dict) else out[0]
            h = torch.relu(h)
        return self.head(h)


def unpacking(kind: type[Block]) -> type[Plain]:
    return type(f"Unpacking{kind.__name__}", (Unpacking,), {"kind": kind})


class Reused(Plain):
    """Calls its first block on something else first: the last call counts."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        h = self.stem(xt) + self.embed(t)
        self.block[0](torch.zeros_like(h))
        for block in self.block:
            h = torch.relu(block(h))
        return self.head(h)


class Lazy(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.LazyConv2d(8, 3, padding=1)


class WithUnused(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(8, 8, 1)


class Checkpointed(Plain):
    """Recomputes its blocks in the backward pass."""

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        h = self.stem(xt) + self.embed(t)
        for block in self.block:
            h = torch.relu(checkpoint(block, h, use_reentrant=False))
        return self.head(h)


class Wrapped(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        return self.network(xt, t)


class GivesTuple(Plain):
    def forward(self, xt: Tensor, t: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        return (super().forward(xt, t),)


class GivesDataclass(Plain):
    def forward(self, xt: Tensor, t: Tensor) -> Output:  # type: ignore[override]
        return Output("sample", super().forward(xt, t))


def normed(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.utils.parametrizations.weight_norm(module)
    return network


def same(network: nn.Module) -> nn.Module:
    return network


# Name -> the class, what is done to the network, how its hook points are called (a prefix), and how closely it agrees.
CASES: dict[str, tuple[type[Plain], object, str, float]] = {
    "in-place activation": (InPlaceActivation, same, "", 0),
    "in-place input": (InPlaceInput, same, "", 0),
    "in-place residual": (InPlaceResidual, same, "", 0),
    "one output buffer": (OneBuffer, same, "", 0),
    "blocks give tuples": (unpacking(TupleBlock), same, "", 0),
    "blocks give named tuples": (unpacking(NamedTupleBlock), same, "", 0),
    "blocks give dataclasses": (unpacking(DataclassBlock), same, "", 0),
    "blocks give mappings": (unpacking(MappingBlock), same, "", 0),
    "a block reused": (Reused, same, "", 0),
    "lazy": (Lazy, same, "", 0),
    "a module never called": (WithUnused, same, "", 0),
    "checkpointed": (Checkpointed, same, "", 0),
    "wrapped": (Plain, Wrapped, "network.", 0),
    "weight norm": (Plain, lambda network: normed(network), "", 1e-5),
    "DataParallel": (Plain, nn.DataParallel, "module.", 0),
    "compiled": (Plain, lambda network: torch.compile(network, backend="aot_eager"), "_orig_mod.", 1e-5),
    "training mode": (Plain, lambda network: network.train(), "", 0),
    "float64": (Plain, lambda network: network.double(), "", 1e-5),
    "bfloat16": (Plain, lambda network: network.bfloat16(), "", 0.05),
    "half": (Plain, lambda network: network.half(), "", 0.01),
}


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    torch.manual_seed(0)
    return Plain().requires_grad_(False)


@pytest.fixture(scope="module")
def atlas(plain):
    """Of the plain network: what atlas.json would hold, and the probes."""
    return probes.atlas(adapted(copy.deepcopy(plain)), pictures(), layers=LAYERS, views=["mean"], levels=LEVELS, controls=1)


@pytest.fixture(params=CASES)
def case(request, plain):
    """A network of the same function, adapted, with the prefix of its hook points and a tolerance."""
    kind, change, prefix, tolerance = CASES[request.param]
    network = kind()
    network.load_state_dict(plain.state_dict(), strict=kind is not WithUnused)
    return adapted(change(network)), prefix, tolerance


def adapted(network: nn.Module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # none of them is trained
        denoiser = adapt(network, "velocity", "flow", SHAPE)
    network.requires_grad_(False)
    return denoiser


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    if not tolerance:
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(
            found.float(), expected.float(), rtol=tolerance, atol=tolerance * float(expected.abs().max())
        )


def pictures(count: int = 15) -> Tensor:
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return (255 * nn.functional.interpolate(coarse, size=8, mode="bilinear")).to(torch.uint8)


def test_sampling(case, plain):
    denoiser, _, tolerance = case
    expected = adapted(copy.deepcopy(plain))
    close(sample(denoiser, [0, 1, 2], "heun", 4), sample(expected, [0, 1, 2], "heun", 4), 4 * tolerance)


def test_what_is_given_is_not_changed(case):
    denoiser, _, _ = case
    for layout in (torch.contiguous_format, torch.channels_last):
        xt, t = torch.randn(2, *SHAPE).contiguous(memory_format=layout), torch.tensor([0.25, 0.5])
        before = xt.clone(), t.clone()
        first = denoiser.output(xt, t)
        kept = first.clone()
        denoiser.output(-xt, 1 - t)
        assert torch.equal(xt, before[0]) and torch.equal(t, before[1]) and torch.equal(first, kept)


def test_capturing(case, plain):
    denoiser, prefix, tolerance = case
    names = ["stem", "block.0", "block.1", "head"]
    points = hook_points(denoiser)
    assert {f"{prefix}{name}" for name in names} <= set(points) and f"{prefix}unused" not in points
    xt = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)
    same = copy.deepcopy(plain).to(
        memory_format=torch.channels_last
    )  # as adapted: some processors round the layouts differently
    with capture(same, names) as expected:
        same(xt, torch.full((2,), 0.5))
    with capture(denoiser, [f"{prefix}{name}" for name in names]) as found:
        denoiser.output(xt, 0.5)
    for name in names:
        close(found[f"{prefix}{name}"], expected[name], tolerance)
        assert points[f"{prefix}{name}"].shape == tuple(expected[name].shape[1:])


def test_probing(case, atlas):
    denoiser, prefix, tolerance = case
    expected, _ = atlas
    layers = [f"{prefix}{name}" for name in LAYERS]
    found, clock = probes.atlas(denoiser, pictures(), layers=layers, views=["mean"], levels=LEVELS, controls=1)
    rows = {(row.name.removeprefix(prefix), row.view): row for row in found.layers}
    for row in expected.layers:
        assert rows[row.name, row.view].r2 == pytest.approx(row.r2, abs=max(1e-9, 20 * tolerance))
    run = probes.implied_level_run(denoiser, clock, [0, 1], layers=[f"{prefix}block.0"], sampler="heun", steps=3)
    assert len(run["t"]) == 5 and run["t"][0] == 1.0 and len(run["layers"][0]["readings"]) == 5


def test_attributing(case, plain, atlas):
    denoiser, prefix, tolerance = case
    reference, (_, clock) = adapted(copy.deepcopy(plain)), atlas
    xt = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    expected = saliency.attribute(
        reference, xt, 0.5, method="integrated-gradients", probe_set=clock, layer="block.0", checks=()
    )
    key = f"{prefix}block.0"
    fitted = {(told, f"{prefix}{layer}", view): one for (told, layer, view), one in clock.probes.items()}
    own = probes.ProbeSet("case", "logsnr", clock.schedule, LEVELS, fitted, (key, "mean"))
    found = saliency.attribute(denoiser, xt, 0.5, method="integrated-gradients", probe_set=own, layer=key, checks=())
    close(found.map, expected.map, max(20 * tolerance, 1e-5))
    for method in saliency.SALIENCY:
        at = "block.1" if saliency.SALIENCY[method].domain == "layer" else None
        asked = {"t": 0.5, "target": "x0-region", "method": method, "checks": ()}
        expected = saliency.attribute(reference, xt, at=at, **asked)
        found = saliency.attribute(denoiser, xt, at=at and f"{prefix}{at}", **asked)
        close(found.map, expected.map, max(20 * tolerance, 1e-5))


def test_steering(case, plain):
    """An edit reaches the same place in a block's output, also where it is one of several values."""
    denoiser, prefix, tolerance = case
    reference, xt = adapted(copy.deepcopy(plain)), torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    edit = steer(torch.linspace(-1, 1, 8))
    with edited(reference, "block.1", edit, (0.4, 0.6)):
        expected = reference.output(xt, torch.tensor([0.5, 0.9]))
    with edited(denoiser, f"{prefix}block.1", edit, (0.4, 0.6)):
        found = denoiser.output(xt, torch.tensor([0.5, 0.9]))
    assert not torch.equal(expected[0], reference.output(xt, torch.tensor([0.5, 0.9]))[0])
    close(found, expected, tolerance)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GivesTuple, r"must return a tensor of the shape of xt; it returned a tuple"),
        (GivesDataclass, r"must return a tensor of the shape of xt; it returned a Output"),
    ],
)
def test_networks_that_return_something_else_are_refused(kind, message):
    with pytest.raises(ValueError, match=message) as error:
        adapt(kind(), "velocity", "flow", SHAPE)
    assert "\n" not in str(error.value)


def test_hook_points_that_cannot_be_read_say_so(plain):
    denoiser = adapted(WithUnused())
    with pytest.raises(ValueError, match="'unused' is never called"), capture(denoiser, ["unused"]):
        denoiser.output(torch.randn(2, *SHAPE), 0.5)
    with pytest.raises(ValueError, match="'unused' is never called"):
        probes.atlas(denoiser, pictures(), layers=["stem", "unused"], levels=LEVELS)
    with capture(denoiser, ["stem"]) as cache:
        with pytest.raises(ValueError, match="nothing was captured at 'stem'"):
            cache["stem"]
        with pytest.raises(ValueError, match="'head' is not captured; captured are stem"):
            cache["head"]
    with pytest.raises(ValueError, match=r"images .* or tokens .* this one is \(15, 8\)"):
        probes.atlas(denoiser, pictures(), layers=["shift"], levels=LEVELS)

    class Words(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.words = Talking()

        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            self.words(xt)
            return super().forward(xt, t)

    denoiser = adapted(Words())
    with pytest.raises(ValueError, match="'words' returns a str without a tensor"), capture(denoiser, ["words"]):
        denoiser.output(torch.randn(2, *SHAPE), 0.5)


class Talking(nn.Module):
    def forward(self, xt: Tensor) -> str:
        return "no tensor"


def test_torchscript_samples_and_says_what_it_cannot_do(plain):
    traced = torch.jit.trace(Plain().eval(), (torch.zeros(2, *SHAPE), torch.zeros(2)))
    traced.load_state_dict(plain.state_dict())
    denoiser = adapted(traced)
    close(sample(denoiser, [0], "heun", 2), sample(adapted(copy.deepcopy(plain)), [0], "heun", 2), 1e-5)
    for ask in (
        lambda: probes.atlas(denoiser, pictures(), levels=LEVELS, controls=1),
        lambda: saliency.attribute(denoiser, torch.zeros(1, *SHAPE), 0.5, "noise-norm", "saliency", checks=()),
    ):
        with pytest.raises(ValueError, match="nothing can be read inside a TorchScript module"):
            ask()


def test_a_network_without_hook_points_says_so():
    class Halving(nn.Module):
        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            return xt / 2

    with pytest.raises(ValueError, match="Halving has no hook points"):
        probes.atlas(adapted(Halving()), pictures(), levels=LEVELS)


def test_one_channel_and_channels_last_images_are_the_callers_own():
    """A module that halves its input in place: x0_hat of x_t = 1 at t = .5 is 1 - .5 * .5."""

    class Halving(nn.Module):
        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            return xt.mul_(0.5)

    for shape in ((1, 8, 8), SHAPE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Note)
            denoiser = adapt(Halving(), "velocity", "flow", shape)
        xt = torch.ones(2, *shape).contiguous(memory_format=torch.channels_last)
        assert denoiser(xt, 0.5).unique().tolist() == [0.75] and xt.unique().tolist() == [1.0]
