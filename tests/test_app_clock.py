"""The tab Clock in a real browser and through gradio_client, on a small atlas made here."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import button, choose, drawn, fill, serving
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect

from explore import bayes, probes, zoo
from explore.data import load_images

pytestmark = pytest.mark.slow

PAIR, OTHER = "celeba32-unet-velocity", "celeba32-unet-eps"  # with an atlas, and without
LAYERS = ["stem", "down.1.block.0", "mid.block.1", "up.2.block.0", "norm"]
LEVELS = (-6.0, -3.0, 0.0, 3.0, 6.0)
READERS = ["conditioned", "time-agnostic", *probes.BASELINES, "Gaussian posterior", "posterior given x0"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """A folder of two pairs, of which one has an atlas: few pictures, layers and levels."""
    root = tmp_path_factory.mktemp("checkpoints")
    entries = [entry for entry in json.loads(zoo.folder("index.json").read_text())["models"] if entry["pair"] in (PAIR, OTHER)]
    (root / "index.json").write_text(json.dumps({"models": entries}))
    for entry in entries:
        (root / entry["name"]).mkdir()
        for file in ("config.json", "weights.safetensors"):
            shutil.copy(zoo.folder(entry["name"]) / file, root / entry["name"])
    for folder in ("bank", bayes.GAUSSIANS):
        shutil.copytree(zoo.folder(folder), root / folder)
    images = load_images("bank:celeba", 32, "all")[:10]
    for entry in entries:
        if entry["pair"] == PAIR:
            denoiser = zoo.Zoo(root).load(entry["name"])
            gaussian = bayes.fitted_gaussian("celeba", 32)
            record, clock = probes.atlas(
                denoiser, images, layers=LAYERS, levels=LEVELS, gaussian=gaussian, told=("random", "fixed"), controls=1
            )
            (root / entry["name"] / "atlas.json").write_text(json.dumps({**record.to_json(), "sha256": entry["sha256"]}))
            clock.save(root / entry["name"] / "probes.safetensors")
    return root


@pytest.fixture(scope="module")
def server(checkpoints):
    """In the place of the one in conftest: it serves the small atlas."""
    with serving(CLOCKLESS_CHECKPOINTS=str(checkpoints)) as (address, _):
        yield address


@pytest.fixture
def clock_page(open_page):
    """Opens the tab by its address."""

    def clock_page(**size: int) -> Page:
        page = open_page("?tab=clock", **size)
        expect(page.locator("#clock-facts table")).to_be_visible()
        expect(page.locator("#clock-curves .js-plotly-plot")).to_be_visible()
        return page

    return clock_page


def pictures(page: Page, part: str) -> list[str]:
    """The bytes of a section's pictures."""
    return page.locator(f"#{part} img").evaluate_all("images => images.map(image => image.src)")


def lines(page: Page, part: str) -> dict[str, int]:
    """Named curves of a figure and how many points each has."""
    drawn(page, part)
    found = page.evaluate(f"document.querySelector('#{part} .js-plotly-plot').data.map(line => [line.name, line.x.length])")
    return {name: points for name, points in found if name}


def run_clock(page: Page, steps: int = 6, count: int = 2) -> None:
    fill(page, clock_steps=steps, clock_count=count)
    button(page, "Run the clock").click()
    expect(page.locator("#clock-summary")).to_contain_text("Finished", timeout=60_000)


