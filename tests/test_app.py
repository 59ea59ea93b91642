"""The app in a real browser, from the command a person types, and through gradio_client."""

import inspect
import os
import re
import subprocess
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlparse

import gradio as gr
import numpy as np
import pytest
import torch
from conftest import button, fill, set_numbers
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect

from app import clock, models, runs, sampling, theory, ui, works
from app import pairs as shared
from app.__main__ import TABS, build
from app.saliency import asking
from app.trajectories import views
from explore import interventions, trajectories, zoo
from explore.experiments import Compare, PlaneFlow, Posterior
from explore.samplers import Sampling

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
ENDPOINTS = {
    "/sample", "/compare", "/probe", "/clock", "/ruler", "/steering", "/saliency", "/trajectories", "/posterior",
    "/exact", "/plane", "/models",
}  # fmt: skip
SMALL = {"sampler": "ddim", "steps": 5, "seed": 3, "count": 4, "eta": 0.5, "clamp": 1}


def wait_for_summary(page: Page, text: str) -> None:
    expect(page.locator("#summary")).to_contain_text(text, timeout=60_000)
    page.wait_for_timeout(300)  # the last picture is drawn


def pictures(page: Page) -> list[str]:
    """The images' bytes: xt of both members and their difference, then x0_hat likewise."""
    return page.locator("#pictures img").evaluate_all("images => images.map(image => image.src)")


# Notes every state of the two columns, from the click on.
WATCH = """() => {
  window.states = [];
  const began = performance.now();
  new MutationObserver(() => {
    const columns = [0, 1].map(k => document.querySelector(`#pictures .xt.member-${k} img`)?.src);
    if (columns.every(Boolean) && columns.join() !== window.states.at(-1)?.columns.join())
      window.states.push({columns, after: performance.now() - began});
  }).observe(document.querySelector('#pictures'), {subtree: true, childList: true, attributes: true});
}"""


def test_both_columns_stream_then_scrub_then_download(open_page):
    page = open_page("?tab=compare")
    expect(page.locator("#pictures .empty")).to_have_count(6)
    page.wait_for_timeout(1000)  # the first page of a server: what is typed before its scripts have all run is lost
    set_numbers(page, Steps=8, Images=4)
    page.evaluate(WATCH)
    button(page, "Denoise the same noise").click()
    wait_for_summary(page, "Finished")
    states = page.evaluate("window.states")
    assert states[0]["after"] < 10_000  # .2 s on an idle machine
    for column in (0, 1):
        assert len({state["columns"][column] for state in states}) >= 3
    assert states[0]["columns"][0] == states[0]["columns"][1]  # the same noise
    assert len(pictures(page)) == 6
    code = page.locator("#compare-code-part")
    code.get_by_role("button").first.click()
    expect(code).to_contain_text('sampling=Sampling(sampler="ddim", steps=8, eta=')

    # The slider leads both members back to the noise, and forth to the same picture.
    expect(page.locator("#status")).to_contain_text("step 8 of 8")
    last = pictures(page)
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#status")).to_contain_text("step 7 of 8")
    page.keyboard.press("Home")
    expect(page.locator("#status")).to_contain_text("step 0 of 8")
    first = pictures(page)
    assert first[0] == first[1] == states[0]["columns"][0]
    assert all(a != b for a, b in zip(first[:2], last[:2]))
    page.keyboard.press("End")
    expect(page.locator("#status")).to_contain_text("step 8 of 8")
    assert pictures(page) == last
    expect(page.locator("#curve .plotly").first).to_be_visible()

    for kind, magic in (("png", b"\x89PNG"), ("npz", b"PK"), ("gif", b"GIF8")):
        link = page.locator(f"#save-{kind}")
        expect(link).to_be_enabled(timeout=60_000)
        with page.expect_download() as download:
            link.click()
        assert download.value.suggested_filename.endswith(kind)
        assert Path(download.value.path()).read_bytes().startswith(magic)


