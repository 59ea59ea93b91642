"""A person's own model: diffusers' checkpoints give diffusers' samples, any module of (xt, t) works, the rest is refused."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMScheduler,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)
from PIL import Image
from torch import nn

from explore import adapters, trajectories, zoo
from explore.__main__ import main
from explore.activations import capture, hook_points, sweep
from explore.adapters import adapt, from_diffusers
from explore.files import file_sha256
from explore.hardware import fast_bfloat16
from explore.samplers import SAMPLERS, sample
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise
from explore.values import Note

SEEDS = [3, 1, 4]
LINEAR = {"beta_start": 0.0005, "beta_end": 0.015}
TRAINED = torch.linspace(1e-4, 0.03, 1000).square().sqrt().tolist()


def randomised(network):
    """Nothing is left at zero, where diffusers' adaLN-Zero blocks begin."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def unet(**changes):
    settings = {
        "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    torch.manual_seed(0)
    return randomised(UNet2DModel(**settings | changes))


def dit(**changes):
    settings = {
        "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 3, "sample_size": 8, "num_layers": 2,
        "norm_num_groups": 1, "num_embeds_ada_norm": 5,
    }  # fmt: skip
    torch.manual_seed(0)
    return randomised(DiTTransformer2DModel(**settings | changes))


def save(folder, network, scheduler=None):
    """A pipeline's folder."""
    network.save_pretrained(folder / ("unet" if isinstance(network, UNet2DModel) else "transformer"))
    (scheduler or DDIMScheduler()).save_pretrained(folder / "scheduler")
    return folder


def load(folder, **arguments):
    return from_diffusers(folder, precision="float32", **arguments)


def last(steps):
    return list(steps)[-1].xt


def assert_close(ours, theirs, relative=1e-5):
    assert theirs.isfinite().all() and theirs.std() > 0.05
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < relative, f"relative error {error:.2e}"


@torch.no_grad()
def walk(scheduler, network, noise, **more):
    """diffusers' own loop: its network is told its own timesteps."""
    xt = noise
    for timestep in scheduler.timesteps:
        output = network(xt, timestep.expand(len(xt)), **more).sample[:, : xt.shape[1]]
        xt = scheduler.step(output, timestep, xt).prev_sample
    return xt


# --- Samples are those of diffusers. With "trailing" timesteps its ten steps are at k = 999, 899, ..., 99 and end at
# alphas_cumprod = 1: ours at t = 1, 0.9, ..., 0. It begins with noise of spread 1, ours of spread sigma(1).


@pytest.mark.parametrize(
    ("prediction", "scheduler"),
    [
        ("epsilon", {}),
        ("sample", {}),
        ("v_prediction", {}),
        ("epsilon", LINEAR),
        ("epsilon", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        ("sample", {"beta_schedule": "squaredcos_cap_v2"}),
        ("v_prediction", {"beta_schedule": "squaredcos_cap_v2"}),
        ("epsilon", {"trained_betas": TRAINED}),
    ],
)
@pytest.mark.parametrize("clamp", [False, True])
def test_a_unets_samples_are_those_of_its_scheduler(prediction, scheduler, clamp, tmp_path):
    network = unet()
    scheduler = DDIMScheduler(
        **scheduler, prediction_type=prediction, clip_sample=clamp, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    denoiser = load(save(tmp_path, network, scheduler))
    assert denoiser.shape == (3, 8, 8) and denoiser.name == tmp_path.name
    assert denoiser.prediction == {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}[prediction]
    scheduler.set_timesteps(10)
    noise = keyed_noise(SEEDS, denoiser.shape)
    start = denoiser.schedule.sigma(torch.tensor(1.0)) * noise
    ours = last(SAMPLERS["ddim"](denoiser, noise, 10, start=1.0, clamp=clamp))
    # Held in [-1, 1] the sample is small, but the first x0_hat was hundreds (alpha is 0.006 there), and is rounded so.
    assert_close(ours, walk(scheduler, network, start), 1e-3 if clamp else 1e-5)


def test_an_eps_prediction_on_the_cosine_schedule_agrees_where_an_image_is_left(tmp_path):
    network, scheduler = unet(), DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)
    denoiser = load(save(tmp_path, network, scheduler))
    scheduler.set_timesteps(10)
    scheduler.timesteps = scheduler.timesteps[1:] + 99  # 899, 799, ..., 99
    noise = keyed_noise(SEEDS, denoiser.shape)
    start = denoiser.schedule.sigma(torch.tensor(0.9)) * noise
    assert_close(last(SAMPLERS["ddim"](denoiser, noise, 9, start=0.9)), walk(scheduler, network, start))


def test_samples_are_those_of_the_pipeline(tmp_path):
    DDIMPipeline(unet(), DDIMScheduler(timestep_spacing="trailing")).save_pretrained(tmp_path)
    pipeline = DDIMPipeline.from_pretrained(tmp_path, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(batch_size=3, generator=torch.manual_seed(5), num_inference_steps=10, output_type="pt").images
    denoiser = load(tmp_path)
    noise = torch.randn(3, 3, 8, 8, generator=torch.manual_seed(5)) / denoiser.schedule.sigma(torch.tensor(1.0))
    ours = last(SAMPLERS["ddim"](denoiser, noise, 10, start=1.0, clamp=True))
    assert_close((ours / 2 + 0.5).clamp(0, 1), pictures, 1e-3)


@pytest.mark.parametrize("out_channels", [None, 6])
@pytest.mark.parametrize("label", [None, 0, 3, 5])
def test_a_dits_samples_are_those_of_its_scheduler_at_a_label(out_channels, label, tmp_path):
    network = dit(out_channels=out_channels)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    denoiser = load(save(tmp_path, network, scheduler), label=label)
    scheduler.set_timesteps(10)
    noise = keyed_noise(SEEDS, denoiser.shape)
    start = denoiser.schedule.sigma(torch.tensor(1.0)) * noise
    labels = torch.full((3,), 5 if label is None else label)  # five classes, 0 to 4, and the null class
    ours = last(SAMPLERS["ddim"](denoiser, noise, 10, start=1.0))
    assert_close(ours, walk(scheduler, network, start, class_labels=labels))
    other = walk(scheduler, network, start, class_labels=(labels + 1) % 6)
    assert (ours - other).abs().max() > 0.01 * other.std()


@pytest.mark.parametrize("build", [unet, dit])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_is_that_of_diffusers(build, shift, tmp_path):
    network, scheduler = build(), FlowMatchEulerDiscreteScheduler(shift=shift)
    denoiser = load(save(tmp_path, network, scheduler))
    assert denoiser.prediction == "velocity" and denoiser.schedule is SCHEDULES["flow"]
    levels = torch.linspace(1, 0, 11)[:-1]
    scheduler.set_timesteps(sigmas=(levels / (shift - (shift - 1) * levels)).tolist())  # which the shift makes `levels`
    torch.testing.assert_close(scheduler.sigmas[:-1], levels)
    noise = keyed_noise(SEEDS, denoiser.shape)
    more = {} if build is unet else {"class_labels": torch.full((3,), 5)}
    theirs = walk(scheduler, network, noise, **more)
    for sampler in ("euler", "ddim"):
        assert_close(last(SAMPLERS[sampler](denoiser, noise, 10)), theirs)


# --- What the network is told, and on what path.


def told(denoiser, t):
    seen = []
    handle = denoiser.network.network.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[1]))
    denoiser.output(torch.zeros(len(t), *denoiser.shape), torch.tensor(t))
    handle.remove()
    return seen[0]


def test_the_network_is_told_its_own_timesteps_in_fractions(tmp_path):
    times = [0.0, 0.0005, 0.001, 0.0015, 0.5, 1.0]
    expected = torch.tensor([0, 0, 0, 0.5, 499, 999])
    for number, network in enumerate((unet(), dit())):
        denoiser = load(save(tmp_path / str(number), network))
        torch.testing.assert_close(told(denoiser, times), expected, atol=1e-4, rtol=0)
        assert denoiser(keyed_noise(SEEDS, denoiser.shape), 0.0).isfinite().all()
    flow = load(save(tmp_path / "flow", unet(), FlowMatchEulerDiscreteScheduler(num_train_timesteps=500)))
    torch.testing.assert_close(told(flow, times), 500 * torch.tensor(times))
    table = unet(time_embedding_type="learned", num_train_timesteps=1000)
    learned = load(save(tmp_path / "learned", table))
    assert told(learned, [0.0, 0.0016, 0.5004, 1.0]).tolist() == [0, 1, 499, 999]
    assert told(load(save(tmp_path / "both", table, FlowMatchEulerDiscreteScheduler())), [1.0]).tolist() == [999]


@pytest.mark.parametrize(
    "settings",
    [{}, LINEAR, {"beta_schedule": "scaled_linear"}, {"beta_schedule": "squaredcos_cap_v2"}, {"trained_betas": TRAINED}],
)
def test_the_path_is_that_of_the_table(settings, tmp_path):
    scheduler = DDPMScheduler(**settings)
    folder = save(tmp_path, unet(), scheduler)
    schedule = load(folder).schedule
    knots = torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(schedule.alpha(knots) ** 2, scheduler.alphas_cumprod.double(), atol=1e-6, rtol=1e-4)
    assert schedule.alpha(torch.tensor(0.0)) == 1
    middle = schedule.alpha(knots[:-1] + 0.0005).log()  # log-linear between the knots
    torch.testing.assert_close(middle, (schedule.alpha(knots[:-1]).log() + schedule.alpha(knots[1:]).log()) / 2)
    assert load(folder).schedule is schedule  # as `compare` asks of two models
    shipped = {"linear": "ddpm-linear", "squaredcos_cap_v2": "ddpm-cosine"}.get(settings.get("beta_schedule", "linear"))
    assert (schedule in SCHEDULES.values()) == (len(settings) < 2 and shipped is not None and "trained_betas" not in settings)


def test_two_models_of_ones_own_are_compared(tmp_path):
    folder = save(tmp_path, unet(), DDIMScheduler(**LINEAR))
    *_, (_, record) = trajectories.compare([load(folder), load(folder)], SEEDS, "ddim", 2)
    assert record.differences[-1]["xt"] == 0


# --- Folders, shapes and precisions.


def test_every_layout_of_a_folder(tmp_path):
    pipeline = save(tmp_path / "pipeline", unet())
    flat = tmp_path / "flat"  # as the first checkpoints of the hub are laid out
    shutil.copytree(pipeline / "unet", flat)
    shutil.copy(pipeline / "scheduler" / "scheduler_config.json", flat)
    inside = tmp_path / "inside"
    shutil.copytree(pipeline / "unet", inside)
    shutil.copytree(pipeline / "scheduler", inside / "scheduler")
    xt = keyed_noise(SEEDS, (3, 8, 8))
    expected = load(pipeline)(xt, 0.5)
    for folder, name in ((pipeline / "unet", "unet"), (flat, "flat"), (inside, "inside"), (str(flat), "flat")):
        denoiser = load(folder)
        assert torch.equal(denoiser(xt, 0.5), expected) and denoiser.name == name


def test_a_dit_under_its_older_name(tmp_path):
    folder = save(tmp_path, dit())
    expected = load(folder)(keyed_noise(SEEDS, (3, 8, 8)), 0.5)
    edit(folder / "transformer" / "config.json", _class_name="Transformer2DModel", num_vector_embeds=None)
    assert torch.equal(load(folder)(keyed_noise(SEEDS, (3, 8, 8)), 0.5), expected)


@pytest.mark.parametrize(
    ("build", "changes", "shape"),
    [
        (unet, {"sample_size": (8, 16)}, (3, 8, 16)),
        (unet, {"in_channels": 1, "out_channels": 1}, (1, 8, 8)),
        (unet, {"in_channels": 4, "out_channels": 8}, (4, 8, 8)),
        (dit, {"in_channels": 4, "out_channels": 8}, (4, 8, 8)),
    ],
)
def test_images_of_any_shape(build, changes, shape, tmp_path):
    denoiser = load(save(tmp_path, build(**changes)))
    assert denoiser.shape == shape
    assert sample(denoiser, SEEDS, "ddim", 3).shape == (3, *shape)
    images = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    name = next(name for name in hook_points(denoiser) if ".0" in name)
    [batch] = sweep(denoiser, images, [name], levels=[0.0])
    assert batch.xt.shape == (2, *shape)


@pytest.mark.parametrize("build", [unet, dit])
def test_precision(build, tmp_path):
    folder = save(tmp_path, build())
    xt = keyed_noise(SEEDS, (3, 8, 8))
    exact, rough = load(folder), from_diffusers(folder, precision="bfloat16")
    assert exact.dtype == torch.float32 and rough.dtype == torch.bfloat16
    assert rough(xt, 0.5).dtype == torch.float32
    assert 0 < (rough(xt, 0.5) - exact(xt, 0.5)).square().mean().sqrt() < 0.05 * exact(xt, 0.5).std()
    assert from_diffusers(folder).dtype == (torch.bfloat16 if fast_bfloat16() else torch.float32)
    assert not exact.network.training and not any(parameter.requires_grad for parameter in exact.parameters())


def test_a_unet_with_classes_takes_a_label(tmp_path):
    network = unet(num_class_embeds=4)
    denoiser = load(save(tmp_path, network), label=2)
    xt, t = keyed_noise(SEEDS, denoiser.shape), torch.full((3,), 499.0)
    with torch.no_grad():
        torch.testing.assert_close(denoiser.output(xt, 0.5), network(xt, t, class_labels=torch.full((3,), 2)).sample)


# --- The instruments.


def test_instruments_find_the_blocks_of_a_unet(tmp_path):
    denoiser = load(save(tmp_path, unet()))
    points = hook_points(denoiser)
    names = [
        "conv_in", "down_blocks.0.resnets.0", "down_blocks.1.resnets.0", "down_blocks.1.attentions.0", "mid_block.resnets.0",
        "mid_block.attentions.0", "mid_block.resnets.1", "up_blocks.0.resnets.0", "up_blocks.0.attentions.0",
        "up_blocks.0.resnets.1", "up_blocks.0.attentions.1", "up_blocks.1.resnets.0", "up_blocks.1.resnets.1",
        "conv_norm_out", "conv_out",
    ]  # fmt: skip
    assert list(points) == [f"network.{name}" for name in names]
    assert points["network.mid_block.resnets.1"].shape == (16, 4, 4)
    use(denoiser, list(points))


def test_instruments_find_the_blocks_of_a_dit(tmp_path):
    denoiser = load(save(tmp_path, dit(out_channels=6)))
    points = hook_points(denoiser)
    names = ["pos_embed", "transformer_blocks.0", "transformer_blocks.1", "proj_out_2"]
    assert list(points) == [f"network.{name}" for name in names]
    assert points["network.transformer_blocks.1"].shape == (16, 16)
    use(denoiser, list(points))


def use(denoiser, layers):
    """Captures what the modules give, and sweeps over them."""
    xt = keyed_noise(SEEDS, denoiser.shape)
    with capture(denoiser, layers) as cache:
        output = denoiser.output(xt, 0.5)
    assert set(cache) == set(layers) and all(len(kept) == 3 for kept in cache.values())
    assert torch.equal(output, denoiser.output(xt, 0.5))
    images = torch.randint(0, 256, (4, *denoiser.shape), dtype=torch.uint8)
    batches = list(sweep(denoiser, images, layers, levels=[-2.0, 0.0, 2.0], batch=2))
    assert len(batches) == 6
    for batch in batches:
        assert set(batch.features) == {(layer, "mean") for layer in layers}
        assert all(features.isfinite().all() and len(features) == 2 for features in batch.features.values())


# --- Any module of (xt, t).


class Small(nn.Module):
    """Two convolutions, told 1000 t."""

    def __init__(self):
        super().__init__()
        self.into, self.out, self.seen = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1), []

    def forward(self, xt, t):
        self.seen.append(t)
        return self.out(torch.tanh(self.into(xt) + t[:, None, None, None] / 1000))


