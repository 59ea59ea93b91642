"""Paths and their maps against independent answers: circles and lines, scikit-learn, and runs of tiny models."""

import dataclasses
import io
import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from explore import encoder, probes, trajectories, zoo
from explore.__main__ import main
from explore.activations import VIEWS
from explore.samplers import SAMPLERS, sample
from explore.seeds import keyed_noise
from explore.trajectories import Trajectories, geometry, principal, project, record

LEVELS = (-4.0, 0.0, 4.0)


@pytest.fixture(scope="module")
def pair():
    models = [zoo.tiny("unet", conditioning) for conditioning in ("timestep", "none")]
    for model, name in zip(models, ("told", "never-told")):
        model.name = name
    return models


@pytest.fixture(scope="module")
def clocks(pair):
    images = torch.randint(0, 256, (10, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return [probes.atlas(one, images, layers=["stem", "norm"], levels=LEVELS, controls=1)[1] for one in pair]


@pytest.fixture(scope="module")
def paths(pair, clocks) -> Trajectories:
    return record(pair, [3, 4, 5, 6], "heun", 6, layers=["stem", "norm"], probe_sets=clocks, pair="tiny")


def circle(radius: float, points: int, share: float = 1.0, values: int = 8) -> torch.Tensor:
    """(points, values): on a circle in a plane that lies askew; radius as root mean square over the values."""
    plane = torch.linalg.qr(torch.randn(values, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    angle = torch.linspace(0, 2 * math.pi * share, points, dtype=torch.float64)
    return radius * values**0.5 * torch.stack([angle.cos(), angle.sin()], dim=1) @ plane.T


def both(told: torch.Tensor, untold: torch.Tensor) -> torch.Tensor:
    """(2, 1, S, D)"""
    return torch.stack([told, untold])[:, None]


# Geometry --------------------------------------------------------------------------------------------------------------


def test_a_straight_line_has_no_curvature_and_the_length_of_its_chord():
    line = torch.linspace(0, 1, 12)[:, None] ** 2 * torch.randn(5, generator=torch.Generator().manual_seed(0))
    found = geometry(both(line, line))
    assert found.length[0, 0] == pytest.approx(found.chord[0, 0].item(), rel=1e-6)
    assert found.detour[0, 0] == pytest.approx(1, rel=1e-6)
    assert found.turning[0, 0] < 1e-5 and found.curvature[0, 0] < 1e-4


@pytest.mark.parametrize(("radius", "points"), [(1.0, 200), (0.25, 400), (3.0, 300)])
def test_a_circle_has_its_curvature(radius, points):
    found = geometry(both(circle(radius, points), circle(radius, points, 0.5)))
    assert found.curvature.flatten().tolist() == pytest.approx([1 / radius] * 2, rel=1e-3)
    assert found.length.flatten().tolist() == pytest.approx([2 * math.pi * radius, math.pi * radius], rel=1e-3)
    assert found.chord[0, 0] < 1e-12 and found.detour[1, 0] == pytest.approx(math.pi / 2, rel=1e-3)
    assert found.turning[1, 0] == pytest.approx(math.pi, rel=0.02)


def test_turning_back_is_half_a_turn_and_standing_still_is_none():
    there_and_back = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    still = torch.ones(3, 2)
    found = geometry(both(there_and_back, still))
    assert found.turning[:, 0].tolist() == pytest.approx([math.pi, 0])
    assert found.length[1, 0] == 0 and found.curvature[1, 0] == 0


def test_members_part_where_they_were_made_to():
    steps, kick = 20, 7
    told = torch.randn(steps, 64, generator=torch.Generator().manual_seed(0))
    untold = told.clone()
    untold[3] *= 1.5  # apart once, together again
    untold[kick:] += 0.5
    found = geometry(both(told, untold))
    assert found.divergence_step().tolist() == [kick]
    assert found.between[:3].tolist() == [[0.0]] * 3 and found.between[kick, 0] == pytest.approx(0.5, rel=1e-6)
    # The criterion is free of scale: enlarging everything moves nothing.
    assert geometry(1000 * both(told, untold)).divergence_step().tolist() == [kick]
    assert found.divergence_step(threshold=2).tolist() == [-1]
    assert geometry(both(told, -told)).relative.flatten().tolist() == pytest.approx([2**0.5] * steps)


def test_equal_members_never_part(pair):
    found = record([pair[1], pair[1]], [0, 1], "ddim", 4, eta=1.0, layers=["norm"])
    for space in ("xt", "x0_hat", "norm"):
        assert found.geometry[space].divergence_step().tolist() == [-1, -1]
        assert found.geometry[space].between.abs().max() == 0
    parting = found.to_json()["spaces"]["xt"]["parting"]
    assert parting == {"threshold": 0.1, "images_that_part": 0, "images": 2, "step": None, "per_image": [None, None]}


def test_strangers_are_as_far_apart_as_pairs_of_images_are():
    points = torch.randn(2, 5, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = geometry(points).strangers
    squares = [(points[m, i] - points[m, j]).square().mean(-1) for m in range(2) for i in range(5) for j in range(5) if i != j]
    assert found.tolist() == pytest.approx(torch.stack(squares).mean(0).sqrt().tolist())


def test_paths_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"points must have the shape \(2, images, steps, values\), got \(3, 1, 2, 2\)"):
        geometry(torch.zeros(3, 1, 2, 2))


# Recording ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_record_is_the_sampler_s_own_stream(pair, sampler):
    found = record(pair, [3, 4], sampler, 5)
    for member, denoiser in enumerate(pair):
        steps = list(SAMPLERS[sampler](denoiser, keyed_noise([3, 4], denoiser.shape), 5, seeds=[3, 4]))
        assert found.t.tolist() == [step.t for step in steps] and found.index.tolist() == [0, 1, 2, 3, 4, 5]
        for number, step in enumerate(steps):
            for space in ("xt", "x0_hat"):
                assert torch.equal(found.points[space][member, :, number], getattr(step, space).half())
        lengths = sum((b.xt - a.xt).flatten(1).double().square().mean(1).sqrt() for a, b in itertools.pairwise(steps))
        assert found.geometry["xt"].length[member].tolist() == pytest.approx(lengths.tolist())
        assert torch.equal(found.samples()[member], sample(denoiser, [3, 4], sampler, 5).half().float())


def test_activations_are_those_at_the_recorded_states(pair, clocks):
    found = record(pair, [3, 4], "heun", 4, layers=["stem", "norm"], probe_sets=clocks, view="mean")
    for member, denoiser in enumerate(pair):
        module = dict(denoiser.network.named_modules())["norm"]
        steps = list(SAMPLERS["heun"](denoiser, keyed_noise([3, 4], denoiser.shape), 4, seeds=[3, 4]))
        for number, step in enumerate(steps):  # the last is the finished sample, told t = 0
            outputs = []
            handle = module.register_forward_hook(lambda *call, outputs=outputs: outputs.append(call[2]))
            with clocks[member].follow(denoiser) as readings:
                denoiser.output(step.xt, step.t)
            handle.remove()
            expected = VIEWS["mean"](outputs[0])
            assert torch.allclose(found.points["norm"][member, :, number].float(), expected, atol=2e-3)
            t = found.implied_t[member, :, number]
            inside = (t > 1e-3) & (t < 1 - 1e-3)
            levels = denoiser.schedule.logsnr(t)
            assert torch.allclose(levels[inside], readings[0][inside], atol=1e-2)
            assert not inside.all() or len(inside)  # readings beyond the path are held at its ends
        assert not module._forward_hooks


def test_long_runs_are_measured_whole_and_kept_in_part(pair):
    found = record(pair, range(64), "euler", 60)
    assert len(found.index) == 31 and found.index[0] == 0 and found.index[-1] == 60
    assert found.points["xt"].shape == (2, 64, 31, 3, 8, 8) and len(found.geometry["xt"].between) == 61
    # Every second step left out, a curved path would be shorter.
    kept = geometry(found.points["xt"].float().flatten(3))
    assert (found.geometry["xt"].length >= kept.length * 0.999).all()
    assert (found.geometry["xt"].length.mean() - kept.length.mean()) > 0


def test_a_run_cut_short_has_the_paths_so_far(pair):
    stream = trajectories.follow(pair, [0], "euler", 10, layers=["norm"])
    *_, (_, recorder) = itertools.islice(stream, 4)
    stream.close()
    found = recorder.result()
    assert found.index.tolist() == [0, 1, 2, 3] and len(found.geometry["norm"].between) == 4
    assert not any(module._forward_hooks for one in pair for module in one.network.modules())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seeds": []}, "count must be a whole number from 1 to 64, got 0"),
        ({"seeds": range(65)}, "count must be a whole number from 1 to 64, got 65"),
        ({"sampler": "hein"}, "unknown sampler 'hein'; did you mean heun?"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, got 0"),
        ({"layers": ["nrom"]}, "unknown layer 'nrom'; did you mean norm?"),
        ({"view": "position"}, "unknown view 'position'; choose from mean, mean_std"),
        ({"eta": 0.5}, "sampler 'heun' has no option 'eta'; it belongs to ddim"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(pair, change, text):
    with pytest.raises(ValueError) as caught:
        record(pair, **{"seeds": [0], "sampler": "heun", "steps": 2, **change})
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_members_must_match(pair):
    with pytest.raises(ValueError, match="trajectories takes two models of one schedule"):
        record([pair[0], zoo.tiny("unet", "none", "eps")], [0])


# Files -------------------------------------------------------------------------------------------------------------------


def test_npz_round_trip(paths, tmp_path):
    named = dataclasses.replace(paths, classes=[["cat", "dog", "ship", "cat"]] * 2)
    drawn = project(paths, "norm", "pca", 3)
    (tmp_path / "paths.npz").write_bytes(named.to_npz(drawn))
    with np.load(tmp_path / "paths.npz", allow_pickle=False) as stored:
        assert np.array_equal(stored["map"], drawn.coordinates.numpy())
        assert stored["xt"].shape == (2, 4, 7, 3, 8, 8) and stored["activation/norm"].dtype == np.float16
    again = Trajectories.from_npz(tmp_path / "paths.npz")
    for entry in dataclasses.fields(Trajectories):
        before, after = getattr(named, entry.name), getattr(again, entry.name)
        if entry.name == "points":
            assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
        elif entry.name == "geometry":
            assert before.keys() == after.keys()
            for space in before:
                for part in dataclasses.fields(trajectories.Geometry):
                    assert torch.equal(getattr(before[space], part.name), getattr(after[space], part.name))
        elif isinstance(before, torch.Tensor):
            assert torch.equal(before, after) and before.dtype == after.dtype
        else:
            assert before == after
    assert Trajectories.from_npz(named.to_npz()).to_json() == named.to_json()


@pytest.mark.parametrize("content", [b"", b"not a file", "pickled", "other"])
def test_other_files_are_refused(content, tmp_path):
    if isinstance(content, str):
        buffer = io.BytesIO()
        value = np.array({"about": 1}, dtype=object) if content == "pickled" else np.zeros(3)
        np.savez(buffer, about=value, allow_pickle=True)
        content = buffer.getvalue()
    with pytest.raises(ValueError, match="the file does not hold recorded trajectories"):
        Trajectories.from_npz(content)


def test_pictures_and_film(paths):
    film = Image.open(io.BytesIO(paths.comparison().to_gif()))
    assert film.n_frames == len(paths.index)
    assert Image.open(io.BytesIO(paths.comparison().to_png())).width > 256
    assert paths.pictures("xt", 0, 0).dtype == torch.uint8
    assert torch.equal(*paths.pictures("xt", 2, 0))  # the same noise
    with pytest.raises(ValueError, match="unknown picture 'norm'; choose from xt, x0_hat"):
        paths.pictures("norm", 0, 0)


# Projections -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(300, 40), (60, 500), (1300, 1100)])
def test_principal_components_are_scikit_learn_s(shape):
    generator = torch.Generator().manual_seed(0)
    strength = 0.9 ** torch.arange(shape[1])  # as steep as the spectrum of pictures
    points = torch.randn(*shape, generator=generator) * strength + 3
    coordinates, shares = principal(points, 3)
    reference = PCA(3, svd_solver="full").fit(points.double().numpy())
    expected = reference.transform(points.double().numpy())
    expected = expected * np.sign(expected[np.abs(expected).argmax(0), range(3)])
    assert np.abs(coordinates.numpy() - expected).max() < 2e-4 * np.abs(expected).max()
    assert shares == pytest.approx(reference.explained_variance_ratio_.tolist(), rel=1e-4)


def test_fewer_points_than_components_leave_axes_empty():
    coordinates, shares = principal(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), 3)
    assert coordinates[:, 0].abs().tolist() == pytest.approx([1, 1]) and coordinates[:, 1:].abs().max() == 0
    assert shares == pytest.approx([1, 0, 0])


def test_maps_are_fitted_on_the_union(paths):
    drawn = project(paths, "xt", "pca", 2)
    points = paths.points["xt"].float().flatten(3)  # (2, N, F, D)
    union = PCA(2, svd_solver="full").fit_transform(points.flatten(0, 2).double().numpy())
    union = union * np.sign(union[np.abs(union).argmax(0), range(2)])
    assert np.allclose(drawn.coordinates.flatten(0, 2).numpy(), union, atol=1e-3)
    assert drawn.coordinates.shape == (2, 4, 7, 2)
    # Both members begin at one point of the map: the same noise.
    assert torch.allclose(drawn.coordinates[0, :, 0], drawn.coordinates[1, :, 0], atol=1e-4)
    expected = trustworthiness(points.flatten(0, 2).numpy(), union, n_neighbors=15)
    assert drawn.trustworthiness == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow  # UMAP compiles
@pytest.mark.parametrize("dimensions", [2, 3])
def test_umap_is_the_same_at_every_call(paths, dimensions):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)  # as a person may, who shares a machine; numba would take all cores for torch too
    first, again = (project(paths, "x0_hat", "umap", dimensions, seed=5) for _ in range(2))
    assert torch.get_num_threads() == 3
    torch.set_num_threads(threads)
    assert torch.equal(first.coordinates, again.coordinates) and first.coordinates.shape == (2, 4, 7, dimensions)
    assert not torch.equal(first.coordinates, project(paths, "x0_hat", "umap", dimensions, seed=6).coordinates)
    points = paths.points["x0_hat"].float().flatten(3).flatten(0, 2).numpy()
    shuffled = np.random.default_rng(0).permutation(first.coordinates.flatten(0, 2).numpy())
    chance = trustworthiness(points, shuffled, n_neighbors=15)  # which map comes of a few points hangs on their last bits
    assert chance + 0.05 < first.trustworthiness <= 1
    about = first.to_json()
    assert about["fitted_on"] == "the union of both members' points" and 0.9 < about["variance_before_umap"] <= 1 + 1e-6


@pytest.mark.slow
def test_umap_keeps_apart_what_is_apart(pair):
    """Three clumps in 60 dimensions."""
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.randn(3, 60, generator=generator)
    points = torch.cat([centre + torch.randn(40, 60, generator=generator) for centre in centres])
    coordinates, _ = trajectories.umap(points, 2, 0)
    clumps = coordinates.unflatten(0, (3, 40))
    width = (clumps - clumps.mean(1, keepdim=True)).norm(dim=-1).max()
    assert torch.pdist(clumps.mean(1)).min() > 1.5 * width


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"space": "pixels"}, "unknown space 'pixels'; choose from xt, x0_hat, stem, norm"),
        ({"projection": "x"}, "unknown projection 'x'; choose from pca, umap"),
        ({"dimensions": 4}, "dimensions must be a whole number from 2 to 3, got 4"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
    ],
)
def test_maps_out_of_range_are_refused(paths, change, text):
    with pytest.raises(ValueError, match=text):
        project(paths, **change)


def test_umap_of_a_handful_of_points_is_refused(pair):
    with pytest.raises(ValueError, match="umap needs at least 8 points, got 4: take more images or steps"):
        project(record(pair, [0], "euler", 1), "xt", "umap")


def test_the_smallest_run_has_a_map(pair):
    drawn = project(record(pair, [0], "euler", 1), "xt", "pca", 3)
    assert drawn.coordinates.isfinite().all() and math.isfinite(drawn.trustworthiness)


# The command -------------------------------------------------------------------------------------------------------------

PAIR, CIFAR = "celeba32-unet-velocity", "cifar10-dit4-velocity"
SHORT = ["--count", "2", "--steps", "3", "--sampler", "euler"]
FILES = {"trajectories.npz", "trajectories.json", "trajectory.gif", "map.html"}


@pytest.mark.slow
def test_the_command_writes_paths_figures_map_and_film(tmp_path, capsys):
    typed = [
        "trajectories",
        PAIR,
        *SHORT,
        "--seed",
        "7",
        "--space",
        "activation",
        "--layer",
        "mid.block.1",
        "--dimensions",
        "3",
    ]
    assert main([*typed, "--color", "implied-t", "--out", str(tmp_path)]) == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert made - {"map.png"} == FILES
    assert ("map.png" in made) == any(map(shutil.which, ("chromium", "google-chrome")))
    found = json.loads((tmp_path / "trajectories.json").read_text())
    assert found["command"].startswith(f"python -m explore trajectories {PAIR} --seed 7 --count 2 --sampler euler --steps 3")
    assert found["seeds"] == [7, 8] and found["times"] == found["t"] and "curvature" in found["definitions"]
    assert (
        found["map"]["space"] == "mid.block.1" and found["map"]["dimensions"] == 3 and 0 < found["map"]["trustworthiness"] <= 1
    )
    assert set(found["spaces"]) == {"xt", "x0_hat", "mid.block.1"}
    figures = found["spaces"]["xt"]["members"][f"{PAIR}-none"]
    assert all(value >= 1 for value in figures["detour"]["per_image"]) and figures["curvature"]["median"] > 0
    assert found["spaces"]["xt"]["between"]["per_step"][0]["median"] == 0
    paths = Trajectories.from_npz(tmp_path / "trajectories.npz")
    assert paths.points["mid.block.1"].shape[:3] == (2, 2, 4) and paths.implied_t.shape == (2, 2, 4)
    with Image.open(tmp_path / "trajectory.gif") as film:
        assert film.n_frames == 4
    if "map.png" in made:
        with Image.open(tmp_path / "map.png") as picture:
            assert picture.width == 1800 and len(picture.convert("RGB").getcolors(10**7)) > 20
    printed = capsys.readouterr().out
    assert "stays at 0.1 or above to the end" in printed and "trustworthiness" in printed


@pytest.mark.slow
def test_the_command_names_classes_by_the_encoder(tmp_path, monkeypatch, capsys):
    from explore import figures

    monkeypatch.setattr(figures, "browser", lambda: None)
    assert main(["trajectories", CIFAR, *SHORT, "--color", "class", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "trajectories.json").read_text())
    assert found["classes_by"] == "cifar-resnet" and {*found["classes"][0], *found["classes"][1]} <= {*encoder.CLASSES}
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "map.png is left out: a static picture needs a browser" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (["nobody"], "unknown pair 'nobody'"),
        ([PAIR, "--count", "65"], "count must be a whole number from 1 to 64, got 65"),
        ([PAIR, "--steps", "0"], "steps must be a whole number from 1 to 1000, got 0"),
        ([PAIR, "--projection", "x"], "unknown projection 'x'; choose from pca, umap"),
        ([PAIR, "--dimensions", "4"], "dimensions must be a whole number from 2 to 3, got 4"),
        ([PAIR, "--space", "pixels"], "unknown space 'pixels'; choose from xt, x0_hat, activation"),
        ([PAIR, "--layer", "nowhere"], "unknown layer 'nowhere'; choose from"),
        ([PAIR, "--view", "position"], "unknown view 'position'; choose from mean, mean_std"),
        ([PAIR, "--color", "red"], "unknown color 'red'; choose from member, t, implied-t, class"),
        (
            [PAIR, "--color", "class"],
            f"color class is for models of cifar10: the encoder names its classes; {PAIR} is celeba",
        ),
        ([PAIR, "--seed", "-1"], "seed must be a whole number from 0 to 4294967295, got -1"),
    ],
)
def test_mistakes_give_one_line_and_write_nothing(typed, text, tmp_path, capsys):
    assert main(["trajectories", *typed, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ") and text in printed and "\n" not in printed.split("error: ")[-1]
    assert not (tmp_path / "out").exists()


# Figures -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("coloring", ["member", "t", "class"])
def test_the_map_draws_both_members_with_their_steps(paths, dimensions, coloring):
    from explore import figures

    drawn = project(paths, "xt", "pca", dimensions)
    extra = {
        "member": {},
        "t": {"values": paths.t.expand(2, 4, -1).tolist()},
        "class": {"classes": [["cat", "dog", "cat", "ship"]] * 2},
    }[coloring]
    figure = figures.trajectory_map(
        drawn.coordinates.tolist(), paths.titles, paths.t.tolist(), at=3, chosen=2, axes=drawn.axes(), **extra
    )
    by_role = {(trace.meta["role"], trace.meta.get("member")): trace for trace in figure.data}
    roles = {"path", "at", "chosen", "chosen-at"} | ({"point"} if coloring != "member" else set())
    assert {role for role, member in by_role if member == 1} == roles
    for member in range(2):
        line, here = by_role["path", member], by_role["at", member]
        assert len(line.x) == 4 * 8 and line.x[7] is None  # a gap after every path
        assert list(here.x) == [pytest.approx(x, abs=1e-3) for x in drawn.coordinates[member, :, 3, 0].tolist()]
        assert line.customdata[9] == [2, 1, 1, paths.t[1].item()]
        assert by_role["chosen", member].x[3] == here.x[2] == by_role["chosen-at", member].x[0]
    assert by_role["at", 0].marker.color == figures.CONDITIONED and by_role["at", 1].marker.color == figures.TIME_AGNOSTIC
    assert by_role["at", 0].marker.symbol != by_role["at", 1].marker.symbol
    if coloring == "class":
        assert len({by_role["point", 0].marker.color[i * 7] for i in range(4)}) == 3


def test_figures_of_distance_and_geometry(paths):
    from explore import figures

    found = paths.to_json()
    for value, lines in (("relative", 2), ("between", 4)):
        figure = figures.distance_curve(found["spaces"], found["times"], value, at=0.5)
        named = [trace for trace in figure.data if trace.name]
        assert len(named) == lines and all(len(trace.x) == 7 for trace in named)
    figure = figures.path_figures(found["spaces"]["xt"]["members"], paths.titles)
    assert [len(trace.y) for trace in figure.data] == [4] * 6


@pytest.mark.slow
def test_a_static_picture_is_the_figure(paths):
    from explore import figures

    if figures.browser() is None:
        pytest.fail(figures.NO_BROWSER)
    figure = figures.trajectory_map([[[[0, 0], [1, 1]]], [[[0, 0], [1, -1]]]], ["</script>told", "never"], [1, 0], at=1)
    with Image.open(io.BytesIO(figures.static(figure, width=400, height=300, scale=1))) as picture:
        assert picture.size == (400, 300)
        colors = {color for _, color in picture.convert("RGB").getcolors(10**6)}
        assert (255, 255, 255) in colors and (0, 0x72, 0xB2) in colors and (0xD5, 0x5E, 0) in colors


@pytest.mark.slow
def test_statics_draws_each_figure_at_its_own_height():
    from explore import figures

    if figures.browser() is None:
        pytest.fail(figures.NO_BROWSER)
    told, never = [[[0, 0, 0], [1, 1, 1]]], [[[0, 0, 0], [1, -1, 0]]]
    drawn = [figures.difference_curve([]), figures.trajectory_map([told, never], ["told", "never"], [1, 0], at=1)]
    sizes, colors = [], []
    for png in figures.statics(drawn, width=500, scale=1):
        with Image.open(io.BytesIO(png)) as picture:
            sizes.append(picture.size)
            colors.append({color for _, color in picture.convert("RGB").getcolors(10**6)})
    assert sizes == [(500, figures.HEIGHT), (500, 560)]
    assert (0, 0x72, 0xB2) in colors[1] and (0, 0x72, 0xB2) not in colors[0]  # WebGL draws too
    assert figures.statics([]) == []


def test_a_browser_that_does_not_start_is_one_line(monkeypatch):
    from explore import figures

    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with pytest.raises(ValueError, match=r"false did not draw the figure: \S+") as error:
        figures.static(figures.difference_curve([]))
    assert "\n" not in str(error.value)


def test_without_a_browser_one_line_says_so(monkeypatch):
    from explore import figures

    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"a static picture needs a browser: none of chromium, .* apt-get install chromium"):
        figures.static(figures.difference_curve([]))