def test_link_reproduces_the_picture(open_page):
    page = open_page("?" + urlencode(SMALL))  # settings in the address: runs by itself
    wait_for_summary(page, "Finished")
    query = parse_qs(urlparse(page.url).query)
    assert {name: float(query[name][0]) for name in SMALL if name != "sampler"} == {
        name: value for name, value in SMALL.items() if name != "sampler"
    }
    assert query["sampler"] == ["ddim"] and query["pair"]
    again = open_page("?" + urlparse(page.url).query)
    wait_for_summary(again, "Finished")
    assert pictures(again) == pictures(page)


def test_stop_stops(open_page):
    page = open_page("?steps=1000&count=1")
    expect(page.locator("#status")).to_contain_text(re.compile("step [1-9]"))
    button(page, "Stop").click()
    wait_for_summary(page, "Stopped at step")
    stopped = int(re.search(r"Stopped at step (\d+) of 1000", page.locator("#summary").inner_text())[1])
    assert stopped < 1000
    before = pictures(page)
    page.wait_for_timeout(1000)
    assert pictures(page) == before
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    expect(page.locator("#status")).to_contain_text("step 0 of 1000")
    # The models are free again at once.
    set_numbers(page, Steps=2)
    button(page, "Denoise the same noise").click()
    wait_for_summary(page, "Finished")


def test_preset_runs_with_one_click_and_ends_the_run_before(open_page):
    page = open_page("?steps=1000&count=1")
    expect(page.locator("#status")).to_contain_text("of 1000")
    page.locator("#compare-examples").get_by_role("button").last.click()
    expect(page.locator("#status")).to_contain_text(re.compile(r"step \d+ of (?!1000)"))
    wait_for_summary(page, "Finished")
    assert "steps=1000" not in page.url
    assert len(pictures(page)) == 6


def test_a_run_that_waits_for_another_can_be_stopped(open_page):
    first, second = open_page("?steps=1000&count=1"), open_page("?tab=compare")
    expect(first.locator("#status")).to_contain_text("of 1000")
    button(second, "Denoise the same noise").click()
    expect(second.locator("#status")).to_contain_text("Waiting for the models: 1 run is before this one.")
    button(second, "Stop").click()
    expect(second.locator("#status")).to_contain_text("Ready")
    button(first, "Stop").click()
    wait_for_summary(first, "Stopped at step")
    second.wait_for_timeout(1000)
    assert not pictures(second)


def test_a_press_while_the_stopped_run_still_ends_is_not_lost(open_page):
    page = open_page("?tab=compare")
    set_numbers(page, Steps=500, Images=64)
    for _ in range(3):
        button(page, "Denoise the same noise").click()
        expect(page.locator("#status")).to_contain_text("Denoising", timeout=60_000)
        page.locator("#stop").click()
    set_numbers(page, Steps=3, Images=1)
    button(page, "Denoise the same noise").click()
    wait_for_summary(page, "Finished")
    expect(page.locator("#status")).to_contain_text("step 3 of 3")
    expect(page.locator("#stop")).to_be_disabled()