def test_a_module_is_a_denoiser():
    network = Small().train()
    denoiser = adapt(network, "velocity", "flow", (3, 8, 8), time=lambda t: 1000 * t, name="mine")
    assert denoiser.name == "mine" and denoiser.schedule is SCHEDULES["flow"] and denoiser.shape == (3, 8, 8)
    assert not network.training and all(parameter.requires_grad for parameter in network.parameters())
    xt = keyed_noise(SEEDS, (3, 8, 8))
    torch.testing.assert_close(denoiser.output(xt, 0.25), network(xt, torch.full((3,), 250.0)))
    assert network.seen[-2].tolist() == [250.0] * 3
    assert sample(denoiser, SEEDS, "heun", 3).std() > 0.1
    assert list(hook_points(denoiser)) == ["network.into", "network.out"]
    use(denoiser, ["network.into", "network.out"])
    assert list(hook_points(adapt(Small(), "velocity", "flow", (3, 8, 8)))) == ["into", "out"]
    assert adapt(network, "eps", SCHEDULES["ddpm-cosine"], [3, 8, 8]).name == "Small"


@pytest.mark.parametrize("architecture", ["unet", "dit"])
@pytest.mark.parametrize(("prediction", "schedule"), [("velocity", "flow"), ("eps", "ddpm-linear"), ("v", "ddpm-cosine")])
def test_an_adapted_network_is_the_same_model(architecture, prediction, schedule):
    ours = zoo.tiny(architecture, "timestep", prediction, schedule)
    adapted = adapt(ours.network, prediction, schedule, (3, 8, 8))
    halved = adapt(ours.network, prediction, schedule, (3, 8, 8), time=lambda t: t)
    expected = sample(ours, SEEDS, "ddim", 4)
    assert torch.equal(sample(adapted, SEEDS, "ddim", 4), expected)
    assert torch.equal(sample(halved, SEEDS, "ddim", 4), expected)
    assert list(hook_points(adapted)) == list(hook_points(ours))
    assert list(hook_points(halved)) == [f"network.{name}" for name in hook_points(ours)]