def test_the_atlas_shows_both_members_and_says_what_is_missing(clock_page):
    page = clock_page()
    drawn(page, "clock-maps")
    maps = page.evaluate("document.querySelector('#clock-maps .js-plotly-plot').data")
    assert [trace["type"] for trace in maps] == ["heatmap", "heatmap"]
    assert maps[0]["zmin"] == maps[1]["zmin"] and maps[0]["zmax"] == maps[1]["zmax"]
    facts = page.locator("#clock-facts")
    expect(facts).to_contain_text("conditioned")
    for words in ("R² in a random network", "selectivity", "error / yardstick", "gain over random, near the data"):
        expect(facts).to_contain_text(words)
    fill(page, atlas_level=-6)
    expect(facts).to_contain_text("error at log SNR -6")
    choose(page, "atlas-layer", "mid.block.1")
    expect(facts).to_contain_text("mid.block.1")
    expect(facts).to_contain_text("conditioned model: random t")
    choose(page, "atlas-told", "fixed t = 0.05")
    expect(facts).to_contain_text("mid.block.1, on 10 held-out images; conditioned model: fixed t = 0.05")
    choose(page, "atlas-layer", "(variance: no network)")
    expect(facts).to_contain_text("variance, on 10 held-out images")
    choose(page, "atlas-value", "bias")
    choose(page, "atlas-view", "mean")
    bar = "document.querySelector('#clock-maps .js-plotly-plot').data[1].colorbar.title.text"
    page.wait_for_function(f"{bar} === 'bias'")
    assert set(lines(page, "clock-reading")) == {"true", "conditioned", "time-agnostic"}
    # The pair without an atlas is not available, and the page says what makes one.
    page.locator("#clock-pair input").click()
    expect(page.get_by_role("option")).to_have_text([re.compile(PAIR)])
    page.keyboard.press("Escape")
    page.get_by_text("Pairs not offered here: 1").click()
    expect(page.get_by_text(f"{OTHER}: no atlas of")).to_be_visible()
    expect(page.get_by_text("python -m explore probe MODEL")).to_be_visible()


def test_the_clock_grows_while_both_members_sample(clock_page):
    page = clock_page()
    page.evaluate("""() => {
      window.seen = [];
      new MutationObserver(() => {
        const lines = document.querySelector('#clock-curves .js-plotly-plot')?.data;
        const line = lines?.find(one => one.name === 'time-agnostic');
        const images = [...document.querySelectorAll('#clock-pictures img')].map(image => image.src).join();
        const now = [line?.x.length ?? 0, images];
        if (now.join() !== window.seen.at(-1)?.join()) window.seen.push(now);
      }).observe(document.querySelector('#clock-stop').closest('.tab-section'), {subtree: true, childList: true});
    }""")
    run_clock(page, steps=30, count=4)
    page.wait_for_function("window.seen.at(-1)[0] === 59")
    page.wait_for_timeout(500)
    seen = page.evaluate("window.seen")
    growing = [points for points, _ in seen]
    assert growing == sorted(growing) and len({0, *growing}) >= 4 and growing[-1] == 2 * 30 - 1  # Heun's evaluations
    assert len({images for _, images in seen}) >= 4
    assert lines(page, "clock-curves") == {
        "true": 150, "conditioned, fitted with random t": 59, "conditioned, fitted with true t": 59, "time-agnostic": 59
    }  # fmt: skip
    expect(page.locator("#clock-pictures img[alt]")).to_have_count(2)
    expect(page.locator("#clock-stop")).to_be_disabled()


def test_a_lie_moves_the_member_that_listens_and_no_other(clock_page):
    page = clock_page()
    run_clock(page)
    before = pictures(page, "clock-pictures")
    fill(page, clock_lie=0.3)  # runs by itself
    summary = page.locator("#clock-summary")
    expect(summary).to_contain_text("Nothing changes for the time-agnostic model", timeout=60_000)
    expect(summary).to_contain_text(re.compile(r"conditioned 0\.[0-9]*[1-9][0-9]*, time-agnostic 0\.0000"))
    after = pictures(page, "clock-pictures")
    assert after[0] != before[0] and after[1] == before[1]
    named = "document.querySelector('#clock-curves .js-plotly-plot').data.map(line => line.name)"
    page.wait_for_function(f"{named}.includes('given')")
    # The slider also works from the keyboard.
    page.locator("#clock-lie input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#clock-lie input[type=number]")).to_have_value("0.25")
    page.wait_for_function("before => document.querySelector('#clock-pictures img').src !== before", arg=after[0])
    expect(summary).to_contain_text("Nothing changes for the time-agnostic model", timeout=60_000)
    assert pictures(page, "clock-pictures")[1] == before[1]
    page.locator("#clock-lie").get_by_role("button").click()  # back to the truth
    expect(page.locator("#clock-lie input[type=number]")).to_have_value("0")
    page.wait_for_function("before => document.querySelector('#clock-pictures img').src === before", arg=before[0])


