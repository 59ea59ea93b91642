"""Other people's models as Denoisers: ``adapt`` takes any module of (xt, t), ``from_diffusers`` a folder saved by diffusers.

Depends on schedules, denoiser, files, hardware, seeds, values; diffusers is imported where it is used.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explore.denoiser import PREDICTIONS, Denoiser
from explore.files import file_sha256, read_json
from explore.hardware import PRECISIONS, settle
from explore.schedules import SCHEDULES, TIMESTEPS, DDPMSchedule, FlowSchedule, Schedule, cosine_betas, linear_betas
from explore.seeds import keyed_noise
from explore.values import Note, choose, image_shape, one_line, plain_number


class Adapted(nn.Module):
    """``network`` with the signature (xt, t); ``call(network, xt, t)`` evaluates it."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, xt: Tensor, t: Tensor) -> Tensor:
        """``xt`` (B, C, H, W), ``t`` (B,) in [0, 1] -> (B, C, H, W)."""
        return self.call(self.network, xt, t)


# Papers on flow matching differ in which end has t = 1. Here t = 1 is noise and velocity is noise minus data.
CONVENTIONS: dict[str, str] = {
    "noise-at-1": "t = 1 is noise, x_t = (1 - t) x0 + t eps, velocity = eps - x0 (here, SD3, diffusers)",
    "data-at-1": "t = 1 is data, x_t = t x0 + (1 - t) eps, velocity = x0 - eps (Lipman et al., rectified flow, TorchCFM)",
}
CHECKED_T = 0.05  # t of the images on which an adapted model is checked


def adapt(
    network: nn.Module,
    prediction: str,
    schedule: str | Schedule,
    shape: Sequence[int],
    *,
    time: Callable[[Tensor], Tensor] | None = None,
    convention: str = "noise-at-1",
    name: str = "",
) -> Denoiser:
    """Your own network as a Denoiser: ``adapt(network, "velocity", "flow", (3, 32, 32), time=lambda t: 1000 * t)``.

    The module is not copied. It is put into evaluation mode and gets channels-last images in its own dtype. It is evaluated
    once on two slightly noisy images; a :class:`explore.values.Note` warns if it makes them worse, which suggests a wrong
    prediction, schedule, convention or ``time``.

    **Conventions.** t = 0 is data and t = 1 is noise; velocity is ``eps - x0``. Many flow matching networks use the opposite:
    for them ``convention="data-at-1"`` reverses both the time and the sign, also of eqm. Reversing the time alone
    (``time=lambda t: 1 - t``) gives wrong samples.

    Images may have any shape. Pictures and ``clamp`` assume values in [-1, 1]; sample other data, such as latents, with
    ``clamp=False``.

    Args:
        network: Called as ``network(xt, t)`` with xt (B, C, H, W) and t (B,), float32; it returns (B, C, H, W).
        prediction: A key of ``PREDICTIONS``.
        schedule: The noise path of its training, a key of ``SCHEDULES`` or a Schedule.
        shape: (C, H, W) of one image.
        time: Maps t (B,) in [0, 1] of ``convention`` to the network's time input (B,); by default the identity.
        convention: A key of ``CONVENTIONS``; ``data-at-1`` is for the schedule ``flow``.
        name: Shown in messages and pictures; by default the network's class.

    Raises:
        ValueError: For an unknown prediction, schedule or convention, or a module that cannot be called like this or does not
            return a tensor of the shape of xt.
    """
    if not isinstance(network, nn.Module):
        raise ValueError(f"the network must be an nn.Module, got an object of type {type(network).__name__}")
    if isinstance(schedule, str):
        schedule = SCHEDULES[choose("schedule", schedule, SCHEDULES)]
    sizes = image_shape(shape)
    name = name or type(network).__name__
    reversed_time = choose("convention", convention, CONVENTIONS) == "data-at-1"
    if reversed_time and not isinstance(schedule, FlowSchedule):
        raise ValueError(f"convention {convention!r} is for the schedule 'flow'; on the others t = 1 is noise")
    if time is not None or reversed_time:
        sign = -1 if reversed_time and prediction in ("velocity", "eqm") else 1

        def call(inner: nn.Module, xt: Tensor, t: Tensor) -> Tensor:
            t = 1 - t if reversed_time else t
            output = inner(xt, t if time is None else time(t))
            return -output if sign < 0 else output

        network = Adapted(network, call)
    return _tried(Denoiser(network.eval(), schedule, prediction, sizes, name))


