"""Numbers of numpy and torch are numbers, wherever a Python number or a list of them is taken."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explore import bayes, data, evaluation, files, interventions, probes, saliency, trajectories, values, zoo
from explore.activations import hook_points, sweep
from explore.adapters import adapt
from explore.denoiser import shifted
from explore.samplers import evaluations, sample
from explore.schedules import SCHEDULES
from explore.seeds import check_seeds, keyed_noise, seed_range
from explore.values import Note

WHOLE = {
    "int32": np.int32, "int64": np.int64, "uint8": np.uint8, "array": lambda n: np.array(n),
    "tensor": lambda n: torch.tensor(n), "uint16": np.uint16, "whole float": float, "whole float32": np.float32,
}  # fmt: skip
REAL = {
    "float16": np.float16, "float32": np.float32, "float64": np.float64, "array": lambda x: np.array(x),
    "tensor": lambda x: torch.tensor(x), "double tensor": lambda x: torch.tensor(x, dtype=torch.float64),
}  # fmt: skip
LISTS = {
    "tuple": tuple, "range": lambda n: range(min(n), max(n) + 1), "array": np.array, "tensor": torch.tensor,
    "of scalars": lambda n: [np.int64(one) for one in n], "of tensors": lambda n: [torch.tensor(one) for one in n],
    "generator": lambda n: (one for one in n),
}  # fmt: skip


@given(st.integers(0, 255), st.sampled_from(sorted(WHOLE)))
def test_whole_numbers_of_every_kind_are_pythons_own(number, kind):
    found = values.whole_number("n", WHOLE[kind](number), 0, 255)
    assert found == number and type(found) is int


@given(st.integers(-64, 64), st.sampled_from(sorted(REAL)))
def test_real_numbers_of_every_kind_are_pythons_own(eighths, kind):
    found = values.real_number("x", REAL[kind](eighths / 8), -8, 8)  # eighths are exact in every precision
    assert found == eighths / 8 and type(found) is float


@given(st.integers(0, 2**32 - 4), st.sampled_from(sorted(LISTS)))
def test_seeds_of_every_kind_are_a_list_of_ints(first, kind):
    found = check_seeds(LISTS[kind]([first, first + 1, first + 2]))
    assert found == [first, first + 1, first + 2] and {type(one) for one in found} == {int}


NOT_NUMBERS = [None, "3", True, np.bool_(True), torch.tensor(True), [3], np.array([3]), torch.tensor([3, 4]), 3 + 0j, object()]


@pytest.mark.parametrize("value", [*NOT_NUMBERS, 2.5, float("nan"), float("inf"), np.float32(2.5), -1, 256, np.int64(-1)])
def test_what_is_no_whole_number_in_range_is_refused_in_one_line(value):
    with pytest.raises(ValueError, match="n must be a whole number from 0 to 255, got") as error:
        values.whole_number("n", value, 0, 255)
    assert "\n" not in str(error.value) and " at 0x" not in str(error.value)


@pytest.mark.parametrize("value", [*NOT_NUMBERS, float("nan"), np.float64("nan"), torch.tensor(2.0), -0.5])
def test_what_is_no_number_in_range_is_refused_in_one_line(value):
    with pytest.raises(ValueError, match="x must be a number from 0 to 1, got"):
        values.real_number("x", value, 0, 1)


# The same calls with numbers of any kind ------------------------------------------------------------------------------------

MODEL = zoo.tiny("unet", "timestep")
LEVELS = [-4.0, 0.0, 4.0]
IMAGES = (255 * torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))).to(torch.uint8)


@pytest.fixture(scope="module")
def clock():
    return probes.atlas(MODEL, IMAGES, layers=["stem", "mid.block.0"], views=["mean"], levels=LEVELS, controls=1)[1]


def calls(clock):
    """Name -> a function of converters for a whole number, a real one and a list of either, that returns JSON or tensors."""
    xt, prior = keyed_noise([0, 1], MODEL.shape), bayes.spectral_gaussian(8)
    schedule = SCHEDULES["flow"]
    return {
        "noise": lambda w, r, v: keyed_noise(v([3, 4]), (3, 8, 8), w(2)),
        "seed range": lambda w, r, v: seed_range(w(3), w(2)),
        "sample": lambda w, r, v: sample(MODEL, v([0, 1]), "ddim", w(3), eta=r(0.5), start=r(0.75), batch=w(1)),
        "evaluations": lambda w, r, v: evaluations("heun", w(3)),
        "denoiser": lambda w, r, v: MODEL(xt, r(0.5)),
        "shifted": lambda w, r, v: shifted(MODEL, r(0.25)).output(xt, 0.5),
        "hook points": lambda w, r, v: [point.shape for point in hook_points(MODEL.network, v([3, 8, 8])).values()],
        "sweep": lambda w, r, v: [
            batch.xt for batch in sweep(MODEL, IMAGES[:2], ["stem"], levels=v([-4, 0]), seed=w(5), batch=w(1))
        ],
        "compare": lambda w, r, v: list(trajectories.compare([MODEL, MODEL], v([1, 2]), "euler", w(2)))[-1][1].to_json(),
        "record": lambda w, r, v: trajectories.record([MODEL, MODEL], v([1, 2]), "euler", w(2)).to_json(),
        "map": lambda w, r, v: trajectories.project(
            trajectories.record([MODEL, MODEL], [1, 2], "euler", 2), dimensions=w(2), seed=w(0)
        ).to_json(),
        "clock": lambda w, r, v: probes.implied_level_run(MODEL, clock, v([0, 1]), steps=w(2), sampler="euler", offset=r(0.25)),
        "intervene": lambda w, r, v: interventions.intervene(
            MODEL, clock, IMAGES, "stem", levels=v([0, 2]), doses=v([1, 2]), controls=w(1), control_images=w(2),
            quantile=r(0.75), loss_times=v([0.25, 0.5]), seed=w(0),
        ).to_json(),
        "lie": lambda w, r, v: interventions.given_vs_true(MODEL, clock, IMAGES, levels=v([0, 2]), seed=w(0)).to_json(),
        "steered": lambda w, r, v: [
            step.xt for _, step in interventions.steered_stream(
                MODEL, clock, v([0, 1]), "stem", r(0.5), steps=w(2), seed=w(0), sampler="euler"
            )
        ],
        "attribute": lambda w, r, v: saliency.attribute(
            MODEL, xt, r(0.5), "x0-region", steps=w(4), box=v([1, 2, 3, 4]), channel=w(1), seed=w(0), given=r(0.25), checks=()
        ).map,
        "occlusion": lambda w, r, v: saliency.attribute(
            MODEL, xt, r(0.5), "noise-norm", "occlusion", window=w(4), checks=()
        ).map,
        "price": lambda w, r, v: bayes.time_gap(
            prior, bayes.Levels.midpoints(schedule, w(20)), "velocity", count=w(4), seed=w(0)
        ).value,
        "width": lambda w, r, v: bayes.posterior_width(
            prior, bayes.Levels.midpoints(schedule, 20), r(0.5), count=w(4), seed=w(0)
        ).std,
        "images": lambda w, r, v: data.load_images("bank:celeba", w(8), "test"),
        "images of a shape": lambda w, r, v: data.load_images("bank:celeba", v([8, 9]), "test"),
        "adapt": lambda w, r, v: adapt(MODEL.network, "velocity", "flow", v([3, 8, 8]))(xt, r(0.5)),
        "denoising": lambda w, r, v: evaluation.denoising(MODEL, "bank:celeba", w(2), w(1), v([0.25, 0.5])).to_json(),
        "Gaussian": lambda w, r, v: bayes.fitted_gaussian("celeba", w(32)).mean,
    }  # fmt: skip


NAMES = sorted(calls(None))


def plain(value):
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray)) else json.loads(files.to_json(value))


@pytest.fixture(scope="module")
def expected(clock):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        return {name: plain(call(int, float, list)) for name, call in calls(clock).items()}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    whole=st.sampled_from(sorted(WHOLE)),
    real=st.sampled_from(sorted(REAL)),
    several=st.sampled_from(["tuple", "array", "tensor", "of scalars"]),
)
@pytest.mark.parametrize("name", NAMES)
def test_every_call_takes_numbers_of_every_kind(name, clock, expected, whole, real, several):
    numbers = {"of scalars": lambda n: [np.float64(one) if isinstance(one, float) else np.int64(one) for one in n]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        found = calls(clock)[name](WHOLE[whole], REAL[real], numbers.get(several, LISTS[several]))
    assert plain(found) == expected[name]
