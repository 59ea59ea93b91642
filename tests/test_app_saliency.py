"""The tab Saliency in a real browser and through gradio_client, on the shipped models."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import button, choose, drawn, press
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect

from explore import probes, saliency, zoo
from explore.data import load_images, to_float
from explore.seeds import keyed_noise

pytestmark = pytest.mark.slow

PAIR = "celeba32-unet-velocity"
PATIENCE = 300_000  # milliseconds for a whole answer, on a loaded machine


@pytest.fixture
def saliency_page(open_page):
    """Opens the tab by its address, with the fastest method chosen."""

    def saliency_page() -> Page:
        page = open_page("?tab=saliency")
        expect(page.locator("#saliency-go")).to_be_visible()
        choose(page, "saliency-method", "gradient (saliency)")
        return page

    return saliency_page


def show(page: Page) -> None:
    press(page, button(page, "Show the maps"), "#saliency-status", "Finished", PATIENCE)


def heatmaps(page: Page) -> list[dict]:
    drawn(page, "saliency-figure")
    return page.evaluate(
        "document.querySelector('#saliency-figure .js-plotly-plot').data.filter(part => part.type === 'heatmap')"
        ".map(part => ({zmin: part.zmin, zmax: part.zmax, rows: part.z.length ?? part.z.shape}))"
    )


def picture_file(folder: Path) -> Path:
    path = folder / "picture.png"
    Image.fromarray(load_images("bank:celeba", 32, "all")[20].permute(1, 2, 0).numpy()).save(path)
    return path


def test_both_maps_come_on_one_scale_with_their_figures(saliency_page):
    page = saliency_page()
    show(page)
    told, untold = heatmaps(page)
    assert (told["zmin"], told["zmax"]) == (untold["zmin"], untold["zmax"]) and told["zmax"] > 0
    table = page.locator("#saliency-table")
    for words in ("conditioned", "time-agnostic", "rank correlation with a reinitialized network", "0, by definition",
                  "does not apply to this method", "share above a quarter of a cycle"):  # fmt: skip
        expect(table).to_contain_text(words)
    expect(table).not_to_contain_text("…")  # nothing is still to come
    drawn(page, "saliency-curves", "saliency-routes")
    expect(page.locator("#saliency-pictures img")).to_have_count(2)
    bars = page.evaluate("document.querySelector('#saliency-routes .js-plotly-plot').data.map(bar => bar.marker.color)")
    assert bars == ["#0072B2", "#D55E00"]  # the members keep their colors


def test_controls_show_what_they_need(saliency_page):
    page = saliency_page()
    expect(page.locator("#saliency-baseline")).to_be_hidden()
    expect(page.locator("#saliency-layer")).to_be_visible()
    choose(page, "saliency-method", "conductance of a block")
    expect(page.locator("#saliency-at")).to_be_visible()
    expect(page.locator("#saliency-baseline")).to_be_visible()
    choose(page, "saliency-target", "region of the estimate x0_hat")
    expect(page.locator("#saliency-layer")).to_be_hidden()
    expect(page.locator("#saliency-region")).to_be_visible()
    page.get_by_label("my own image", exact=True).check()
    expect(page.locator("#saliency-upload")).to_be_visible()
    expect(page.locator("#saliency-bank")).to_be_hidden()
    button(page, "Show the maps").click()
    expect(page.get_by_role("alert")).to_contain_text("upload an image first")
    expect(page.locator("#saliency-stop")).to_be_disabled()


def test_an_upload_and_a_frame_of_a_run_can_be_asked_about(saliency_page, tmp_path):
    page = saliency_page()
    page.get_by_label("my own image", exact=True).check()
    page.locator("#saliency-upload input[type=file]").set_input_files(picture_file(tmp_path))
    expect(page.locator("#saliency-upload")).to_contain_text("picture")
    choose(page, "saliency-target", "norm of the predicted noise")
    show(page)
    expect(page.locator("#saliency-table")).to_contain_text("network output")
    page.get_by_label("frame of the run in Compare", exact=True).check()
    show(page)
    expect(page.locator("#saliency-status")).to_contain_text(re.compile(r"Step \d+ of \d+ .*from seed 0"))
    expect(page.locator("#saliency-pictures img")).to_have_count(4)  # each member its own frame
    choose(page, "saliency-target", "error against the clean image")
    button(page, "Show the maps").click()
    expect(page.get_by_role("alert")).to_contain_text("a frame of a run has no clean image", timeout=60_000)


def test_a_frame_is_one_of_the_run_in_compare(open_page):
    page = open_page(f"?pair={PAIR}&sampler=ddim&steps=9&seed=31&count=1&eta=0.5&clamp=0")
    page.locator("#denoise").click()
    expect(page.locator("#status")).to_contain_text("Shown", timeout=PATIENCE)
    page.get_by_role("tab", name="Saliency", exact=True).click()
    choose(page, "saliency-method", "gradient (saliency)")
    page.get_by_label("frame of the run in Compare", exact=True).check()
    expect(page.locator("#saliency-seed input")).to_have_value("31")
    show(page)
    expect(page.locator("#saliency-status")).to_contain_text(re.compile(r"Step \d of 9 \(ddim, eta 0.5, clamp 0\).*seed 31"))


def test_stopping_frees_the_models(saliency_page):
    page = saliency_page()
    choose(page, "saliency-method", "occlusion")
    button(page, "Show the maps").click()
    expect(page.locator("#saliency-status")).to_contain_text("Done: map of conditioned", timeout=PATIENCE)
    page.locator("#saliency-stop").click()
    expect(page.locator("#saliency-status")).to_contain_text("Stopped.", timeout=60_000)
    expect(page.locator("#saliency-stop")).to_be_disabled()
    choose(page, "saliency-method", "gradient (saliency)")
    show(page)


def test_what_waits_for_the_models_can_be_stopped_and_asked_again(saliency_page):
    busy, waiting = saliency_page(), saliency_page()
    choose(busy, "saliency-method", "occlusion")
    button(busy, "Show the maps").click()
    expect(busy.locator("#saliency-status")).to_contain_text("The first map", timeout=PATIENCE)
    button(waiting, "Show the maps").click()
    expect(waiting.locator("#saliency-status")).to_contain_text("Waiting for the models")
    waiting.locator("#saliency-stop").click()
    expect(waiting.locator("#saliency-status")).to_contain_text("Stopped.")
    expect(busy.locator("#saliency-status")).to_contain_text("Finished", timeout=PATIENCE)
    assert waiting.locator("#saliency-figure").is_hidden()  # its turn came, and it was not taken
    show(waiting)


def test_the_endpoint_gives_the_maps_of_the_library(client, tmp_path):
    path = picture_file(tmp_path)
    asked = {"t": 0.4, "method": "input-x-gradient", "layer": "mid.block.1", "view": "mean_std", "seed": 5}
    found, npz, png = client.predict(PAIR, handle_file(path), **asked, api_name="/saliency")
    told, untold = found["members"]
    assert [one["model"] for one in found["members"]] == zoo.pairs()[PAIR] and told["layer"] == "mid.block.1"
    assert Image.open(png).format == "PNG"
    name = f"{PAIR}-none"
    x0 = to_float(torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1))[None]
    denoiser, clock = zoo.load(name, "float32"), probes.load(name)
    xt = 0.6 * x0 + 0.4 * keyed_noise([5], denoiser.shape)
    alone = saliency.attribute(
        denoiser, xt, 0.4, method="input-x-gradient", probe_set=clock, layer="mid.block.1", view="mean_std", checks=()
    )
    assert np.allclose(np.load(npz)["map_1"], alone.map.numpy(), atol=1e-5)
    assert untold["routes"]["given_t"] == [0] and told["routes"]["given_t"] != [0]


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"method": "lrp"}, "lrp is not available: captum has no propagation rule"),
        ({"method": "nothing"}, "unknown method 'nothing'; choose from saliency"),
        ({"target": "clock"}, "unknown target 'clock'"),
        ({"t": 0}, "t must be above 0 and at most 1, got 0"),
        ({"layer": "nowhere"}, "unknown layer 'nowhere'"),
        ({"model": "nobody"}, "unknown model 'nobody'; choose from"),
    ],
)
def test_the_endpoint_refuses_in_one_line(client, tmp_path, bad, text):
    with pytest.raises(AppError) as caught:
        asked = {"model": PAIR, "image": handle_file(picture_file(tmp_path)), "method": "saliency", **bad}
        client.predict(**asked, api_name="/saliency")
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_pair_without_probes_offers_the_other_targets(monkeypatch):
    from app import pairs
    from app.saliency import page as tab

    monkeypatch.setattr(pairs, "has_clocks", lambda pair: False)
    assert "implied-clock" not in [name for _, name in tab._target_menu(PAIR)]
    assert len(tab._target_menu(PAIR)) == len(tab.TARGETS) - 1