@torch.no_grad()
def _tried(denoiser: Denoiser) -> Denoiser:
    """``denoiser``, checked by one evaluation; warns if it makes images worse.

    Raises:
        ValueError: If its network cannot be called, or does not return a tensor of the shape of xt.
    """
    # Two images: a network that broadcasts t (B,) against an image by mistake would pass with one.
    channels, height, width = denoiser.shape
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(2, channels, 3, 3, generator=generator) * 1.6 - 0.8
    x0 = nn.functional.interpolate(blobs, size=(height, width), mode="bilinear", align_corners=True)
    t = torch.tensor(CHECKED_T, dtype=torch.float64)
    alpha, sigma = denoiser.schedule.alpha(t).float(), denoiser.schedule.sigma(t).float()
    xt = (alpha * x0 + sigma * keyed_noise([0, 1], denoiser.shape)).to(denoiser.device)
    called = f"called as network(xt, t) with xt {tuple(xt.shape)} and t (2,)"
    images = xt.to(denoiser.dtype).clone(memory_format=torch.channels_last)
    try:
        output = denoiser.network(images, torch.full((2,), CHECKED_T, device=xt.device))
    except Exception as error:  # user code may raise anything
        raise ValueError(f"the network cannot be {called}: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(output, Tensor) or output.shape != xt.shape:
        what = f"one of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ValueError(f"{called}, the network must return a tensor of the shape of xt; it returned {what}")
    alpha, sigma = alpha.to(xt), sigma.to(xt)
    x0_hat = PREDICTIONS[denoiser.prediction].x0(output.to(xt.dtype), xt, alpha, sigma)
    left, made = ((guess.cpu().float() - x0).square().mean().item() for guess in (xt, x0_hat))
    if not made <= 1.1 * left:  # a tenth more may be chance, or a prior that fits these images badly
        warnings.warn(
            f"{denoiser.name} makes slightly noisy images worse (t = {CHECKED_T}: mean squared error {made:.3g}, {left:.3g} if "
            "they are left as they are): if it is trained, check prediction, schedule, convention (t = 1 is noise, velocity is "
            "noise minus data) and time",
            Note,
            stacklevel=3,
        )
    return denoiser


# Keys of diffusers' scheduler configurations that describe the network's training, with their defaults; `_read_scheduler`
# reads them.
BETA_KEYS = {
    "num_train_timesteps": TIMESTEPS, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "trained_betas": None,
    "prediction_type": "epsilon",
}  # fmt: skip
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDPMScheduler": BETA_KEYS,
    "DDIMScheduler": BETA_KEYS,
    "FlowMatchEulerDiscreteScheduler": {"num_train_timesteps": TIMESTEPS},
}
# Keys that concern diffusers' own sampler only; ignored.
SAMPLER_KEYS = (
    "timestep_spacing", "steps_offset", "set_alpha_to_one", "variance_type", "clip_sample", "dynamic_thresholding_ratio",
    "sample_max_value", "shift", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type",
)  # fmt: skip
BETAS: dict[str, Callable[[float, float], Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": lambda start, end: linear_betas(start**0.5, end**0.5).square(),
    "squaredcos_cap_v2": lambda start, end: cosine_betas(),
}
PREDICTION_TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
DIFFUSERS_NETWORKS = ("UNet2DModel", "DiTTransformer2DModel")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def from_diffusers(
    folder: str | Path, label: int | None = None, precision: str = "auto", device: str | torch.device = "cpu"
) -> Denoiser:
    """Loads a checkpoint that diffusers saved: a ``UNet2DModel`` or ``DiTTransformer2DModel`` with its scheduler.

    Reads config.json, diffusion_pytorch_model.safetensors (no other format, not sharded) and scheduler_config.json of a
    DDPMScheduler, DDIMScheduler or FlowMatchEulerDiscreteScheduler. Keys of the scheduler:

    - used: ``num_train_timesteps`` (1000, or any number for flow matching), ``beta_schedule`` (linear, scaled_linear or
      squaredcos_cap_v2), ``beta_start``, ``beta_end``, ``trained_betas``, ``prediction_type`` (epsilon, sample or
      v_prediction), and its predecessor ``predict_epsilon`` (true is epsilon, false is sample);
    - ignored: ``SAMPLER_KEYS``, which concern diffusers' own sampler only (``shift`` moves its steps, but changes neither the
      path nor the network's time input);
    - allowed if off (null or false): other settings of that scheduler, such as ``rescale_betas_zero_snr``, ``thresholding``
      or ``use_dynamic_shifting``; and ``clip_sample_range`` = 1;
    - ignored with a note: keys that this scheduler does not have.

    The network's time input is 1000 t - 1, not rounded and at least 0, or ``num_train_timesteps`` times t in flow matching; it
    is rounded if the time embedding is a learned table. If the network also predicts the variance, only the first half of its
    channels is used.

    Args:
        folder: The model's folder, with scheduler_config.json in it, in scheduler/ or in ../scheduler/; or a pipeline's folder,
            with the model in unet/ or transformer/.
        label: The class, for networks with classes. By default a DiT's null class (the last); a U-Net with classes has none and
            needs a label.
        precision: ``auto`` (bfloat16 where the hardware is fast at it, else float32), ``float32`` or ``bfloat16``.
        device: Where the network runs.

    Returns:
        A Denoiser in evaluation mode, without gradients for its parameters, named like the folder.

    Raises:
        ValueError: If diffusers is not installed, a file is missing or inconsistent, or a network, scheduler or setting is not
            supported.
    """
    choose("precision", precision, PRECISIONS)
    folder = Path(folder).resolve()
    home, scheduler = _locate(folder)
    schedule, prediction, time_input = _read_scheduler(scheduler)
    network = _read_network(home)
    config = network.config
    channels = config.in_channels
    if (config.out_channels or channels) not in (channels, 2 * channels):
        raise ValueError(
            f"{home} makes {config.out_channels} channels of {channels}; it may be as many, or twice as many with the variance"
        )
    if config.sample_size is None:
        raise ValueError(f"{home / 'config.json'} gives no sample_size: write the height and width of an image there")
    sides = [config.sample_size] * 2 if isinstance(config.sample_size, int) else config.sample_size
    for key, understood in {"time_embedding_type": (None, "positional", "learned"), "class_embed_type": (None,)}.items():
        if config.get(key) not in understood:
            raise ValueError(f"{home}: {key} {config[key]!r} is not understood")
    label = _check_label(config, label)
    rows = config.num_train_timesteps if config.get("time_embedding_type") == "learned" else None

    def call(network: nn.Module, xt: Tensor, t: Tensor) -> Tensor:
        time = time_input(t) if rows is None else time_input(t).round().long().clamp(0, rows - 1)
        classes = {} if label is None else {"class_labels": torch.full((len(xt),), label, device=xt.device)}
        return network(xt, time, **classes, return_dict=False)[0][:, :channels]

    # Cast with its wrapper: a network of diffusers prints a warning when it is cast itself.
    adapted = settle(Adapted(network, call), precision, device)
    identity = {"source": str(home), "sha256": file_sha256(home / WEIGHTS)}
    return _tried(Denoiser(adapted, schedule, prediction, image_shape((channels, *sides)), folder.name, **identity))


def prediction_of(folder: str | Path) -> str:
    """The prediction of a diffusers folder, a key of ``PREDICTIONS``, without reading its weights.

    Raises:
        ValueError: As :func:`from_diffusers`, for what concerns the scheduler.
    """
    _, scheduler = _locate(Path(folder).resolve())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # the warning comes when the model is loaded
        return _read_scheduler(scheduler)[1]


def _locate(folder: Path) -> tuple[Path, Path]:
    """The folder with the network in ``folder``, and the file of its scheduler."""
    home = next((part for part in (folder, folder / "unet", folder / "transformer") if (part / "config.json").is_file()), None)
    if home is None:
        raise ValueError(f"{folder} holds no model of diffusers: no config.json in it, in unet/ or in transformer/")
    beside = [home / "scheduler_config.json", *(part / "scheduler" / "scheduler_config.json" for part in (home, home.parent))]
    if not (scheduler := [path for path in beside if path.is_file()]):
        raise ValueError(f"no scheduler_config.json in {home}, nor in scheduler/ in or beside it: put it there")
    return home, scheduler[0]


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a configuration of diffusers")
    return config


def _diffusers() -> Any:
    """The package: an optional dependency, slow to import."""
    try:
        import diffusers
    except ImportError:
        message = "checkpoints of diffusers need the package diffusers, an extra of this project: pip install -e '.[diffusers]'"
        raise ValueError(message) from None
    return diffusers


def _read_network(home: Path) -> Any:
    """The network in ``home``, from safetensors alone."""
    config = _read_config(home / "config.json")
    kind = str(config.get("_class_name"))
    if kind == "Transformer2DModel" and config.get("norm_type") == "ada_norm_zero":
        kind = "DiTTransformer2DModel"  # its name in older folders
    choose("network of diffusers", kind, DIFFUSERS_NETWORKS)
    if not (home / WEIGHTS).is_file():
        others = sorted(path.name for path in home.iterdir() if path.suffix in (".safetensors", ".bin", ".pt", ".ckpt"))
        found = f"there are {', '.join(others)}: save it again" if others else "save it"
        raise ValueError(f"no {WEIGHTS} in {home}, the only weights that are read; {found} with save_pretrained, in one piece")
    try:
        network, report = getattr(_diffusers(), kind).from_pretrained(
            str(home), use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the library raises types of several others
        raise ValueError(f"diffusers cannot load {home}: {one_line(error)}") from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report[problem]:
            raise ValueError(f"{home / WEIGHTS} does not fit config.json: {problem} {one_line(report[problem])}")
    return network


def _check_label(config: Any, label: int | None) -> int | None:
    """The class for the network of ``config``; None if it has no classes."""
    null = config.get("num_embeds_ada_norm")  # of a DiT: the class after the last
    count = config.get("num_class_embeds") if null is None else null + 1
    if count is None:
        if label is not None:
            raise ValueError(f"this network has no classes: there is nothing to do with the label {label}")
        return None
    allowed = f"a whole number from 0 to {count - 1}" + (f", {null} the null class" if null is not None else "")
    if label is None and null is None:
        raise ValueError(f"this network has classes: give a label, {allowed}")
    number = plain_number(null if label is None else label)
    if not isinstance(number, int) or not 0 <= number < count:
        raise ValueError(f"label must be {allowed}, got {label}")
    return number


def _read_scheduler(path: Path) -> tuple[Schedule, str, Callable[[Tensor], Tensor]]:
    """Schedule, prediction, and the function from t (B,) to the network's time input."""
    config = _read_config(path)
    kind = choose("scheduler of diffusers", str(config.get("_class_name")), SCHEDULERS)
    known = SCHEDULERS[kind]
    if (old := config.pop("predict_epsilon", None)) is not None and "prediction_type" in known:
        meant = "epsilon" if old else "sample"
        if config.setdefault("prediction_type", meant) != meant:
            raise ValueError(
                f"{path}: predict_epsilon = {one_line(old)} means prediction_type {meant}, but that is "
                f"{one_line(config['prediction_type'])}: remove the one that is wrong"
            )
    taken = set(inspect.signature(getattr(_diffusers(), kind).__init__).parameters)
    left_over = [key for key in config if not (key in known or key in SAMPLER_KEYS or key.startswith("_") or key in taken)]
    if left_over:
        warnings.warn(
            f"{path}: passed over {', '.join(one_line(key, 60) for key in left_over)}, which mean nothing to a {kind}",
            Note,
            stacklevel=3,
        )
    for key, value in config.items():
        off = value is None or value is False or (key == "clip_sample_range" and value == 1)
        if not (key in known or key in SAMPLER_KEYS or key.startswith("_") or key in left_over or off):
            raise ValueError(
                f"{path}: {key} = {one_line(value)} is not understood. Of a {kind} {', '.join(known)} are; "
                f"{', '.join(SAMPLER_KEYS)} make no difference here"
            )
    config = known | config
    count = config["num_train_timesteps"]
    if kind == "FlowMatchEulerDiscreteScheduler":
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{path}: num_train_timesteps must be a whole number above 0, got {count}")
        return SCHEDULES["flow"], "velocity", lambda t: count * t
    if count != TIMESTEPS:
        raise ValueError(f"{path}: num_train_timesteps must be {TIMESTEPS}, got {count}")
    prediction = PREDICTION_TYPES[choose("prediction_type", str(config["prediction_type"]), PREDICTION_TYPES)]
    given, shape = config["trained_betas"], str(config["beta_schedule"])
    if given is None:
        choose("beta_schedule", shape, BETAS)
    try:
        if given is None:
            betas = BETAS[shape](config["beta_start"], config["beta_end"])
        else:
            betas = torch.tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: no betas can be made of it: {one_line(error)}") from None
    if betas.shape != (TIMESTEPS,) or not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"{path}: betas must be {TIMESTEPS} numbers between 0 and 1")
    return _schedule(tuple(betas.tolist())), prediction, lambda t: (TIMESTEPS * t - 1).clamp_min(0)


@functools.cache
def _schedule(betas: tuple[float, ...]) -> Schedule:
    """One Schedule object for equal betas, that of ``SCHEDULES`` if it has them."""
    schedule = DDPMSchedule(torch.tensor(betas, dtype=torch.float64))
    knots = torch.linspace(0, 1, TIMESTEPS + 1, dtype=torch.float64)
    return next((known for known in SCHEDULES.values() if torch.equal(known.alpha(knots), schedule.alpha(knots))), schedule)
