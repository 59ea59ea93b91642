"""The tab Trajectories in a real browser and through gradio_client."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import button, choose, drawn, fill
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect
from test_app_clock import pictures

from explore.trajectories import Trajectories

pytestmark = pytest.mark.slow

PAIR = "celeba32-unet-velocity"
PATIENCE = 60_000  # ms, for what the server has to work for
FILES = ("npz", "json", "html", "gif", "png")


@pytest.fixture
def paths_page(open_page):
    """Opens the tab by its address, on the pair whose probes are shipped."""

    def paths_page(query: str = "", **size: int) -> Page:
        page = open_page(f"?tab=trajectories{query}", **size)
        expect(button(page, "Record both paths")).to_be_visible()
        choose(page, "paths-pair", PAIR)
        expect(page.locator("#paths-sampler input")).to_have_value("heun", timeout=PATIENCE)
        return page

    return paths_page


def record(page: Page, steps: int = 4, count: int = 4) -> None:
    """Records with Euler's method, and waits for the map."""
    choose(page, "paths-sampler", "euler (= ddim, eta 0)")
    fill(page, paths_steps=steps, paths_count=count)
    button(page, "Record both paths").click()
    expect(page.locator("#paths-summary")).to_contain_text("Finished", timeout=PATIENCE)
    expect(page.locator("#paths-status")).to_contain_text("Shown: xt, PCA, 2-D.", timeout=PATIENCE)
    drawn(page, "paths-map")


TRACE = """(role) => document.querySelector('#paths-map .js-plotly-plot').data.filter(trace => trace.meta?.role === role)"""


def traces(page: Page, role: str) -> list[dict]:
    """The map's traces that have a role: ``path``, ``point``, ``at``, ``chosen``, ``chosen-at``."""
    return page.evaluate(TRACE, role)


def sliders(page: Page) -> tuple[str, str]:
    """Values of image and step."""
    return tuple(page.locator(f"#paths-{name} input[type=number]").input_value() for name in ("image", "step"))


def click_lower_left(page: Page, member: int) -> None:
    """Clicks the third of four pictures."""
    grid = page.locator("#paths-grids .pick").nth(member)
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])


def wait_for_marker(page: Page, frame: int) -> None:
    page.wait_for_function(f"({TRACE})('at')[0].customdata.every(row => row[1] === {frame})")


def test_both_paths_are_recorded_and_drawn_on_one_map(paths_page):
    page = paths_page()
    page.evaluate("""() => {
      window.seen = [];
      new MutationObserver(() => window.seen.push(document.querySelector('#paths-status').textContent))
        .observe(document.querySelector('#paths-status'), {subtree: true, childList: true, characterData: true});
    }""")
    fill(page, paths_seed=31)  # asked for by no other test: what is held from before is not recorded again
    record(page)
    assert any("Recording: step" in text for text in page.evaluate("window.seen"))
    told, untold = traces(page, "path")
    assert told["line"]["color"] == "#0072B2" and untold["line"]["color"] == "#D55E00"
    assert len(told["x"]) == 4 * 6 and told["x"][0] == untold["x"][0] and told["x"][4] != untold["x"][4]  # the same noise
    note, words = page.locator("#paths-note"), page.locator("#paths-summary")
    expect(note).to_contain_text(re.compile(r"Fitted on the union of both members' 40 points\. The axes explain \d+\.\d%"))
    expect(note).to_contain_text(re.compile(r"Trustworthiness [01]\.\d{3}"))
    expect(words).to_contain_text(
        "the distance between the members of an image is 0.1 or more of what it would be between unrelated"
    )
    for text in ("path length", "length / straight line", "curvature, radians / length", "One training seed"):
        expect(words).to_contain_text(text)
    drawn(page, "paths-distance", "paths-geometry")
    assert sliders(page) == ("0", "4")