def test_stopping_frees_the_models_at_once(clock_page):
    page = clock_page()
    fill(page, clock_steps=1000, clock_count=1, steer_steps=1000, steer_count=1)
    for go, section in (("Run the clock", "clock"), ("Steer", "steer")):
        button(page, go).click()
        expect(page.locator(f"#{section}-status")).to_contain_text(re.compile("tep [1-9]"))
        page.locator(f"#{section}-stop").click()
        expect(page.locator(f"#{section}-status")).to_contain_text("Stopped.")
        expect(page.locator(f"#{section}-stop")).to_be_disabled()
        still = pictures(page, f"{section}-pictures")
        page.wait_for_timeout(1000)
        assert pictures(page, f"{section}-pictures") == still
    run_clock(page, steps=2, count=1)


def test_pressing_again_begins_anew(clock_page):
    page = clock_page()
    fill(page, clock_steps=1000, clock_count=1)
    button(page, "Run the clock").click()
    expect(page.locator("#clock-status")).to_contain_text(re.compile("Step [1-9]"))
    run_clock(page, steps=3, count=1)
    expect(page.locator("#clock-status")).to_contain_text("Step 3 of 3")


def test_steering_stands_beside_a_random_direction(clock_page):
    page = clock_page()
    fill(page, steer_steps=4, steer_count=2, steer_dose=4)
    page.get_by_role("radio", name="conditioned", exact=True).check()
    choose(page, "steer-layer", "up.2.block.0")
    button(page, "Steer").click()
    summary = page.locator("#steer-summary")
    expect(summary).to_contain_text("up.2.block.0 steered by +4", timeout=60_000)
    expect(summary).to_contain_text(re.compile(r"steered 0\.\d+, random direction 0\.\d+"))
    assert len(set(pictures(page, "steer-pictures"))) == 3
    fill(page, steer_dose=0)
    button(page, "Steer").click()
    expect(summary).to_contain_text("steered 0.0000, random direction 0.0000", timeout=60_000)
    assert len(set(pictures(page, "steer-pictures"))) == 1


def test_the_ruler_names_every_reader(clock_page):
    page = clock_page()
    button(page, "Measure").click()
    table = page.locator("#ruler-table")
    expect(table.locator("tbody th")).to_have_text(READERS, timeout=60_000)
    expect(page.locator("#ruler-pictures")).to_contain_text("log SNR 2.00")
    expect(page.locator("#ruler-figure")).to_contain_text("true: 2.00")
    assert all(
        re.fullmatch(r"-?\d+\.\d\d \[-?\d+\.\d\d, -?\d+\.\d\d\]", text)
        for text in table.locator("td:nth-of-type(1)").all_inner_texts()[1:]
    )
    first = pictures(page, "ruler-pictures")
    fill(page, ruler_noise=-3)  # measures by itself
    expect(page.locator("#ruler-figure")).to_contain_text("true: -3.00", timeout=60_000)
    assert pictures(page, "ruler-pictures")[0] == first[0] and pictures(page, "ruler-pictures")[1] != first[1]


def test_a_hidden_amount_stays_hidden_until_it_is_revealed(clock_page):
    page = clock_page()
    expect(button(page, "Reveal")).to_have_count(0)
    button(page, "Measure").click()
    expect(page.locator("#ruler-table tbody th")).to_have_count(len(READERS), timeout=60_000)
    button(page, "Hide the noise level and guess").click()
    expect(button(page, "Reveal")).to_be_visible()
    expect(page.locator("#ruler-pictures")).to_contain_text("level hidden")
    expect(page.locator("#ruler-table table")).to_have_count(0)
    expect(page.locator("#ruler-figure")).to_be_hidden()
    fill(page, ruler_guess=1.5)
    button(page, "Reveal").click()
    expect(page.locator("#ruler-table tbody th")).to_have_text([*READERS, "your guess"], timeout=60_000)
    expect(page.locator("#ruler-table")).to_contain_text("1.50 [1.50, 1.50]")
    expect(page.locator("#ruler-figure")).to_contain_text(re.compile(r"true: -?\d\.\d\d"))
    expect(button(page, "Reveal")).to_be_hidden()


def test_any_picture_can_be_measured_and_others_are_refused(clock_page, tmp_path):
    page = clock_page()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)).save(tmp_path / "grey.png")
    page.locator("#ruler-upload input[type=file]").set_input_files(tmp_path / "grey.png")
    expect(page.locator("#ruler-upload")).to_contain_text("grey")
    button(page, "Measure").click()
    expect(page.locator("#ruler-status")).to_contain_text("The picture is grayscale", timeout=60_000)
    page.locator("#ruler-upload").get_by_role("button", name=re.compile("Remove|Clear")).first.click()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    page.locator("#ruler-upload input[type=file]").set_input_files(tmp_path / "broken.png")
    expect(page.locator("#ruler-upload")).to_contain_text("broken")
    button(page, "Measure").click()
    expect(page.get_by_text("cannot read broken.png as an image; PNG, JPEG")).to_be_visible()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
