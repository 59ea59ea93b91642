"""The tab Theory: its figures against known answers, and the tab in a real browser and through gradio_client."""

import math
import re

import pytest
import torch
from conftest import button, choose, drawn, fill, press
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect

from app import theory
from explore import bayes
from explore.data import to_float
from explore.experiments import PlaneFlow, Posterior
from explore.experiments.exact import as_images
from explore.experiments.posterior import outside
from explore.figures import planar_paths, posterior_curves, width_curves
from explore.samplers import Sampling

NAMES = ["fitted Gaussian", "bundled images", "given x0"]  # of the priors


def settings(**changes):
    values = {
        "target": "eps", "schedule": "ddpm-cosine", "sampler": "ddim", "eta": 0, "clamp": False, "start": 0.99, "low": 0,
        "high": 1, "size": "8", "count": 16, "steps": 20,
    } | changes  # fmt: skip
    return theory.exact.read_request(**values)


def distances(**changes) -> list[float]:
    found = settings(**changes).run()
    assert found.samples[0].shape == found.samples[1].shape
    return list(found.relative_frechet)


def test_the_panel_gives_the_answers_of_the_exact_table():
    told, blind = distances()
    assert told < 0.1 < 5 * told < blind
    told, blind = distances(target="v")
    assert blind < 2 * told
    told, blind = distances(target="velocity", schedule="flow", start=1)
    assert blind < 2 * told
    assert distances(clamp=True, eta=1)[1] < 0.2  # the rescue


def test_the_switch_at_t_shows_the_end_that_matters():
    (_, near_the_data), (_, near_noise) = (distances(start=0.999, low=low, high=high) for low, high in ((0, 0.5), (0.95, 1)))
    assert near_the_data < 0.1 and near_noise > 10 * near_the_data


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": "epsilon"}, "eps, x0, v, velocity"),
        ({"target": "velocity"}, "path flow only"),
        ({"start": math.nan}, "start must be above 0 and at most 1"),
        ({"low": 0.7, "high": 0.2}, "from a smaller to a larger"),
        ({"size": "1024"}, "from 8 to 32"),
        ({"count": 1e9}, "from 2 to 64"),
        ({"steps": "many"}, "from 1 to 1000"),
        ({"start": 1.0}, "no signal is left at t = 1"),
        ({"schedule": "flow", "start": 1.0}, "cannot start at t = 1"),
    ],
)
def test_settings_that_are_not_allowed_are_refused_in_words(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings(**changes)


def test_coordinates_of_the_plain_basis_are_shown_as_pictures_of_the_same_energy():
    prior = bayes.spectral_gaussian(8)
    state = prior.to_images(prior.draw(4, torch.Generator().manual_seed(0)), (3, 8, 8))
    seen = as_images(prior, state)
    torch.testing.assert_close(seen.square().sum((1, 2, 3)), state.square().sum((1, 2, 3)))
    torch.testing.assert_close(as_images(prior, seen), state)  # Hartley's transform is its own inverse


@pytest.mark.parametrize("text", ["0.5, -1; 1 1\n-2,2", "0.5,-1;1,1;-2,2;"])
def test_points_are_read_as_a_person_types_them(text):
    assert PlaneFlow(text).data.tolist() == [[0.5, -1.0], [1.0, 1.0], [-2.0, 2.0]]


@pytest.mark.parametrize("text", ["1", "1, 2, 3", "a, b", "9, 0", "nan, 0", "; ".join(["0, 0"] * 65)])
def test_points_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=r"point|coordinate"):
        PlaneFlow(text)


@pytest.mark.parametrize("name", bayes.PLANAR)
@pytest.mark.parametrize("count", [1, 7, 64])
def test_patterns_have_as_many_points_as_asked_for(name, count):
    points = bayes.PLANAR[name](count)
    assert points.shape == (count, 2) and points.isfinite().all() and points.abs().max() <= 1.1


def test_told_the_time_paths_end_on_the_points():
    found = PlaneFlow(pattern="ring", number=6, count=16, sampling=Sampling("ddim", 40)).run()
    told, blind = found.paths
    assert told.shape == blind.shape == (16, 41, 2)
    assert torch.equal(told[:, 0], blind[:, 0])
    assert found.away[0].max() < 0.05
    with pytest.raises(ValueError, match="path flow only"):
        PlaneFlow(schedule="ddpm-cosine")