# Tab -> what is set, pressed and seen, for a run of minutes.
LONG = {
    "Compare": ({}, "#denoise", "#status", "step [1-9]"),
    "Clock": ({"clock_steps": 1000, "clock_count": 16}, "#clock-go", "#clock-status", "Step [1-9]"),
    "Steering": ({"steer_steps": 1000, "steer_count": 16}, "#steer-go", "#steer-status", "step [1-9]"),
    "Trajectories": ({"paths_steps": 1000, "paths_count": 64}, "#paths-go", "#paths-status", "step [1-9]"),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_closed_tab_stops_its_work(open_page, client, kind):
    values, pressed, place, words = LONG[kind]
    page = open_page(f"?tab={kind.lower() if kind in TABS else 'clock'}")
    page.wait_for_timeout(1000)
    if kind == "Compare":
        set_numbers(page, Steps=1000, Images=64)
    fill(page, **values)
    page.locator(pressed).click()
    expect(page.locator(place)).to_contain_text(re.compile(words), timeout=60_000)
    model = zoo.pairs()["celeba32-unet-velocity"][0]
    job = client.submit(model, steps=1, count=1, seed=1000 + list(LONG).index(kind), api_name="/sample")
    with pytest.raises(TimeoutError):
        job.result(timeout=3)
    page.close()
    assert job.result(timeout=30)[0]["steps"] == 1


CALLS = {"/compare": {"count": 64}, "/trajectories": {"count": 64}, "/clock": {"count": 16}, "/sample": {"count": 64}}


@pytest.mark.parametrize("name", CALLS)
def test_a_program_that_leaves_stops_its_call(client, server, name):
    asked = {"steps": 1000, "seed": 3, **CALLS[name]}
    pair = "celeba32-unet-velocity"
    asked |= {"/sample": {"model": zoo.pairs()[pair][0]}, "/clock": {"model": pair}}.get(name, {"pair": pair})
    asked |= {"sampler": "euler"} if name != "/clock" else {}
    code = (
        "import os, time\nfrom gradio_client import Client\n"
        f"job = Client({server!r}, verbose=False).submit(**{asked}, api_name={name!r})\n"
        "while job.status().code.name != 'PROCESSING': time.sleep(.1)\n"
        "time.sleep(2)\nassert not job.done()\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    model = zoo.pairs()[pair][0]
    settings = {"steps": 1, "count": 1, "seed": 2000 + list(CALLS).index(name)}
    assert client.submit(model, **settings, api_name="/sample").result(timeout=30)[0]["steps"] == 1


def test_work_that_waits_keeps_its_stop():
    planned = works.Works()
    first = planned.plan("page", "kind")
    assert planned.plan("page", "kind") is first  # the same press
    first.stop.set()
    assert planned.begin("page", "kind") is first and first.stop.is_set()
    second = planned.plan("page", "kind")
    assert second is not first and planned.begin("page", "kind") is second
    third = planned.begin("page", "kind")  # a call without a plan
    assert second.stop.is_set() and not third.stop.is_set()
    waiting, other = planned.plan("page", "kind"), planned.plan("page", "other kind")
    planned.end("page", "kind")
    assert waiting.stop.is_set() and planned.begin("page", "kind") is waiting and not other.stop.is_set()
    assert planned.before(planned.plan("another page", "kind")) == 2  # `waiting` and `other`
    planned.done("page", "other kind")  # by itself: nobody stopped it
    assert other.ended.is_set() and not other.stop.is_set() and planned.get("page", "other kind") is None
    other = planned.begin("page", "other kind")
    planned.end("page")
    planned.done("page", "other kind")
    assert other.stop.is_set() and planned.get("page", "kind") is planned.get("page", "other kind") is None


def test_work_belongs_to_one_press_of_its_button():
    planned = works.Works()
    running = planned.plan("page", "kind", 1)
    assert planned.begin("page", "kind", 1) is running
    waiting = planned.plan("page", "kind", 2)
    assert running.stop.is_set() and not waiting.stop.is_set()
    waiting.stop.set()
    pressed = planned.plan("page", "kind", 3)  # while the first still ends, and the second waits, stopped
    assert pressed is not waiting and not pressed.stop.is_set()
    late = planned.begin("page", "kind", 2)  # the call of the second comes to its turn
    assert late.stop.is_set() and not pressed.begun and not pressed.stop.is_set()
    assert planned.begin("page", "kind", 3) is pressed and not pressed.stop.is_set()
    again = planned.plan("page", "kind", 4)
    assert pressed.stop.is_set() and planned.before(again) == 0


def test_copies_of_models_are_used_again_unless_a_run_failed():
    pair = "celeba32-unet-velocity"
    with shared.copies(pair) as first, shared.copies(pair) as second:
        assert first[0] is not second[0] and first[0].network is not shared.denoisers(pair)[0].network
    with shared.copies(pair) as again:
        assert again is second or again is first
    with pytest.raises(ValueError), shared.copies(pair) as failed:
        raise ValueError
    with shared.copies(pair) as new:
        assert new is not failed


def test_a_stream_without_a_message_leaves_the_page_as_it_is():
    def silent():
        yield from ()

    def speaking():
        yield "a message"

    assert list(ui.streamed(silent)()) == [gr.skip()]  # Gradio would empty the outputs without one
    assert list(ui.streamed(speaking)()) == ["a message"]
    listeners = [each.fn for each in build().fns.values() if inspect.isgeneratorfunction(each.fn)]
    unlike = [listener.__qualname__ for listener in listeners if not hasattr(listener, "__wrapped__")]
    assert len(listeners) >= 10 and not unlike


def test_an_identical_run_is_not_computed_again(open_page, client):
    page = open_page("?" + urlencode({**SMALL, "seed": 77}))
    wait_for_summary(page, "Finished after")
    shown = pictures(page)
    again = open_page("?" + urlencode({**SMALL, "seed": 77}))
    wait_for_summary(again, "Finished (cached)")
    assert pictures(again) == shown
    expect(again.locator("#status")).to_contain_text("step 5 of 5")
    settings = {"pair": next(iter(pairs())), "sampler": "euler", "seed": 78, "count": 1}
    runs = [client.predict(**settings, steps=40, api_name="/compare") for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    for first, second in zip(runs[0][1:], runs[1][1:], strict=True):  # png and npz
        assert Path(first).read_bytes() == Path(second).read_bytes()
    paths = [client.predict(**settings, steps=4, api_name="/trajectories") for _ in range(2)]
    assert paths[0][0] == paths[1][0]
    alone = [client.predict(model=zoo.pairs()[settings["pair"]][0], steps=4, seed=5, api_name="/sample") for _ in range(2)]
    assert alone[0][0] == alone[1][0] and Path(alone[0][1]).read_bytes() == Path(alone[1][1]).read_bytes()


def test_a_held_run_is_taken_only_when_it_is_complete():
    held, settings = runs.Runs(), Compare("celeba32-unet-velocity", Sampling("euler", 3), seed=4, count=2)
    first = held.begin("one", "tab", settings)
    stream = first.stream()
    next(stream), next(stream)
    assert not held.begin("two", "tab", settings).again and held.holding(settings, 5) is None  # under way
    list(stream)
    third = held.begin("three", "tab", settings)
    assert third.again and third.record is first.record and third.folder != first.folder
    assert [frame.index for frame in third.stream()] == [0, 1, 2, 3] and third.ended.is_set()
    assert not held.begin("four", "tab", replace(settings, seed=1)).again
    own = held.begin("one", "tab", settings)  # the session's own last run
    assert own.again and not first.folder.exists()
    assert held.begin("one", "other tab", settings).record is own.record  # tabs share a record
    assert held.holding(replace(settings, seed=5, count=1), 5) is own.record
    assert held.holding(settings, 6) is None and held.holding(replace(settings, sampling=Sampling("heun", 3)), 5) is None
    for session in ("one", "two", "three", "four"):
        held.drop(session)
    assert held.begin("five", "tab", settings).record is own.record  # the next visitor asks for the same
    held.drop("five")
    assert held.holding(settings, 5) is own.record


def test_records_that_nobody_holds_make_room_first(monkeypatch):
    held, settings = runs.Runs(), Compare("celeba32-unet-velocity", Sampling("euler", 2), seed=4, count=2)
    monkeypatch.setattr(runs, "MEMORY", int(2.5 * runs.Record(settings).bytes()))

    def complete(session, seed):
        run = held.begin(session, "tab", replace(settings, seed=seed))
        list(run.stream())
        return run

    complete("one", 10), complete("two", 20)
    held.drop("one")
    assert complete("one", 10).again
    held.drop("two")
    complete("three", 30)  # two records fit: that of seed 20, which nobody holds, goes
    assert not held.holding(replace(settings, seed=20), 20)
    assert held.get("one", "tab") and held.get("three", "tab") and held.holding(replace(settings, seed=10), 10)
    complete("four", 40)  # all are held: the least recently used goes
    assert not held.get("one", "tab") and not held.holding(replace(settings, seed=10), 10)
    assert held.get("three", "tab") and held.get("four", "tab")


def test_one_record_serves_every_tab():
    settings = Compare("celeba32-unet-velocity", Sampling("ddim", 4, eta=1.0), seed=9, count=2)
    record = runs.Record(settings)
    frames = list(record.stream())
    [(_, alone)] = deque(settings.stream(shared.denoisers(settings.pair)), maxlen=1)
    assert torch.equal(record.comparison.samples, alone.samples) and record.comparison.differences == alone.differences
    assert all(torch.equal(one.x0_hat, other.x0_hat) for one, other in zip(frames, alone.frames, strict=True))
    known = trajectories.record(
        shared.denoisers(settings.pair), [9, 10], "ddim", 4, eta=1.0, layers=["mid.block.1"],
        probe_sets=shared.clocks(settings.pair),
    )  # fmt: skip
    for space in ("xt", "x0_hat", "mid.block.1"):
        assert torch.equal(record.paths.points[space], known.points[space])
    assert torch.equal(record.paths.implied_t, known.implied_t)
    states = torch.stack([record.states[index].half() for index in range(5)], dim=2)
    assert torch.equal(states, known.points["xt"])
    sizes = [frame.xt.nbytes + frame.x0_hat.nbytes + record.states[frame.index].nbytes for frame in frames]
    assert record.bytes() >= sum(sizes) + sum(points.nbytes for points in record.paths.points.values())


def test_bad_values_are_explained(open_page):
    page = open_page("?seed=-1&steps=5")
    expect(page.get_by_role("alert")).to_contain_text("seed must be a whole number from 0 to 4294967295, got -1")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("0")
    expect(page.get_by_label("Steps", exact=True)).to_have_value("5")
    assert not pictures(page)  # what was not understood is not run
    set_numbers(page, Images=65)
    button(page, "Denoise the same noise").click()
    expect(page.locator("#status [role=alert]")).to_contain_text("must be a whole number from 1 to 64, got 65")
    expect(page.locator("#stop")).to_be_disabled()
    set_numbers(page, Images=2)
    button(page, "Denoise the same noise").click()
    wait_for_summary(page, "Finished")
    held = pictures(page)
    set_numbers(page, Steps=1001)
    button(page, "Denoise the same noise").click()
    expect(page.locator("#status [role=alert]")).to_contain_text("steps must be a whole number from 1 to 1000, got 1001")
    page.wait_for_timeout(500)
    assert pictures(page) == held  # the run before stays, and can be stepped through
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#status")).to_contain_text("step 4 of 5")


def test_endpoint_returns_files_and_an_image_is_the_same_alone(client):
    settings = {"pair": next(iter(pairs())), "sampler": "ddim", "steps": 4, "eta": 1.0, "clamp": True}
    record, png, npz = client.predict(**settings, seed=7, count=3, api_name="/compare")
    assert record["seeds"] == [7, 8, 9] and len(record["per_step"]) == 5
    assert record["per_step"][0]["xt"] == 0 and record["options"] == {"eta": 1.0, "clamp": True}
    assert Image.open(png).format == "PNG"
    many = np.load(npz)["images"].astype(int)  # (2, 3, H, W, 3)
    _, _, npz = client.predict(**settings, seed=8, count=1, api_name="/compare")
    alone = np.load(npz)["images"].astype(int)
    assert np.abs(many[:, 1:2] - alone).max() <= 1
    record, _, _ = client.predict(**settings, seed=8, count=1, start=0.5, api_name="/compare")
    assert record["per_step"][0]["t"] == 0.5


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"count": 65}, "must be a whole number from 1 to 64, got 65"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, got 0"),
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295, got 4294967296"),
        ({"eta": 1.5, "sampler": "ddim"}, "eta must be a number from 0 to 1, got 1.5"),
        ({"start": 0}, "start must be above 0 and at most 1, got 0"),
        ({"sampler": "hein"}, "unknown sampler 'hein'; did you mean heun"),
        ({"pair": "nobody"}, "unknown pair 'nobody'; choose from"),
    ],
)
def test_endpoint_refuses_in_one_line(client, bad, text):
    settings = {"pair": next(iter(pairs())), "sampler": "heun", "steps": 1, "seed": 0, "count": 1}
    with pytest.raises(AppError) as caught:
        client.predict(**{**settings, **bad}, api_name="/compare")
    assert text in str(caught.value) and "\n" not in str(caught.value)