class Formula(nn.Module):
    """No parameters, as a denoiser in closed form has none."""

    def forward(self, xt, t):
        return xt - t[:, None, None, None]


def test_a_formula_is_sampled():
    denoiser = adapt(Formula(), "velocity", "flow", (1, 4, 4))
    assert sample(denoiser, SEEDS, "euler", 2).shape == (3, 1, 4, 4)


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, xt, t):
        return self.function(xt, t)


SHAPE = r"with xt \(2, 3, 8, 8\) and t \(2,\), the network must return a tensor of the shape of xt; it returned "


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda xt, t: (xt,), SHAPE + "a tuple"),
        (lambda xt, t: {"sample": xt}, SHAPE + "a dict"),
        (lambda xt, t: None, SHAPE + "a NoneType"),
        (lambda xt, t: xt[:, :1], SHAPE + r"one of shape \(2, 1, 8, 8\)"),
        (lambda xt, t: xt.mean(), SHAPE + r"one of shape \(\)"),
        (lambda xt, t: xt * t, r"cannot be called as network\(xt, t\) with xt .* and t \(2,\): RuntimeError: The size of"),
        (lambda xt: xt, r"cannot be called .* TypeError: .*takes 1 positional argument"),
        (lambda xt, t: xt.view(2, -1).view(2, 3, 8, 8), r"RuntimeError: view size is not compatible .* Use \.reshape"),
    ],
)
def test_a_module_that_does_something_else_is_refused(function, message):
    with pytest.raises(ValueError, match=message) as error:
        adapt(Returns(function), "velocity", "flow", (3, 8, 8))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": lambda xt, t: xt}, "must be an nn.Module, got an object of type function"),
        ({"prediction": "noise"}, "unknown prediction 'noise'; choose from eps, x0, v, velocity"),
        ({"schedule": "flw"}, "unknown schedule 'flw'; did you mean flow"),
        ({"schedule": "ddpm-linear"}, "prediction 'velocity' is defined on the schedule 'flow' only"),
        ({"shape": (8, 8)}, r"shape must be \(C, H, W\) of one image, .* got \(8, 8\)"),
        ({"shape": (3, 8, 0)}, r"shape must be"),
        ({"shape": (3, 8.5, 8)}, r"shape must be"),
        ({"time": 1000}, "cannot be called .* TypeError: 'int' object is not callable"),
    ],
)
def test_what_adapt_refuses(changes, message):
    arguments = {"network": Formula(), "prediction": "velocity", "schedule": "flow", "shape": (3, 8, 8)} | changes
    with pytest.raises(ValueError, match=message):
        adapt(arguments.pop("network"), **arguments)


