"""The architectures: what the members of a pair share (rule 1), and that absent time is absent (rules 2 and 4)."""

from __future__ import annotations

import hashlib
import inspect

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from explore import activations, zoo
from explore.models import ARCHITECTURES, TIME_CONDITIONINGS, build, count_parameters
from explore.models.layers import FREQUENCIES, Attention, SinusoidalFeatures, is_time_parameter
from explore.models.unet import GroupNorm

# What is tested: every architecture, and the DiT with convolutions at full resolution.
NETWORKS: dict[str, tuple[str, dict[str, int]]] = {
    **{name: (name, {}) for name in ARCHITECTURES},
    "dit-pixels": ("dit", {"pixel_channels": 8}),
}
every_architecture = pytest.mark.parametrize("architecture", NETWORKS)
every_conditioning = pytest.mark.parametrize("conditioning", TIME_CONDITIONINGS)

# Size of the time layers of zoo.TINY's networks, by hand. Both embed 64 features at width 32 (64*32+32 + 32*32+32); the
# U-Net's six blocks (8+16 down, 16+16 middle, 16+8 up) have (32+1)*2 a channel, the DiT's two have (32+1)*6*32.
TIME_SIZE = {"unet": 3136 + 33 * 2 * 80, "dit": 3136 + 2 * 33 * 6 * 32, "dit-pixels": 3136 + 2 * 33 * 6 * 32}


def make(network: str, conditioning: str, seed: int = 0, **change: object) -> nn.Module:
    """One of ``NETWORKS`` as the trainer builds it."""
    architecture, options = NETWORKS[network]
    return build(architecture, conditioning, {**zoo.TINY[architecture], **options, **change}, seed)


def tiny(network: str, conditioning: str) -> nn.Module:
    """One of ``NETWORKS`` with random parameters."""
    architecture, options = NETWORKS[network]
    return zoo.tiny(architecture, conditioning, **options).network


def members(architecture: str, seed: int = 0) -> dict[str, nn.Module]:
    """One network a value of time_conditioning, as the trainer builds them."""
    return {value: make(architecture, value, seed).eval() for value in TIME_CONDITIONINGS}


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@every_architecture
def test_members_of_a_pair_start_identical_in_what_they_share(architecture: str) -> None:
    states = {value: network.state_dict() for value, network in members(architecture).items()}
    shared = set(states["none"])
    assert not any(is_time_parameter(name) for name in shared)
    for value in ("timestep", "constant"):
        assert shared < set(states[value])
        assert all(is_time_parameter(name) for name in set(states[value]) - shared)
        for name in shared:
            assert torch.equal(states[value][name], states["none"][name]), name
    for name in set(states["timestep"]) & set(states["constant"]):
        assert torch.equal(states["timestep"][name], states["constant"][name]), name


@every_architecture
def test_the_seed_decides_the_parameters(architecture: str) -> None:
    first, again, other = (members(architecture, seed)["none"].state_dict() for seed in (0, 0, 1))
    weights = [name for name in first if name.startswith("stem") and name.endswith("weight")]
    assert weights and all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in weights)


@every_architecture
def test_initial_weights_have_the_stated_spread(architecture: str) -> None:
    network = make(architecture, "timestep", resolution=16)
    layer = network.time_embedding.mlp[2]  # 32 x 32, uniform with variance 1 / (3 fan_in)
    assert layer.weight.std().item() == pytest.approx((1 / (3 * 32)) ** 0.5, rel=0.1)
    assert layer.weight.abs().max() <= 32**-0.5
    assert not layer.bias.any()


@every_architecture
def test_parameter_counts(architecture: str) -> None:
    counts = {value: count_parameters(network) for value, network in members(architecture).items()}
    size = sum(parameter.numel() for parameter in members(architecture)["none"].parameters())
    assert counts["none"] == (size, size)
    assert counts["timestep"] == (size + TIME_SIZE[architecture], size)
    assert counts["constant"] == (size + TIME_SIZE[architecture] + FREQUENCIES, size)  # and its one learned vector