def test_every_posterior_names_its_prior_and_a_picture_outside_is_said_to_be():
    found = Posterior("bank:celeba", index=3, t=0.4).run()
    by_name = {row.name: row for row in found.rows}
    assert list(by_name) == NAMES
    for row in found.rows:
        assert row.prior and row.low <= row.mean <= row.high and abs(row.mean - 0.4) < 0.05
    assert "times that of samples of this Gaussian" in by_name["fitted Gaussian"].outside
    assert not by_name["bundled images"].outside and not by_name["given x0"].outside
    assert "not in this set" in outside(bayes.FiniteSet(to_float(found.picture)), to_float(255 - found.picture))
    shown = theory.posterior_table(found.rows, 0.4)
    assert all(row.prior.replace("<", "&lt;") in shown for row in found.rows)


def test_draws_of_the_gaussian_are_not_called_strangers():
    prior = bayes.fitted_gaussian("celeba", 32)
    drawn = prior.to_images(prior.draw(20, torch.Generator().manual_seed(1)), (3, 32, 32))
    assert not any(outside(prior, one[None]) for one in drawn)


def test_the_width_falls_as_the_root_of_the_dimension():
    rows, slope = theory.dimensions()
    assert abs(slope + 0.5) < 0.02
    for measured, limit in zip(rows[0]["y"], rows[1]["y"]):
        assert abs(measured / limit - 1) < 0.1


def test_what_the_network_predicts_decides_the_price():
    found = {name: value for name, value, _, _ in theory.prices("celeba", "ddpm-cosine")}
    assert set(found) == {"eps", "x0", "v", "edm", "uedm"} and all(value >= 0 for value in found.values())
    straight = {name: value for name, value, _, _ in theory.prices("celeba", "flow")}
    assert set(straight) == {*found, "velocity", "eqm"}
    assert straight["eqm"] == pytest.approx(straight["x0"], rel=1e-6)  # x0_hat is xt minus the output of eqm


def test_figures_hold_what_they_are_given():
    figure = posterior_curves([{"name": "a", "t": [0.1, 0.2, 0.3], "density": [1.0, 4.0, 2.0]}], 0.2)
    assert list(figure.data[0].y) == [0.25, 1.0, 0.5] and figure.layout.height
    figure = width_curves([{"name": "a", "x": [1, 10], "y": [0.1, 0.01]}], "d (log)", "std")
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log" and figure.layout.height
    figure = planar_paths([[0, 0]], [[[1, 1], [0, 0]], [[-1, 1], [0, 1]]], "told", "#0072B2")
    assert list(figure.data[1].x) == [0, 0] and list(figure.data[1].y) == [0, 1] and figure.layout.height


# In a browser --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def theory_page(open_page):
    def theory_page(**size: int) -> Page:
        page = open_page("?tab=theory", **size)
        expect(button(page, "Compute posterior")).to_be_visible()
        return page

    return theory_page