def test_the_step_slider_moves_both_dots_and_the_pictures(paths_page):
    page = paths_page()
    record(page)
    page.evaluate("document.querySelector('#paths-map .js-plotly-plot').dataset.same = 'yes'")
    before, shown = traces(page, "at"), pictures(page, "paths-grids")
    fill(page, paths_step=1)
    wait_for_marker(page, 1)
    after = traces(page, "at")
    for member in (0, 1):
        assert after[member]["x"] != before[member]["x"] and len(after[member]["x"]) == 4
        path = traces(page, "path")[member]
        assert after[member]["x"] == [path["x"][image * 6 + 1] for image in range(4)]
    expect(page.locator("#paths-where")).to_contain_text("step 1 of 4, t = 0.750", timeout=PATIENCE)
    page.wait_for_function("before => document.querySelector('#paths-grids img').src !== before", arg=shown[0])
    # The figure itself stays: zoom and camera with it.
    assert page.evaluate("document.querySelector('#paths-map .js-plotly-plot').dataset.same") == "yes"
    page.locator("#paths-step input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    wait_for_marker(page, 2)


@pytest.mark.parametrize("dimensions", ["2-D", "3-D"])
def test_a_picture_that_is_clicked_stands_out_on_the_map(paths_page, dimensions):
    page = paths_page()
    record(page)
    if dimensions == "3-D":
        choose(page, "paths-dimensions", "3-D")
        expect(page.locator("#paths-status")).to_contain_text("Shown: xt, PCA, 3-D.", timeout=PATIENCE)
        page.wait_for_function(f"'z' in ({TRACE})('path')[0]")
    click_lower_left(page, 1)
    page.wait_for_function(f"({TRACE})('chosen')[0].x.length === 5")
    assert sliders(page) == ("3", "4")
    for member in (0, 1):
        path, chosen = traces(page, "path")[member], traces(page, "chosen")[member]
        assert chosen["x"] == path["x"][12:17] and path["opacity"] < 0.2
        assert traces(page, "chosen-at")[member]["x"] == [path["x"][16]]
    expect(page.locator("#paths-where")).to_contain_text("image 3 (seed 2), step 4 of 4", timeout=PATIENCE)
    expect(page.locator("#paths-where")).to_contain_text("implied t: ")
    expect(page.locator("#paths-chosen img")).to_have_count(4, timeout=PATIENCE)
    expect(page.locator("#paths-grids .pick i")).to_have_count(2)
    click_lower_left(page, 0)  # once more lets it go
    page.wait_for_function(f"({TRACE})('path')[0].opacity > 0.5")
    assert sliders(page)[0] == "0"


def test_a_point_of_the_map_that_is_clicked_shows_its_picture(paths_page):
    page = paths_page(height=1300)
    record(page)
    fill(page, paths_step=0)
    wait_for_marker(page, 0)
    expect(page.locator("#paths-where")).to_contain_text("step 0 of 4")
    page.locator("#paths-map").scroll_into_view_if_needed()
    x, y = page.evaluate("""() => {
      const map = document.querySelector('#paths-map .js-plotly-plot'), box = map.getBoundingClientRect();
      const path = map.data.find(trace => trace.meta.role === 'path' && trace.meta.member === 1), k = 6 + 4;
      const {xaxis, yaxis} = map._fullLayout;
      return [box.x + xaxis._offset + xaxis.l2p(path.x[k]), box.y + yaxis._offset + yaxis.l2p(path.y[k])];
    }""")
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    page.mouse.click(x, y)
    expect(page.locator("#paths-where")).to_contain_text("image 2 (seed 1), step 4 of 4", timeout=PATIENCE)
    assert sliders(page) == ("2", "4")
    wait_for_marker(page, 4)


def test_space_color_and_projection_change_without_another_run(paths_page):
    page = paths_page()
    record(page)
    states = traces(page, "path")[0]["x"]
    choose(page, "paths-space", "activation of mid.block.1")
    expect(page.locator("#paths-note")).to_contain_text("Each network's channels are axes of its own", timeout=PATIENCE)
    page.wait_for_function(f"before => ({TRACE})('path')[0].x[0] !== before", arg=states[0])
    choose(page, "paths-color", "implied t")
    page.wait_for_function(f"({TRACE})('point').length === 2")
    colors = traces(page, "point")[0]["marker"]
    assert colors["cmin"] == 0 and colors["cmax"] == 1 and colors["color"][0] > colors["color"][4]  # it sees the noise go
    page.locator("#paths-color input").click()
    expect(page.get_by_role("option")).to_have_text([re.compile("member"), re.compile("true t"), re.compile("implied t")])
    page.keyboard.press("Escape")
    choose(page, "paths-projection", "UMAP")
    expect(page.locator("#paths-note")).to_contain_text("it keeps neighbors, not distances", timeout=120_000)
    expect(page.locator("#paths-status")).to_contain_text("Shown: mid.block.1, UMAP, 2-D.", timeout=PATIENCE)


def test_files_can_be_downloaded_and_opened(paths_page, tmp_path):
    page = paths_page()
    record(page)
    for kind in FILES:
        link = page.locator(f"#paths-{kind}")
        expect(link).to_be_enabled(timeout=PATIENCE)
        with page.expect_download() as download:
            link.click()
        download.value.save_as(tmp_path / f"paths.{kind}")
    paths = Trajectories.from_npz(tmp_path / "paths.npz")
    assert paths.pair == PAIR and paths.points["xt"].shape == (2, 4, 5, 3, 32, 32) and paths.implied_t is not None
    with np.load(tmp_path / "paths.npz", allow_pickle=False) as stored:
        assert stored["map"].shape == (2, 4, 5, 2)
    found = json.loads((tmp_path / "paths.json").read_text())
    assert found["spaces"]["xt"]["parting"]["images"] == 4 and found["map"]["projection"] == "pca"
    with Image.open(tmp_path / "paths.gif") as film:
        assert film.n_frames == 5
    with Image.open(tmp_path / "paths.png") as picture:
        assert picture.width > 256
    assert "plotly.js" in (tmp_path / "paths.html").read_text()[:5000]


def test_stopping_frees_the_models_at_once(paths_page):
    page = paths_page()
    fill(page, paths_steps=1000, paths_count=1)
    button(page, "Record both paths").click()
    status, stop = page.locator("#paths-status"), page.locator("#paths-stop")
    expect(status).to_contain_text(re.compile("step [1-9]"))
    stop.click()
    expect(status).to_contain_text("Stopped.", timeout=PATIENCE)
    expect(stop).to_be_disabled()
    still = pictures(page, "paths-grids")
    page.wait_for_timeout(1000)
    assert pictures(page, "paths-grids") == still
    expect(page.locator("#paths-summary")).to_be_hidden()
    record(page, steps=2, count=1)


def test_bad_values_are_explained(paths_page):
    page = paths_page()
    for values, text in (
        ({"paths_count": 65}, "count must be a whole number from 1 to 64, got 65"),
        ({"paths_count": 1, "paths_steps": 1001}, "steps must be a whole number from 1 to 1000, got 1001"),
        ({"paths_steps": 2, "paths_seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
    ):
        fill(page, **values)
        button(page, "Record both paths").click()
        expect(page.locator("#paths-status").get_by_role("alert")).to_contain_text(text, timeout=PATIENCE)
        expect(page.locator("#paths-stop")).to_be_disabled()
    fill(page, paths_seed=0)
    record(page, steps=2, count=1)
    choose(page, "paths-projection", "UMAP")
    expect(page.locator("#paths-status")).to_contain_text(
        "umap needs at least 8 points, got 6: take more images or steps", timeout=PATIENCE
    )


def test_endpoint_trajectories_returns_figures_paths_and_map(client):
    asked = {
        "sampler": "euler", "steps": 4, "seed": 3, "count": 2, "space": "activation", "layer": "mid.block.1", "dimensions": 3,
    }  # fmt: skip
    figures, npz, page = client.predict(PAIR, **asked, api_name="/trajectories")
    assert figures["seeds"] == [3, 4] and figures["map"]["dimensions"] == 3 and figures["map"]["space"] == "mid.block.1"
    assert set(figures["spaces"]["xt"]["members"]) == {f"{PAIR}-timestep", f"{PAIR}-none"}
    paths = Trajectories.from_npz(npz)
    assert paths.to_json()["spaces"] == figures["spaces"]
    assert "plotly.js" in Path(page).read_text(encoding="utf-8")[:5000]
    with np.load(npz, allow_pickle=False) as stored:
        first = stored["map"]
    again = client.predict(PAIR, **asked, api_name="/trajectories")[1]
    with np.load(again, allow_pickle=False) as stored:
        assert np.array_equal(stored["map"], first)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"count": 65}, "must be a whole number from 1 to 64, got 65"),
        ({"sampler": "hein"}, "unknown sampler 'hein'"),
        ({"projection": "x"}, "unknown projection 'x'; choose from pca, umap"),
        ({"dimensions": 4}, "dimensions must be a whole number from 2 to 3, got 4"),
        ({"space": "pixels"}, "unknown space 'pixels'; choose from xt, x0_hat, activation"),
        ({"pair": "nobody"}, "unknown pair 'nobody'"),
    ],
)
def test_endpoint_trajectories_refuses_in_one_line(client, bad, text):
    with pytest.raises(AppError) as caught:
        client.predict(**{"pair": PAIR, "sampler": "euler", "steps": 1, "count": 1, **bad}, api_name="/trajectories")
    assert text in str(caught.value) and "\n" not in str(caught.value)