@every_architecture
def test_all_three_are_one_function_before_training(architecture: str) -> None:
    networks = members(architecture)
    for network in networks.values():
        for name, parameter in network.named_parameters():
            if not is_time_parameter(name):  # the head starts at zero: move what is shared, in the same way
                generator = torch.Generator().manual_seed(len(name))
                with torch.no_grad():
                    parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    t = torch.tensor([0.1, 0.5, 0.9])
    outputs = {value: network(images(), t) for value, network in networks.items()}
    assert outputs["none"].std() > 0.1
    assert torch.equal(outputs["timestep"], outputs["none"])
    assert torch.equal(outputs["constant"], outputs["none"])


@every_architecture
def test_output_is_zero_before_training(architecture: str) -> None:
    for network in members(architecture).values():
        assert not network(images(), torch.rand(3)).any()


@every_architecture
@every_conditioning
def test_only_timestep_sees_t(architecture: str, conditioning: str) -> None:
    network = tiny(architecture, conditioning)
    xt = images()
    for early, late in ((0.0, 1.0), (0.5, 0.501)):
        a, b = network(xt, torch.full((3,), early)), network(xt, torch.full((3,), late))
        assert torch.equal(a, b) == (conditioning != "timestep")
    # Nor may one image's t reach another's output.
    mixed = network(xt, torch.tensor([0.5, 0.1, 0.9]))
    torch.testing.assert_close(mixed[0], network(xt, torch.full((3,), 0.5))[0], rtol=1e-5, atol=1e-5)


@every_architecture
@every_conditioning
def test_every_parameter_gets_a_gradient(architecture: str, conditioning: str) -> None:
    network = tiny(architecture, conditioning).requires_grad_(True)
    network(images(), torch.rand(3, generator=torch.Generator().manual_seed(0))).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        if parameter.ndim > 1:  # and from every one of its inputs: the skips are used, and none of the features is dead
            assert (parameter.grad.transpose(0, 1).flatten(1).abs().amax(1) > 0).all(), name


@every_architecture
@every_conditioning
def test_time_conditioning_is_injected_not_tested(architecture: str, conditioning: str) -> None:
    network = tiny(architecture, conditioning)
    assert list(inspect.signature(network.forward).parameters) == ["xt", "t"]
    for module in {type(module) for module in network.modules() if type(module).__module__.startswith("explore")}:
        source = inspect.getsource(module.forward)
        assert "time_conditioning" not in source and not any(f'"{value}"' in source for value in TIME_CONDITIONINGS)


@every_architecture
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_shapes(architecture: str, resolution: int) -> None:
    network = make(architecture, "timestep", resolution=resolution, image_channels=1)
    assert network(torch.randn(2, 1, resolution, resolution), torch.rand(2)).shape == (2, 1, resolution, resolution)


@every_architecture
def test_an_output_pixel_depends_on_distant_input_pixels_and_the_layout_does_not_matter(architecture: str) -> None:
    network, t = tiny(architecture, "none"), torch.zeros(1)
    xt = images(1).requires_grad_(True)
    network(xt, t)[0, 0, 0, 0].backward()
    assert xt.grad[0, :, -1, -1].abs().min() > 0
    expected = network(xt, t)
    got = network(xt.contiguous(memory_format=torch.channels_last), t)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@every_architecture
def test_dropout_acts_in_training_only(architecture: str) -> None:
    plain = tiny(architecture, "none")
    network = make(architecture, "none", dropout=0.5)
    network.load_state_dict(plain.state_dict())
    network.requires_grad_(False)  # where a gradient is asked for, attention takes another kernel
    xt, t = images(), torch.zeros(3)
    assert torch.equal(network.eval()(xt, t), plain(xt, t))
    torch.manual_seed(0)
    assert not torch.allclose(network.train()(xt, t), plain(xt, t))


def test_dit_without_pixel_channels_keeps_its_parameters() -> None:
    plain = make("dit", "timestep").state_dict()
    assert not any("pixel" in name for name in plain)
    pixels = make("dit-pixels", "timestep").state_dict()
    assert set(pixels) - set(plain) == {
        f"pixel_{part}.{kind}" for part in ("stem", "mix", "head") for kind in ("weight", "bias")
    }
    for name in set(plain) - {"stem.weight", "head.weight", "head.bias"}:  # those take and give more values a patch
        assert torch.equal(plain[name], pixels[name]), name
    assert not plain["head.weight"].any() and pixels["head.weight"].any() and not pixels["pixel_head.weight"].any()
    # A digest of the initialization: released weights and runs begun depend on the names and on every value.
    digest = hashlib.sha256(b"".join(name.encode() + plain[name].numpy().tobytes() for name in sorted(plain))).hexdigest()
    assert digest.startswith("1ea7a6cf1890ecce")