def sized(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_a_picture_is_read_under_three_named_priors(theory_page):
    page = theory_page()
    button(page, "Compute posterior").click()
    table = page.locator("#posterior-table")
    expect(table).to_contain_text("given x0", timeout=60_000)
    expect(table).to_contain_text("times that of samples of this Gaussian")
    expect(page.locator("#posterior-price")).to_contain_text("x0", timeout=90_000)
    expect(page.locator("#posterior-slope")).to_contain_text("-0.5")
    drawn(page, "posterior-curves")
    names = page.evaluate("document.querySelector('#posterior-curves .js-plotly-plot').data.map(line => line.name)")
    assert names == NAMES
    fill(page, posterior_seed=-1)
    button(page, "Compute posterior").click()
    expect(page.locator("#posterior-status [role=alert]")).to_contain_text("seed must be a whole number")


# Presses the stop button as soon as the run says that it samples.
STOP_AT_ONCE = """() => {
  const line = document.querySelector('#exact-status');
  const watch = new MutationObserver(() => {
    const stop = document.querySelector('#exact-stop');
    if (!line.textContent.includes('Sampling') || stop.disabled) return;
    watch.disconnect();
    stop.click();
  });
  watch.observe(line, {subtree: true, childList: true, characterData: true});
}"""


@pytest.mark.slow
def test_the_panel_samples_both_and_can_be_stopped(theory_page):
    page = theory_page()
    fill(page, exact_count=8, exact_steps=10)
    button(page, "Sample both").click()
    summary = page.locator("#exact-summary")
    expect(summary).to_contain_text("Relative Fréchet distance", timeout=60_000)
    expect(page.locator("#theory-exact-pictures img")).to_have_count(2)
    press(page, button(page, "Hide t near noise: above .95"), "#exact-status", "Done")
    expect(summary).to_contain_text("costs a factor of")
    expect(page.locator("#exact-low input[type=number]")).to_have_value("0.95")
    choose(page, "exact-size", "32")  # the longest run that is allowed
    choose(page, "exact-sampler", "heun")
    fill(page, exact_count=64, exact_steps=100, exact_low=0)  # t is hidden on the whole path: the slowest setting
    page.evaluate(STOP_AT_ONCE)  # it takes about ten seconds; a busy page shows few of the messages that come
    button(page, "Sample both").click()
    expect(page.locator("#exact-status")).to_contain_text("Stopped")
    fill(page, exact_steps=0)
    button(page, "Sample both").click()
    expect(page.locator("#exact-status [role=alert]")).to_contain_text("steps must be a whole number")


@pytest.mark.slow
def test_paths_in_the_plane_on_a_phone(theory_page):
    page = theory_page(width=390, height=844)
    page.locator("#plane-typed textarea, #plane-typed input").fill("-1, 0; 1, 0; 0, 1.5")
    button(page, "Follow the paths").click()
    expect(page.locator("#plane-summary")).to_contain_text("one of these 3 points", timeout=60_000)
    for title in ("conditioned", "time-agnostic"):
        drawn(page, f"plane-{title}")
        marks = page.evaluate(f"document.querySelector('#plane-{title} .js-plotly-plot').data.map(line => line.x.length)")
        assert marks[1:] == [48, 3]
    sized(page, 390)
    page.locator("#plane-typed textarea, #plane-typed input").fill("7, 7")
    button(page, "Follow the paths").click()
    expect(page.locator("#plane-status [role=alert]")).to_contain_text("from -2 to 2")


@pytest.mark.slow
def test_points_are_drawn_with_a_click(theory_page):
    page = theory_page()
    pad, dots = page.locator("#plane-pad svg"), page.locator("#plane-pad circle")
    field = page.locator("#plane-typed textarea, #plane-typed input")
    side = pad.bounding_box()["width"]
    for number, (x, y) in enumerate([(-1.0, 0.5), (1.5, -1.0)], start=1):
        pad.click(position={"x": side * (x + 2) / 4, "y": side * (2 - y) / 4})
        expect(dots).to_have_count(number)
    drawn = PlaneFlow(field.input_value()).data
    assert torch.allclose(drawn, torch.tensor([[-1.0, 0.5], [1.5, -1.0]], dtype=drawn.dtype), atol=0.05)
    expect(page.locator("#plane-summary")).to_contain_text("one of these 2 points", timeout=60_000)  # pressed by itself
    field.fill("0, 0; 1, 1; -1, -1")
    expect(dots).to_have_count(3)
    button(page, "Clear my points").click()
    expect(dots).to_have_count(0)
    button(page, "Follow the paths").click()
    expect(page.locator("#plane-summary")).to_contain_text("one of these 24 points", timeout=60_000)


@pytest.mark.slow
def test_other_programs_may_ask(client, tmp_path):
    Image.new("RGB", (40, 30), (200, 120, 40)).save(tmp_path / "plain.png")
    asked = {"picture": handle_file(tmp_path / "plain.png"), "t": 0.5, "seed": 3, "dataset": "cifar10"}
    answer = client.predict(**asked, schedule="ddpm-linear", api_name="/posterior")
    assert [row["name"] for row in answer["rows"]] == NAMES
    assert all(row["prior"] for row in answer["rows"]) and answer["rows"][0]["outside"]
    assert answer["command"].startswith("python -m explore posterior --picture plain.png --t 0.5")
    assert client.predict(index=2, api_name="/posterior")["source"] == "bank:celeba, image 3 of 512"
    for bad, text in (
        ({"dataset": "imagenet"}, "choose from"),
        ({"picture": "/etc/hostname"}, "picture must be an uploaded image file or bundled images"),
        ({"picture": {"path": "/etc/hostname"}}, "picture must be an uploaded image file"),
    ):
        with pytest.raises(AppError, match=text):
            client.predict(**{**asked, **bad}, api_name="/posterior")