def run_code(code: str) -> dict:
    """What is known after the code that a tab offers; its last line is the arrays."""
    known: dict = {}
    lines = code.strip().split("\n")
    exec("\n".join(lines[:-1]), known)
    return {**known, "last": eval(lines[-1], known)}


def test_copied_code_gives_the_same_arrays(client, tmp_path, monkeypatch):
    pair = "celeba32-unet-velocity"
    settings = {"pair": pair, "sampler": "ddim", "steps": 3, "seed": 5, "count": 2, "eta": 0.5, "clamp": True}
    chosen = sampling.read_settings({**settings, "start": 0.9})
    _, _, npz = client.predict(**settings, start=0.9, api_name="/compare")
    samples, last = run_code(chosen.code)["last"]
    assert samples.shape == (2, 2, 3, 32, 32)
    # Two processes: another number of threads can round a gray level differently.
    assert np.abs(np.load(npz)["images"].astype(int) - last.permute(0, 1, 3, 4, 2).numpy().astype(int)).max() <= 1

    run = runs.RUNS.begin("a page", "paths", chosen)
    list(run.stream())
    for place in ({"space": "xt"}, {"space": "activation", "layer": "mid.block.1"}):
        _, npz, _ = client.predict(**settings, **place, start=0.9, dimensions=3, api_name="/trajectories")
        drawn = trajectories.project(run.record.paths, place.get("layer", place["space"]), "pca", 3, seed=5)
        found = run_code(views.as_code(run, drawn))["result"].drawn.coordinates
        assert found.shape == (2, 2, 4, 3)
        assert np.allclose(found, np.load(npz)["map"], atol=1e-3) and np.allclose(found, drawn.coordinates, atol=1e-3)

    asked = clock.read_request(pair, "", 2, 2, 4, 0.05)
    reading = client.predict(pair, seed=2, count=2, steps=4, clock_offset=0.05, condition=asked.condition, api_name="/clock")
    for (t, _, layers), member in zip(run_code(asked.code)["last"], reading["members"], strict=True):
        assert np.allclose(t, member["t"], atol=1e-5) and len(layers) == len(member["layers"])
        assert np.allclose(layers[-1]["mean"], member["layers"][-1]["mean"], atol=5e-3)

    steered = interventions.steered_stream(
        shared.denoiser(pairs()[pair][1]), shared.clocks(pair)[1], [2, 3], "mid.block.1", -1.5, seed=2, sampler="heun", steps=4
    )
    expected = {name: step.xt for name, step in steered}
    asked = clock.steer.read_request(pair, 1, "mid.block.1", -1.5, 2, 2, 4)
    result = run_code(asked.code)["result"]
    assert all(torch.equal(result.images[name], xt) for name, xt in expected.items()) and len(expected) == 3
    found, npz, _ = client.predict(
        asked.model, layer=asked.layer, dose=asked.dose, seed=2, count=2, steps=4, api_name="/steering"
    )
    assert found["difference"] == pytest.approx(result.difference, abs=5e-3) and np.load(npz)["control"].shape == (2, 32, 32, 3)

    monkeypatch.chdir(tmp_path)
    Image.effect_noise((40, 50), 90).convert("RGB").save("image.png")
    for target in ("implied-clock", "x0-region", "noise-norm", "loss"):
        values = {"t": 0.4, "target": target, "method": "input-x-gradient", "seed": 3}
        asked = asking.read_settings(pair, **values, image="image.png")
        asked = replace(asked, checks=target == "implied-clock")  # the maps are the same without
        names = {name: getattr(asked, name) for name in ("layer", "view", "box")}
        _, npz, _ = client.predict(pair, handle_file("image.png"), **values, **names, api_name="/saliency")
        found = run_code(asking.as_code(asked, asking.with_noise(asked, shared.bank(pair)[0], "")))["last"]
        for number, one in enumerate(found):
            assert np.allclose(one, np.load(npz)[f"map_{number}"], atol=1e-4), target
    asked = asking.read_settings(pair, 0.5, "noise-norm", "saliency", seed=3, image="bank:celeba", index=6)
    shown = asking.with_noise(asked, shared.bank(pair)[6], "")
    quick = replace(asked, checks=False)
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(run_code(quick.code)["result"].noisy, shown.xt, strict=True))
    record = runs.Record(Compare(pair, Sampling("ddim", 7, eta=1.0), seed=2, count=3))
    list(record.stream())
    what = asking.of_a_run(asked, record)
    known = run_code(asking.as_code(asked, what))
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(known["xt"], what.xt, strict=True))
    assert known["t"] == pytest.approx(what.t) and len(known["maps"]) == 2