def test_pixel_channels_computes_what_is_specified() -> None:
    network = tiny("dit-pixels", "none")
    xt, t = images(), torch.zeros(3)
    stem = nn.functional.conv2d(xt, network.pixel_stem.weight, network.pixel_stem.bias, padding=1)
    seen = {}
    with torch.no_grad(), activations.capture(network, ["stem", "head"]) as cache:
        out = network(xt, t)
        seen = dict(cache)
    patches = nn.functional.silu(stem).unfold(2, 2, 2).unfold(3, 2, 2)  # (B, 8, 4, 4, 2, 2)
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(3, 16, 32)
    torch.testing.assert_close(seen["stem"], network.stem(rows), rtol=1e-4, atol=1e-5)
    tokens = seen["head"].view(3, 4, 4, 8, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(3, 8, 8, 8)
    mixed = nn.functional.silu(network.pixel_mix(torch.cat([stem, tokens], dim=1)))
    torch.testing.assert_close(out, network.pixel_head(mixed), rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_torch() -> None:
    ours = Attention(24, heads=3)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    h = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(0))
    expected = theirs(h, h, h, need_weights=False)[0]
    torch.testing.assert_close(ours(h), expected, rtol=1e-4, atol=1e-6)
    with torch.no_grad():  # another kernel
        torch.testing.assert_close(ours(h), expected, rtol=1e-4, atol=1e-6)


def test_time_features_are_those_of_diffusers() -> None:
    t = torch.linspace(0, 1, 101)
    expected = get_timestep_embedding(1000 * t, FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
    # float32 phases up to 1000 are exact to 6e-5.
    torch.testing.assert_close(SinusoidalFeatures()(t), expected, rtol=0, atol=2e-4)


BAD = [
    ("unet", {"resolution": 9}, "divisible by 2"),
    ("unet", {"channels": 12}, "multiple of 8"),
    ("unet", {"channels": 0}, "multiple of 8"),
    ("unet", {"blocks": 0}, "blocks must be at least 1"),
    ("unet", {"channels": 24, "head_channels": 5}, "multiple of heads"),
    ("dit", {"resolution": 9}, "multiple of patch"),
    ("dit", {"patch": 0}, "multiple of patch"),
    ("dit", {"width": 30, "heads": 4}, "multiple of heads"),
    ("dit", {"heads": 0}, "multiple of heads"),
    ("dit", {"pixel_channels": -1}, "pixel_channels must be 0 or more, got -1"),
    ("dit", {"colour": 3}, "colour"),
    ("unet", {"colour": 3}, "colour"),
]


@pytest.mark.parametrize("architecture, change, message", BAD)
def test_sizes_that_do_not_fit_are_refused(architecture: str, change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(architecture, "timestep", {**zoo.TINY[architecture], **change})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'vit'; choose from unet, dit"):
        build("vit", "none", {})
    for architecture in ARCHITECTURES:
        with pytest.raises(ValueError, match="unknown time_conditioning 'unconditional'; choose from timestep, constant, none"):
            build(architecture, "unconditional", zoo.TINY[architecture])


@pytest.mark.parametrize(("channels", "size"), [(32, 32), (32, 16), (192, 8)])  # from 1,024 pixels torch's own kernel runs
def test_group_norm_is_torchs_on_every_layout(channels: int, size: int) -> None:
    norm = GroupNorm(channels)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, channels))
        norm.bias.copy_(torch.linspace(-1, 1, channels))
    h = torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(2)).bfloat16()
    expected = nn.functional.group_norm(h.float(), norm.num_groups, norm.weight, norm.bias)
    norm.bfloat16()
    for layout in (torch.contiguous_format, torch.channels_last):
        found = norm(h.contiguous(memory_format=layout))
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=2**-6)
    assert norm(h.contiguous(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)
    assert norm.float()(h.float()).dtype == torch.float32