def test_pictures_of_every_kind_are_read(mode, tmp_path):
    from app.pairs import read_picture

    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(ramp).convert("RGB").convert(mode)
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    image.save(path)
    picture, words = read_picture(path, 32)
    assert picture.shape == (3, 32, 32) and picture.dtype.is_floating_point is False
    assert picture[:, :, -4:].float().mean() > picture[:, :, :4].float().mean() + 100
    assert ("grayscale" in words) == (mode in ("L", "LA", "1", "I;16"))
    assert ("Transparent parts are white" in words) == (mode in ("RGBA", "LA"))


def test_too_large_or_strange_files_are_refused_before_they_are_decoded(tmp_path):
    from app.pairs import read_picture

    Image.new("1", (8000, 6000)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match="8000 x 6000 pixels; at most 40 million are read"):
        read_picture(tmp_path / "large.png", 32)
    Image.new("RGB", (10, 10)).save(tmp_path / "picture.eps")  # would be handed to another program
    with pytest.raises(ValueError, match="cannot read this file as an image"):
        read_picture(tmp_path / "picture.eps", 32)
    Image.effect_noise((90, 90), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with pytest.raises(ValueError, match="cannot read this file as an image"):
        read_picture(tmp_path / "cut.png", 32)
    _, words = read_picture_of((20, 30), tmp_path)
    assert "enlarged from 20 x 30 pixels" in words


def read_picture_of(size: tuple[int, int], folder: Path):
    from app.pairs import read_picture

    Image.new("RGB", size, "red").save(folder / "small.png")
    return read_picture(folder / "small.png", 32)


def test_bad_values_are_explained(clock_page):
    page = clock_page()
    fill(page, clock_count=17)
    button(page, "Run the clock").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("count must be a whole number from 1 to 16, got 17")
    expect(page.locator("#clock-stop")).to_be_disabled()
    fill(page, steer_steps=0)
    button(page, "Steer").click()
    expect(page.locator("#steer-status")).to_contain_text("steps must be a whole number from 1 to 1000, got 0")
    run_clock(page, steps=2, count=1)
    expect(page.locator("#clock-status").get_by_role("alert")).to_have_count(0)


def test_endpoint_clock_follows_the_run(client):
    asked = {"seed": 3, "count": 2, "steps": 4, "condition": ["independent", "true"]}
    found = client.predict(PAIR, **asked, clock_offset=0.2, api_name="/clock")
    assert found["request"]["sampler"] == "heun" and "--clock-offset 0.2" in found["command"]
    told, untold = found["members"]
    assert len(told["t"]) == 7 and told["true"][0] is None and told["offset"] == 0.2  # log SNR is infinite at t = 1
    assert [row["given"] for row in told["layers"]] == ["independent", "true"] and len(untold["layers"]) == 1
    assert all(len(row["mean"]) == len(row["std"]) == 7 for one in (told, untold) for row in one["layers"])
    truthful, untouched = client.predict(PAIR, **asked, api_name="/clock")["members"]
    assert truthful["layers"] != told["layers"] and untouched["layers"] == untold["layers"]  # a lie does not reach it


def test_endpoint_steering_gives_the_runs(client):
    asked = {"model": f"{PAIR}-none", "layer": "mid.block.1", "steps": 2, "count": 1}
    found, npz, png = client.predict(**asked, dose=0, api_name="/steering")
    assert found["difference"] == {"steered": 0, "control": 0} and Image.open(png).format == "PNG"
    with np.load(npz) as runs:
        assert sorted(runs) == ["control", "plain", "steered"] and runs["plain"].shape == (1, 32, 32, 3)
    for bad, text in (
        ({"layer": "nowhere"}, "unknown layer 'nowhere'"),
        ({"model": PAIR}, "unknown model"),
        ({"count": 17}, "1 to 16"),
    ):
        with pytest.raises(AppError, match=text):
            client.predict(**{**asked, **bad}, api_name="/steering")


def test_endpoint_probe_returns_the_regime_asked_for(client):
    name = f"{PAIR}-timestep"
    first, fixed = (client.predict(name, "stem", "mean", told, api_name="/probe") for told in ("", "fixed:0.05"))
    assert (first["told"], fixed["told"]) == ("random", "fixed:0.05") and "0.05 for every image" in fixed["given"]
    assert len(first["layers"]) == len(fixed["layers"]) == 1 and fixed["sha256"] == first["sha256"]
    with pytest.raises(AppError, match="unknown regime 'fixd'; choose from random, fixed"):
        client.predict(name, told="fixd", api_name="/probe")


def test_endpoint_ruler_returns_rows(client, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(load_images("bank:celeba", 32, "all")[20].permute(1, 2, 0).numpy()).save(path)
    asked = {"model": PAIR, "picture": handle_file(path), "logsnr": 3.0, "seed": 1}
    found = client.predict(**asked, api_name="/ruler")
    assert [row["reader"] for row in found["rows"]] == READERS
    rows = {row["reader"]: row for row in found["rows"]}
    assert rows["posterior given x0"]["value"] == pytest.approx(3, abs=0.15)
    assert all(row["low"] <= row["value"] <= row["high"] and row["what"] for row in rows.values())
    assert found == client.predict(**asked, api_name="/ruler")


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"count": 17}, "must be a whole number from 1 to 16, got 17"),
        ({"steps": 1001}, "steps must be a whole number from 1 to 1000, got 1001"),
        ({"clock_offset": 1.4}, "clock_offset must be a number from -1 to 1, got 1.4"),
        ({"model": OTHER}, f"{OTHER}-timestep has no atlas; `python -m explore probe"),
        ({"model": "nobody"}, "unknown model 'nobody'; choose from"),
    ],
)
def test_endpoint_clock_refuses_in_one_line(client, bad, text):
    with pytest.raises(AppError) as caught:
        client.predict(**{"model": PAIR, "steps": 1, "count": 1, **bad}, api_name="/clock")
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_endpoint_ruler_refuses_in_one_line(client, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    for arguments, text in (
        ({"picture": handle_file(tmp_path / "notes.png"), "logsnr": 0}, "cannot read notes.png as an image"),
        ({"picture": handle_file(tmp_path / "notes.png"), "logsnr": 9}, "logsnr must be a number from -8 to 8, got 9"),
    ):
        with pytest.raises(AppError) as caught:
            client.predict(PAIR, **arguments, api_name="/ruler")
        assert text in str(caught.value) and "\n" not in str(caught.value)


def test_the_menu_of_told_t_has_the_regimes_that_a_stored_atlas_has(monkeypatch):
    from app.clock import atlas, shared

    layers = [{"name": "stem", "view": "mean"}]
    told = {"given": "independent of the true t", "layers": layers}
    fixed = {"told": "fixed:0.05", "given": "0.05", "layers": [{"name": "norm", "view": "mean"}]}
    untold = {"given": probes.NO_T_INPUT, "layers": layers}
    stored = {"old": [told, untold], "new": [{**told, "told": "random", "others": [fixed]}, untold], "none": [untold, untold]}
    for module in (shared, atlas):
        monkeypatch.setattr(module, "atlases", stored.__getitem__)
    assert atlas.told_menu("old") == [("random t", "random")]  # stored before there were other regimes
    assert atlas.told_menu("new") == [("random t", "random"), ("fixed t = 0.05", "fixed:0.05")]
    assert atlas.told_menu("none") == [("no t input", "any")]
    assert [one["layers"][0]["name"] for one in shared.atlases_in("new", "fixed:0.05")] == ["norm", "stem"]
    assert [one["layers"][0]["name"] for one in shared.atlases_in("none", "any")] == ["stem", "stem"]
    assert atlas.view_menu("old") == [("mean", "mean")]


def test_without_an_atlas_the_tab_says_what_makes_one(monkeypatch):
    import gradio as gr

    from app import clock

    monkeypatch.setattr(clock, "offered", lambda: ([], {PAIR: f"no atlas of {PAIR}-none"}))
    with gr.Blocks() as page:
        clock.build(page)
    shown = [part["props"].get("value") or "" for part in page.config["components"] if part["type"] == "html"]
    assert len(shown) == 1
    assert "No pair has an atlas yet" in shown[0] and f"no atlas of {PAIR}-none" in shown[0]
    assert "python -m explore probe MODEL --data SOURCE --out checkpoints/MODEL" in shown[0]