def test_copied_code_gives_what_no_sampling_is_needed_for(client, tmp_path, monkeypatch):
    pair = "celeba32-unet-velocity"
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((40, 50), 90).convert("RGB").save("picture.png")
    rows = client.predict(pair, handle_file("picture.png"), logsnr=1.5, seed=4, api_name="/ruler")["rows"]
    found = run_code(clock.ruler.read_request(pair, 1, "picture.png", 1.5, 4).code)["last"]
    # bfloat16 on another number of threads: the last bits differ
    assert [value for _, value, *_ in found] == pytest.approx([row["value"] for row in rows], abs=5e-3)
    bundled = run_code(clock.ruler.read_request(pair, 3, None, 1.5, 4).code)["result"].picture
    assert torch.equal(bundled[0], shared.bank(pair)[2])

    for value in clock.VALUES.values():
        atlases = run_code(clock.atlas_code(pair, "mean", value, "random"))["last"]
        for (names, grid), atlas in zip(atlases, clock.atlases(pair), strict=True):
            known = {(row["name"], row["view"]): row for row in atlas["layers"]}
            assert "input" in names and grid[names.index("mid.block.1")] == known["mid.block.1", "mean"][value]

    rows = client.predict(handle_file("picture.png"), 0.4, 2, dataset="cifar10", schedule="ddpm-cosine", api_name="/posterior")[
        "rows"
    ]
    found = run_code(Posterior("picture.png", t=0.4, seed=2, dataset="cifar10", schedule="ddpm-cosine").code)["result"].rows
    for one, row in zip(found, rows, strict=True):
        assert one.t == pytest.approx(row["t"]) and one.density == pytest.approx(row["density"], rel=1e-4, abs=1e-6)
    for path in ("flow", "ddpm-cosine"):
        *widths, by_dimension, prices = run_code(theory.costs_code("celeba", path))["last"]
        assert widths == [curve["y"] for curve in theory.widths("celeba", path)]
        assert by_dimension == pytest.approx(theory.dimensions()[0][0]["y"])
        assert prices == pytest.approx([price for _, price, _, _ in theory.prices("celeba", path)])

    figures = run_code(models.table_code())["last"]
    for (name, *values), row in zip(figures, client.predict(api_name="/models"), strict=True):
        assert name == row["name"] and values == [row[key] for key in models.SHOWN]

    for sampler, clamp in (("ddim", True), ("heun", False)):
        asked = theory.exact.read_request("v", "ddpm-cosine", sampler, 0.3, clamp, 0.98, 0.2, 0.7, 8, 3, 4)
        samples, distances = run_code(asked.code)["last"]
        assert samples[0].shape == (3, 3, 8, 8)
        values = {name: value for name, value in asked.values.items() if name in ("eta", "clamp")}
        record, npz, _ = client.predict(
            "v",
            hidden_from=0.2,
            hidden_to=0.7,
            size=8,
            count=3,
            sampler=sampler,
            steps=4,
            start=0.98,
            **values,
            api_name="/exact",
        )
        assert record["relative_frechet"] == pytest.approx(distances)
        assert np.allclose(np.load(npz)["hidden"], samples[1].numpy(), atol=1e-4)

    asked = PlaneFlow("0, 1; 1.5, -1", count=3, sampling=Sampling("ddim", 5))
    data, paths = run_code(asked.code)["last"]
    record, npz = client.predict(points=asked.points, count=3, steps=5, api_name="/plane")
    assert data.tolist() == record["data"] == [[0, 1], [1.5, -1]]
    assert np.allclose(np.load(npz)["hidden"], paths[1].numpy(), atol=1e-6)