# --- Refusals.


def edit(path, **changes):
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("saved") / "mine", unet())


@pytest.fixture
def copy(saved, tmp_path):
    """A pipeline's folder to be damaged."""
    return shutil.copytree(saved, tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr = True is not understood. Of a DDIMScheduler num_train_"),
        ({"thresholding": True}, "thresholding = True is not understood"),
        ({"clip_sample_range": 3.0}, "clip_sample_range = 3.0 is not understood"),
        ({"predict_epsilon": False, "prediction_type": "epsilon"}, "predict_epsilon = False means prediction_type sample, but"),
        ({"beta_schedule": "sigmoid"}, "unknown beta_schedule 'sigmoid'; choose from linear, scaled_linear, squaredcos_cap_v2"),
        ({"prediction_type": "flow"}, "unknown prediction_type 'flow'; choose from epsilon, sample, v_prediction"),
        ({"num_train_timesteps": 4000}, "num_train_timesteps must be 1000, got 4000"),
        ({"beta_start": "small"}, "no betas can be made of it"),
        ({"beta_start": -1.0}, "betas must be 1000 numbers between 0 and 1"),
        ({"beta_start": -1.0, "beta_schedule": "scaled_linear"}, "no betas can be made of it"),
        ({"trained_betas": [0.1, 0.2]}, "betas must be 1000 numbers between 0 and 1"),
        ({"trained_betas": ["a"]}, "no betas can be made of it"),
        ({"_class_name": "EulerDiscreteScheduler"}, "unknown scheduler of diffusers 'EulerDiscreteScheduler'; did you mean"),
        ({"_class_name": ...}, "unknown scheduler of diffusers 'None'; choose from DDPMScheduler, DDIMScheduler, FlowMatch"),
    ],
)
def test_schedulers_that_are_not_understood(copy, changes, message):
    edit(copy / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(ValueError) as error:
        load(copy)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting = True is not understood. Of a FlowMatchEulerDiscreteScheduler"),
        ({"shift_terminal": 0.1}, "shift_terminal = 0.1 is not understood"),
        ({"invert_sigmas": True}, "invert_sigmas = True is not understood"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas = True is not understood"),
        ({"stochastic_sampling": True}, "stochastic_sampling = True is not understood"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be a whole number above 0, got 0"),
    ],
)
def test_flow_matching_that_is_not_understood(copy, changes, message):
    FlowMatchEulerDiscreteScheduler().save_pretrained(copy / "scheduler")
    edit(copy / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(ValueError) as error:
        load(copy)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_only_concerns_diffusers_own_sampler_is_passed_over(copy, saved):
    edit(
        copy / "scheduler" / "scheduler_config.json",
        timestep_spacing="linspace", steps_offset=1, set_alpha_to_one=False, clip_sample=False, variance_type="learned_range",
        dynamic_thresholding_ratio=0.9, sample_max_value=2.0, use_something_new=False, something_else=None,
    )  # fmt: skip
    xt = keyed_noise(SEEDS, (3, 8, 8))
    assert torch.equal(load(copy)(xt, 0.5), load(saved)(xt, 0.5))
    for key in ("beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type", "num_train_timesteps"):
        edit(copy / "scheduler" / "scheduler_config.json", **{key: ...})  # an older folder says less
    assert load(copy).schedule is SCHEDULES["ddpm-linear"] and load(copy).prediction == "eps"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"in_channels": 4}, "makes 3 channels of 4; it may be as many, or twice as many with the variance"),
        ({"in_channels": 1}, "makes 3 channels of 1"),
        ({"sample_size": None}, "gives no sample_size"),
        ({"sample_size": 7}, "the network cannot be called"),  # not a multiple of two
        ({"time_embedding_type": "fourier"}, "time_embedding_type 'fourier' is not understood"),
        ({"class_embed_type": "timestep"}, "class_embed_type 'timestep' is not understood"),
        ({"num_class_embeds": 4}, "this network has classes: give a label, a whole number from 0 to 3"),
    ],
)
def test_networks_that_are_not_understood(network, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        load(save(tmp_path, unet(**network)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("build", "label", "message"),
    [
        (dit, -1, "label must be a whole number from 0 to 5, 5 the null class, got -1"),
        (dit, 6, "label must be a whole number from 0 to 5, 5 the null class, got 6"),
        (dit, 1.0, "label must be .* got 1.0"),
        (dit, True, "label must be .* got True"),
        (lambda: unet(num_class_embeds=4), 4, "label must be a whole number from 0 to 3, got 4"),
        (unet, 0, "this network has no classes: there is nothing to do with the label 0"),
    ],
)
def test_labels_out_of_range(build, label, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(save(tmp_path, build()), label=label)


WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_no_pickle_is_read(copy, monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    weights = copy / "unet" / WEIGHTS
    torch.save(UNet2DModel.from_pretrained(copy / "unet").state_dict(), copy / "unet" / "diffusion_pytorch_model.bin")
    assert load(copy).shape == (3, 8, 8)  # both are there
    (copy / "unet" / "diffusion_pytorch_model.bin").rename(weights)  # in disguise
    with pytest.raises(ValueError, match=r"diffusers cannot load .*mine/unet: ") as error:
        load(copy)
    assert "\n" not in str(error.value)
    weights.rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no .*safetensors in .*; there are diffusion_pytorch_model\.bin: save it again"):
        load(copy)
    (copy / "unet" / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="the only weights that are read; save it with save_pretrained, in one piece"):
        load(copy)


def test_weights_in_pieces(copy):
    (copy / "unet" / WEIGHTS).unlink()
    unet().save_pretrained(copy / "unet", max_shard_size="20KB")
    with pytest.raises(ValueError, match=r"there are diffusion_pytorch_model-00001-of-.*: save it again .* in one piece"):
        load(copy)


def test_weights_that_do_not_fit(copy):
    edit(copy / "unet" / "config.json", layers_per_block=2)
    with pytest.raises(ValueError, match=r"does not fit config\.json: missing_keys|cannot load") as error:
        load(copy)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    edit(copy / "unet" / "config.json", layers_per_block=1, block_out_channels=[16, 16])
    with pytest.raises(ValueError, match=r"cannot load|does not fit") as error:
        load(copy)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_folders_that_hold_something_else(copy, tmp_path):
    with pytest.raises(ValueError, match=r"nothing holds no model of diffusers: no config\.json in it, in unet/ or in"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="unknown network of diffusers 'None'; choose from UNet2DModel, DiT"):
        shutil.copy(copy / "scheduler" / "scheduler_config.json", tmp_path)
        (tmp_path / "config.json").write_text("{}")
        load(tmp_path)
    edit(copy / "unet" / "config.json", _class_name="UNet2DConditionModel")
    with pytest.raises(ValueError, match="unknown network of diffusers 'UNet2DConditionModel'; did you mean UNet2DModel"):
        load(copy)
    for content in ("[]", "{"):
        (copy / "unet" / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"config\.json"):
            load(copy)
    shutil.rmtree(copy / "scheduler")
    with pytest.raises(ValueError, match=r"no scheduler_config\.json in .*/unet, nor in scheduler/ in or beside it"):
        load(copy)


def test_without_diffusers(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"need the package diffusers, .*: pip install -e '\.\[diffusers\]'"):
        load(saved)


def test_unknown_precision(saved):
    with pytest.raises(ValueError, match="unknown precision 'float16'"):
        from_diffusers(saved, precision="float16")


# --- The command line.


def test_sample_takes_a_folder(saved, tmp_path, capsys):
    arguments = ["sample", "--diffusers", str(saved), "--count", "3", "--seed", "3", "--sampler", "ddim", "--steps", "3"]
    assert main([*arguments, "--precision", "float32", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("3 images of mine (")
    stored = np.load(tmp_path / "samples.npz")["images"]
    expected = sample(load(saved), [3, 4, 5], "ddim", 3)
    assert np.array_equal(stored, ((expected.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


def test_sample_takes_a_label_and_grey_images(tmp_path):
    grey = save(tmp_path / "grey", dit(in_channels=1))
    arguments = ["sample", "--diffusers", str(grey), "--count", "2", "--steps", "2", "--precision", "float32"]
    for label in ("1", "2"):
        assert main([*arguments, "--label", label, "--out", str(tmp_path / label)]) == 0
    one, two = (np.load(tmp_path / label / "samples.npz")["images"] for label in ("1", "2"))
    assert one.shape == (2, 8, 8, 1) and not np.array_equal(one, two)
    assert Image.open(tmp_path / "1" / "grid.png").convert("RGB").size[0] > 32


def test_layers_takes_a_folder(saved, capsys):
    assert main(["layers", "--diffusers", str(saved), "--json"]) == 0
    points = json.loads(capsys.readouterr().out)
    assert [point["name"] for point in points] == list(hook_points(load(saved)))
    assert main(["layers", "--diffusers", str(saved)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith(tuple(point["name"] for point in points)) for line in lines) == len(points)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one model: MODEL (`models` lists them) or --diffusers FOLDER"),
        (["celeba32-unet-velocity-none", "--diffusers", "SAVED"], "name one model"),
        (["celeba32-unet-velocity-none", "--label", "1"], "--label belongs to --diffusers: our models have no classes"),
        (["--diffusers", "SAVED", "--label", "1"], "this network has no classes"),
        (["--diffusers", "nothing"], "holds no model of diffusers"),
    ],
)
@pytest.mark.parametrize("command", ["sample", "layers"])
def test_mistakes_give_one_line_and_status_2(command, arguments, message, saved, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")] if command == "sample" else []
    assert main([command, *(str(saved) if part == "SAVED" else part for part in arguments), *out]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "out").exists()


def test_latents_are_not_pictures(tmp_path, capsys):
    folder = save(tmp_path / "latent", dit(in_channels=4))
    assert main(["sample", "--diffusers", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert "latent makes 4 channels, such as latents; a picture has 3, or 1 if gray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["layers", "--diffusers", str(folder)]) == 0


# --- Configurations of other years and other schedulers.


def test_predict_epsilon_of_2022_is_understood(copy):
    path = copy / "scheduler" / "scheduler_config.json"
    for old, meant in ((False, "x0"), (True, "eps")):
        edit(path, predict_epsilon=old, prediction_type=...)
        assert load(copy).prediction == meant
    edit(path, predict_epsilon=None)
    assert load(copy).prediction == "eps"


@pytest.mark.parametrize(
    "keys",
    [
        {"skip_prk_steps": True, "solver_order": 2, "lower_order_final": True, "use_karras_sigmas": True},
        {"interpolation_type": "linear", "solver_type": "midpoint", "algorithm_type": "dpmsolver++"},
    ],
)
def test_keys_left_over_from_other_schedulers_are_passed_over_with_a_note(copy, keys):
    plain = sample(load(copy), SEEDS, "ddim", 3)
    edit(copy / "scheduler" / "scheduler_config.json", **keys)
    with pytest.warns(Note, match=f"passed over {', '.join(keys)}, which mean nothing to a DDIMScheduler"):
        assert torch.equal(sample(load(copy), SEEDS, "ddim", 3), plain)


def test_flow_matching_passes_over_keys_of_diffusion(copy):
    FlowMatchEulerDiscreteScheduler().save_pretrained(copy / "scheduler")
    edit(copy / "scheduler" / "scheduler_config.json", beta_schedule="linear", prediction_type="epsilon")
    with pytest.warns(Note, match="passed over beta_schedule, prediction_type, which mean nothing to a FlowMatchEuler"):
        assert load(copy).prediction == "velocity"


# --- The two conventions of flow matching, on the exact field of a Gaussian.

MEAN, VARIANCE = 0.5, 0.25


class ExactField(nn.Module):
    """E[x0 - eps | x] of N(MEAN, VARIANCE) in every pixel, where t = 1 is data: x = t x0 + (1 - t) eps."""

    def forward(self, x, t):
        t = t.reshape(-1, 1, 1, 1)
        gain = (x - t * MEAN) / (t**2 * VARIANCE + (1 - t) ** 2)
        return MEAN + t * VARIANCE * gain - (1 - t) * gain


class OurField(ExactField):
    """The same field in this project's convention."""

    def forward(self, x, t):
        return -super().forward(x, 1 - t)


def moments(denoiser):
    found = sample(denoiser, list(range(16)), "heun", 50)
    return found.mean().item(), found.var().item()


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        (OurField(), {}),
        (ExactField(), {"convention": "data-at-1"}),
        (ExactField(), {"convention": "data-at-1", "time": lambda t: t}),
    ],
)
def test_either_convention_samples_the_gaussian_and_says_nothing(field, settings, recwarn):
    denoiser = adapt(field, "velocity", "flow", (3, 16, 16), **settings)
    mean, variance = moments(denoiser)
    assert mean == pytest.approx(MEAN, abs=0.02) and variance == pytest.approx(VARIANCE, rel=0.05)
    assert not [warning for warning in recwarn if issubclass(warning.category, Note)]


def test_the_other_convention_turns_the_sign_of_eqm_too():
    class Other(torch.nn.Module):
        """EqM's own sign: with t = 1 at the data its network says (x0 - eps) c."""

        def forward(self, xt, t):
            return 0.5 - xt  # of the single image 0.5

    denoiser = adapt(Other(), "eqm", "flow", (3, 16, 16), convention="data-at-1")
    assert torch.allclose(denoiser(torch.randn(2, 3, 16, 16), 0.3), torch.full((2, 3, 16, 16), 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        (ExactField(), {"time": lambda t: 1 - t}),  # the time turned, but not the sign
        (ExactField(), {}),
        (OurField(), {"convention": "data-at-1"}),
        (OurField(), {"prediction": "x0"}),
    ],
)
def test_the_wrong_convention_is_noticed(field, settings):
    with pytest.warns(Note, match=r"makes slightly noisy images worse .* velocity is noise minus data"):
        denoiser = adapt(field, **{"prediction": "velocity", "schedule": "flow", "shape": (3, 16, 16), **settings})
    assert abs(moments(denoiser)[0] - MEAN) > 0.1


def test_conventions_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="unknown convention 'data at 1'; did you mean data-at-1"):
        adapt(OurField(), "velocity", "flow", (3, 8, 8), convention="data at 1")
    with pytest.raises(ValueError, match="convention 'data-at-1' is for the schedule 'flow'"):
        adapt(OurField(), "eps", "ddpm-cosine", (3, 8, 8), convention="data-at-1")


@pytest.mark.parametrize("name", ["celeba32-unet-velocity-none", "celeba32-unet-eps-timestep", "cifar10-dit4-velocity-none"])
def test_trained_models_are_not_suspected(name, recwarn):
    shipped = zoo.load(name, "float32")
    adapt(shipped.network, shipped.prediction, shipped.schedule, shipped.shape)
    assert not [warning for warning in recwarn if issubclass(warning.category, Note)]


# --- Shapes and channels other than 3 x N x N, from the command line; and whose model it is.

SHIPPED_NAME = next(iter(zoo.index()))


@pytest.fixture(scope="module", params=["gray", "wide", SHIPPED_NAME])
def foreign(request, tmp_path_factory):
    """A folder with a network of one channel, one for 16 x 24 pictures, and one that is called like a shipped model."""
    change = {"gray": {"in_channels": 1, "out_channels": 1}, "wide": {"sample_size": (16, 24)}}.get(request.param, {})
    folder = save(tmp_path_factory.mktemp("foreign") / request.param, unet(**change))
    pixels = np.random.default_rng(0).integers(0, 255, (12, 30, 40, 3), dtype=np.uint8)
    images = folder.parent / "images"
    images.mkdir()
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(images / f"{number:02d}.png")
    made = [
        "--data",
        str(images),
        "--split",
        "all",
        "--controls",
        "1",
        "--layer",
        "mid_block.resnets.0",
        "--out",
        str(folder.parent / "probes"),
    ]
    layer = next(name for name in hook_points(load(folder)) if name.endswith("mid_block.resnets.0"))
    made[made.index("mid_block.resnets.0")] = layer
    assert main(["probe", "--diffusers", str(folder), *made]) == 0
    return folder, images, folder.parent / "probes", layer


def test_every_instrument_takes_a_foreign_shape(foreign, tmp_path, capsys):
    folder, images, fitted, layer = foreign
    model, read = ["--diffusers", str(folder)], ["--probes", str(fitted)]
    for command in (
        ["sample", *model, "--count", "2", "--steps", "2"],
        ["clock", *model, *read, "--count", "2", "--steps", "2"],
        ["intervene", *model, *read, "--data", str(images), "--split", "all", "--layer", layer, "--dose", "1", "--level", "0",
         "--controls", "1"],
        ["intervene", *model, *read, "--data", str(images), "--split", "all", "--kind", "lie", "--level", "0", "--level", "1"],
        ["saliency", *model, *read, "--image", str(images), "--method", "input-x-gradient", "--no-checks"],
        ["saliency", *model, *read, "--image", str(images / "00.png"), "--method", "layer-gradcam", "--target", "noise-norm",
         "--no-checks", "--at", layer],
    ):  # fmt: skip
        status = main([*command, "--out", str(tmp_path / command[0])])
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        # GradCAM may refuse a map in one line; everything else works.
        assert status == 0 or ("layer-gradcam" in command and len(said) == 1 and "layer-gradcam" in said[0]), said
    atlas = json.loads((fitted / "atlas.json").read_text())
    assert atlas["images"] == 12 and atlas["sha256"] == file_sha256(folder / "unet" / adapters.WEIGHTS)


def test_a_folder_called_like_a_shipped_model_is_not_taken_for_it(foreign, tmp_path, capsys):
    folder, images, fitted, layer = foreign
    denoiser = load(folder)
    assert zoo.shipped(denoiser) is None and zoo.shipped(zoo.load(SHIPPED_NAME)).name == SHIPPED_NAME
    metrics = zoo.folder(SHIPPED_NAME) / "metrics.json"
    before = metrics.read_bytes()
    model, shown = ["--diffusers", str(folder)], ["--data", str(images), "--split", "all"]
    for command, message in (
        (["clock", *model, "--count", "2", "--steps", "2"], "has no probes of its own: make them with"),
        (
            ["intervene", *model, *shown, "--probes", str(fitted), "--layer", layer, "--store"],
            "--store keeps results with a shipped",
        ),
        (["reading", *model, *shown, "--probes", str(fitted), "--store"], "--store keeps results with a shipped model"),
        (["clock", SHIPPED_NAME, "--probes", str(fitted)], "were fitted to other weights"),
    ):
        assert main([*command, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert metrics.read_bytes() == before and not (tmp_path / "out").exists()


def test_gaussians_are_of_square_pictures_in_color(foreign, tmp_path, capsys):
    folder, *_ = foreign
    status = main(["probe", "--diffusers", str(folder), "--data", "gaussian:celeba", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert status == 2 and ("3 x N x N images" in said or "unknown fitted Gaussian 'celeba-8'" in said)
