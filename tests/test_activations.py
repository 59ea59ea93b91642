"""Hook points are found by how a network is built, capture leaves nothing behind, views are what they say."""

import pytest
import torch
from torch import nn

from explore import zoo
from explore.activations import VIEWS, capture, hook_points

UNET = [
    "stem", "down.0.block.0", "down.1.block.0", "down.1.attention.0", "mid.block.0", "mid.attention.0", "mid.block.1",
    "mid.attention.1", "up.0.block.0", "up.0.attention.0", "up.1.block.0", "norm", "head",
]  # fmt: skip


@pytest.mark.parametrize("conditioning", ["timestep", "constant", "none"])
def test_every_block_is_a_hook_point_in_the_order_of_evaluation(conditioning):
    assert list(hook_points(zoo.tiny("unet", conditioning))) == UNET
    tokens = ["stem", "position", "block.0", "block.1", "norm", "head"]
    assert list(hook_points(zoo.tiny("dit", conditioning))) == tokens
    with_pixels = hook_points(zoo.tiny("dit", conditioning, pixel_channels=8))
    assert list(with_pixels) == ["pixel_stem", *tokens, "pixel_mix", "pixel_head"]
    assert with_pixels["pixel_stem"].shape == with_pixels["pixel_mix"].shape == (8, 8, 8)
    assert with_pixels["head"].shape == (16, 32) and with_pixels["pixel_head"].shape == (3, 8, 8)


def test_shapes_are_those_of_one_image():
    points = hook_points(zoo.tiny("unet"))
    assert points["down.1.block.0"].shape == (16, 4, 4) and points["down.1.block.0"].channels == 16
    assert points["down.1.block.0"].kind == "ResidualBlock"
    points = hook_points(zoo.tiny("dit"))
    assert points["block.1"].shape == (16, 32) and points["block.1"].channels == 32


def test_foreign_networks_have_hook_points():
    from diffusers import DiTTransformer2DModel, UNet2DModel

    class Wrapped(nn.Module):
        def __init__(self, network, **more):
            super().__init__()
            self.network, self.more = network, more

        def forward(self, xt, t):
            return self.network(xt, 1000 * t, **self.more).sample

    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    names = list(hook_points(Wrapped(unet), (3, 8, 8)))
    for name in ("down_blocks.0.resnets.0", "down_blocks.1.attentions.0", "mid_block.resnets.1", "up_blocks.1.resnets.1"):
        assert f"network.{name}" in names
    dit = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=3, sample_size=8, num_layers=2, norm_num_groups=1
    )
    names = list(hook_points(Wrapped(dit, class_labels=torch.zeros(1, dtype=torch.long)), (3, 8, 8)))
    parts = ["pos_embed", "transformer_blocks.0", "transformer_blocks.1", "proj_out_2"]
    assert names == [f"network.{part}" for part in parts]
    with pytest.raises(ValueError, match="shape"):
        hook_points(Wrapped(unet))


def test_captured_outputs_are_those_of_the_modules():
    denoiser = zoo.tiny("unet")
    xt, t = torch.randn(2, 3, 8, 8), torch.tensor([0.2, 0.7])
    plain = denoiser.network(xt, t)
    with capture(denoiser, ["stem", "head"]) as cache:
        assert torch.equal(denoiser.network(xt, t), plain)
    assert torch.equal(cache["stem"], denoiser.network.stem(xt)) and torch.equal(cache["head"], plain)
    assert not cache["head"].requires_grad


def hooks_of(network):
    return sum(len(module._forward_hooks) for module in network.modules())


def test_hooks_are_gone_afterwards_also_after_an_exception():
    denoiser = zoo.tiny("dit")
    with pytest.raises(RuntimeError, match="stop"), capture(denoiser, list(hook_points(denoiser))):
        assert hooks_of(denoiser) == 7  # and one that notes whether the network was evaluated at all
        raise RuntimeError("stop")
    assert hooks_of(denoiser) == 0
    with (
        pytest.raises(ValueError, match=r"unknown hook point 'block\.9'; did you mean block\.1 or block\.0"),
        capture(denoiser, ["block.0", "block.9"]),
    ):
        pass
    assert hooks_of(denoiser) == 0


@pytest.mark.parametrize("architecture", ["unet", "dit"])
def test_views(architecture):
    denoiser = zoo.tiny(architecture)
    name = "down.1.block.0" if architecture == "unet" else "block.1"
    with capture(denoiser, [name]) as cache:
        denoiser.network(torch.randn(3, 3, 8, 8), torch.full((3,), 0.5))
    activation = cache[name]
    rows = activation.flatten(2).transpose(1, 2) if architecture == "unet" else activation  # (B, P, C)
    assert torch.allclose(VIEWS["mean"](activation), rows.mean(1), atol=1e-6)
    assert torch.allclose(VIEWS["mean_std"](activation), torch.cat([rows.mean(1), rows.std(1)], 1), atol=1e-6)
    assert torch.equal(VIEWS["position"](activation), rows.reshape(-1, rows.shape[-1]))