def test_each_control_is_explained_where_it_stands():
    shown = [
        block for block in build().blocks.values()
        if isinstance(block, gr.Dropdown | gr.Slider | gr.Number | gr.Radio | gr.Checkbox | gr.Textbox)
        and (block.visible is True or block.elem_id) and block.visible != "hidden"
    ]  # fmt: skip
    assert len(shown) > 50
    assert not [block.label for block in shown if not getattr(block, "info", "")]
    files = [block for block in build().blocks.values() if isinstance(block, gr.File) and block.elem_id]
    assert len(files) == 4
    assert all("PNG" in block.label or "config.json" in block.label for block in files)


def test_one_model_samples_as_in_its_pair(client):
    names = pairs()["celeba32-unet-velocity"]
    settings = {"sampler": "heun", "steps": 3, "seed": 5, "count": 2}
    said, png, npz = client.predict(names[1], **settings, api_name="/sample")
    assert said["seeds"] == [5, 6] and said["time_conditioning"] == "none" and Image.open(png).format == "PNG"
    _, _, both = client.predict("celeba32-unet-velocity", **settings, api_name="/compare")
    assert np.array_equal(np.load(npz)["images"], np.load(both)["images"][1])
    said, _, _ = client.predict("cifar10-unet-velocity-constant", steps=1, count=1, api_name="/sample")  # a third member
    assert said["time_conditioning"] == "constant" and said["sampler"] == "heun"


def test_the_readme_calls_every_endpoint(client, tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    [code] = [part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "gradio_client" in part]
    assert set(re.findall(r'api_name="(/\w+)"', code)) == ENDPOINTS
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40), "teal").save("face.png")
    assert 'Client("http://127.0.0.1:7860")' in code
    names: dict[str, object] = {}
    exec(code.replace("http://127.0.0.1:7860", client.src), names)
    assert names["atlas"]["best"]["name"] and names["models"][0]["name"]


def test_each_tab_names_its_endpoints_and_hides_the_rest(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == ENDPOINTS
    assert not [name for name in named if not name[1:].isalpha()]  # nothing that only the page calls


def pairs() -> dict[str, list[str]]:
    return zoo.pairs()


def test_bad_port_is_one_line():
    command = [sys.executable, "-m", "app", "--no-browser"]
    environment = {**os.environ, "PORT": "x"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2
    assert "port must be a whole number from 1 to 65535, got 'x'" in done.stderr.splitlines()[-1]
