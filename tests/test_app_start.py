"""The tabs Start and Quiz: the films show what the models do, and the quiz keeps its answer and an honest score."""

import json
import re
from collections import deque

import numpy as np
import pytest
import torch
from conftest import button, press
from PIL import Image
from playwright.sync_api import expect

from app import clock, pairs, quiz, sampling, start, theory
from app import models as tab_models
from app.__main__ import TABS
from explore import cards, probes, trajectories, zoo
from explore.experiments import Posterior
from explore.seeds import seed_range


def test_the_films_were_made_with_the_models_that_are_shipped():
    assert len(start.recorded()) == len(start.CASES), "run `python -m app.start`: the models have changed"
    for case, plan in zip(start.recorded(), start.CASES):
        assert {"pair": case["pair"], **plan["settings"]}.items() <= {**case, **plan["settings"]}.items()
        assert case["t"][-1] == 0 and len(case["t"]) == start.FRAMES
    with Image.open(start.FILM) as film:
        assert film.size == (64 * start.FRAMES, 64 * 2 * len(start.CASES))
    assert start.FILM.stat().st_size < 500_000


def test_the_last_moment_is_what_the_models_make_now():
    case = start.CASES[-1]
    denoisers = [zoo.load(name, "float32") for name in zoo.members_of(case["pair"])]
    *_, (frame, _) = trajectories.compare(denoisers, start.SEEDS, **case["settings"])
    with Image.open(start.FILM) as film:
        row = 64 * 2 * (len(start.CASES) - 1)
        shown = np.asarray(film.convert("RGB").crop((64 * (start.FRAMES - 1), row, 64 * start.FRAMES, row + 64))).astype(float)
    tiles = frame.xt[0].permute(0, 2, 3, 1).numpy().astype(float)
    made = np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])
    assert np.abs(shown - made).mean() < 6  # the film is compressed


def test_the_words_under_a_film_follow_from_its_figures():
    of = {"difference": 0.05, "standard_deviation": [0.5, 0.5]}
    assert start.verdict(of).startswith("Hardly a difference")
    assert start.verdict(of | {"difference": 0.5}).startswith("A difference")
    assert "leaves the range" in start.verdict({"difference": 0.9, "standard_deviation": [0.6, 1.7]})
    assert "strays too" in start.verdict({"difference": 0.9, "standard_deviation": [0.9, 1.7]})


def test_other_models_have_no_film(monkeypatch, tmp_path):
    about = json.loads(start.RECORD.read_text())
    about["cases"][0]["sha256"][0] = "0" * 64
    (tmp_path / "start.json").write_text(json.dumps(about))
    monkeypatch.setattr(start, "RECORD", tmp_path / "start.json")
    start.recorded.cache_clear()
    assert "No films" in start.films()
    start.recorded.cache_clear()


def test_the_lesson_names_every_other_tab():
    assert set(start.LESSON) == set(TABS) - {"Start"}


@pytest.mark.parametrize(
    "right, rounds, words",
    [
        (4, 4, "not significantly different from guessing yet"),
        (7, 7, "not significantly different from guessing yet"),
        (8, 8, "better than guessing"),
        (0, 8, "worse than guessing"),
        (5, 8, "not significantly different from guessing yet"),
        (18, 20, "better than guessing"),
        (1, 20, "worse than guessing"),
    ],
)
def test_the_score_says_what_it_is_worth(right, rounds, words):
    assert quiz.Score(right, rounds).verdict == words
    assert f"<b>{right}</b> of <b>{rounds}</b> right" in (said := quiz.score_words({"one": quiz.Score(right, rounds)}))
    assert words in said and "<table" not in said


def test_the_score_prints_an_interval_and_a_p_value_that_are_always_valid():
    said = quiz.score_words({"one": quiz.Score(4, 4)})
    assert "100% (32% to 100%)" in said and "p-value: 0.31." in said  # (.05 / 5)^(1/4), 5 / 16
    assert "No answer yet" in quiz.score_words({})


def test_answers_are_counted_pair_by_pair():
    scores: dict[str, quiz.Score] = {}
    for pair, right in [("one", True)] * 4 + [("two", True)] * 4 + [("three", False), ("one", False)]:
        scores = quiz.counted(before := scores, pair, right)
        assert scores is not before and list(scores)[-1] == pair
    assert scores == {"two": quiz.Score(4, 4), "three": quiz.Score(0, 1), "one": quiz.Score(4, 5)}
    main, table = quiz.score_words(scores).split("<table")
    assert "one: <b>4</b> of <b>5</b>" in main and "two" not in main
    assert [f'"row">{pair}<' in table for pair in ("one", "two", "three")] == [False, True, True]
    assert "4 of 4" in table and "better" not in table.split("<tbody>")[1]  # 8 of 8 would be better, if they were pooled


def test_both_runs_start_from_the_same_noise_and_the_order_is_the_draws():
    pair = quiz.offered()[0]
    first, second = (list(quiz.stream(pair, 5, blind)) for blind in (0, 1))
    assert (first[0][1][0] == first[0][1][1]).all()
    assert (first[-1][1][0] == second[-1][1][1]).all() and (first[-1][1][1] == second[-1][1][0]).all()
    assert first[-1][0] == 1
    with pytest.raises(ValueError, match="unknown pair"):
        next(quiz.stream("nobody", 0, 0))


# In a browser --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_page_opens_with_the_films_and_leads_on(open_page, width):
    page = open_page(width=width)
    films = page.locator("#start-films .film")
    expect(films).to_have_count(2 * len(start.CASES))
    for index in range(films.count()):
        assert films.nth(index).evaluate("film => getComputedStyle(film).backgroundImage").startswith('url("data:image/webp')
    assert films.first.evaluate("film => getComputedStyle(film).animationName") == "clockless-film"
    page.locator("#start-films .pause input").check()
    assert films.first.evaluate("film => getComputedStyle(film).animationName") == "none"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#start-lesson button", has_text=re.compile("^Theory$")).click()
    expect(page.locator("#theory-exact")).to_be_visible()


# First part of a button's id -> where what it shows is said, and how.
SHOWN = {
    "compare": ("#summary", "Finished"),
    "clock": ("#clock-summary", "Finished"),
    "steer": ("#steer-summary", "Finished"),
    "ruler": ("#ruler-status", "Measured in"),
    "saliency": ("#saliency-status", "Finished"),
    "paths": ("#paths-status", "Shown"),
    "posterior": ("#posterior-status", "Computed in"),
    "exact": ("#exact-status", "Done"),
    "plane": ("#plane-status", "Done"),
    "quiz": ("#quiz-status", "Which one is"),
}


def shows(page, pressed, shown: str) -> None:
    """Presses, and waits for the result of the button with the id ``shown``."""
    press(page, pressed, *SHOWN[shown.split("-")[0]])


@pytest.mark.slow
def test_the_tour_goes_through_the_lesson_and_shows_what_it_says(open_page):
    way = start.stops(TABS)
    tabs = list(dict.fromkeys(tab for tab, _ in way))
    assert tabs == [name for name in TABS if name != "Start"]  # each has a stop, in the order of the lesson
    page = open_page()
    expect(page.locator("#tour")).to_have_count(0)
    page.locator("#start-tour").click()
    for number, (tab, stop) in enumerate(way, start=1):
        text = page.locator("#tour .stop:visible")
        expect(text).to_contain_text(stop.question)
        expect(page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
        expect(page.locator(f"#{stop.place}")).to_be_in_viewport()
        expect(page.locator("#tour")).to_be_in_viewport(ratio=0.99)
        if stop.press:
            shows(page, page.locator(f"#tour-show-{number}"), stop.press)
        else:
            expect(page.locator(f"#tour-show-{number}")).to_be_hidden()
        if number < len(way):
            page.locator(f"#tour-next-{number}").click()
    expect(page.locator(f"#tour-next-{len(way)}")).to_be_disabled()
    page.locator("#tour-stops button[data-tab-id='2']").click()  # a stop behind
    expect(page.locator("#tour .stop:visible")).to_contain_text(way[1][1].question)
    expect(page.get_by_role("tab", name=way[1][0], exact=True)).to_have_attribute("aria-selected", "true")
    page.locator("#tour-end-2").click()
    expect(page.locator("#tour")).to_have_count(0)


@pytest.mark.slow
def test_an_address_opens_a_stop_of_the_tour_also_on_a_phone(open_page):
    way = start.stops(TABS)
    number = next(k for k, (_, stop) in enumerate(way, start=1) if stop.press.startswith("exact"))
    page = open_page(f"?tour={number}", width=390, height=844)
    expect(page.locator("#tour .stop:visible")).to_contain_text(way[number - 1][1].question)
    shows(page, page.locator(f"#tour-show-{number}"), "exact")
    expect(page.locator("#theory-exact")).to_be_in_viewport()
    for name in ("show", "back", "next", "end"):  # at hand although the text is out of sight
        expect(page.locator(f"#tour-{name}-{number}")).to_be_in_viewport(ratio=0.99)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for wrong in ("0", "99", "x", "-1"):
        expect(open_page(f"?tour={wrong}").locator("#tour")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["Compare", "Clock", "Saliency", "Trajectories", "Theory"])
def test_each_example_runs_with_one_click(open_page, tab):
    """Those that the tour does not show."""
    shown = {stop.press for _, stop in start.stops(TABS)}
    page = open_page(f"?tab={tab.lower()}")
    buttons = page.locator(".examples button:visible")
    expect(buttons.first).to_be_visible()
    page.wait_for_timeout(1000)  # the sections below are there too
    names = buttons.evaluate_all("buttons => buttons.map(button => button.id)")
    assert len(names) >= 3
    for name in names:
        if name in shown:
            continue
        shows(page, page.locator(f"#{name}"), name)
        expect(page.get_by_role("alert")).to_have_count(0)


def test_what_the_tour_says_is_so():
    """The claims of its stops, each against the models that are shipped."""
    runs = []
    for settings in sampling.presets().values():
        models = [zoo.load(name) for name in zoo.members_of(settings.pair)]
        seeds = seed_range(0, 6)
        [(_, run)] = deque(trajectories.compare(models, seeds, **settings.sampling.arguments), maxlen=1)
        runs.append(run)
    fails, rescued, velocity = runs
    assert (
        fails.spread[1] > 1.2 and 0.6 < fails.spread[0] < fails.spread[1]
    )  # photographs: .5; it leaves the range, and the other strays less
    for run in (rescued, velocity):
        assert run.differences[-1]["xt"] < 0.2 < 0.5 < fails.differences[-1]["xt"]
        assert all(0.4 < spread < 0.65 for spread in run.spread)

    def first_step(run) -> float:
        return run.differences[1]["xt"]

    assert first_step(fails) > 5 * first_step(velocity)  # "Paths"

    pair = clock.offered()[0][0]
    names = [info.name for info in pairs.members(pair)]
    told, blind = ({row["name"]: row for row in tab_models.rows()}[name]["clock_error_near_data"] for name in names)
    assert blind < 0.9 * told  # "Inside", as the maps show it
    # "Inside", with a t of one's choice, on bundled images at the block that is best in the time-agnostic model
    (one, other), (layer, view), levels = pairs.denoisers(pair), pairs.clocks(pair)[1].best, [float(k) for k in range(-8, 9, 2)]
    errors = {}
    for regime, model in {"random": one, "fixed:0.05": one, "any": other}.items():
        given = probes.given_times(regime, model.schedule, levels)
        found = probes.measure(
            model, pairs.bank(pair)[:20], [layer], [view], levels=levels, given=given, control_tasks=False
        )  # fmt: skip
        errors[regime] = found.errors[layer, view].rms(torch.tensor(levels) >= 5)[0].item()
    assert errors["any"] < 0.7 * errors["fixed:0.05"] < 0.5 * errors["random"], errors

    offset, layer = clock.LIES["Shifted t: .2 too noisy"], clock.run._run_layer(pair)
    reader = pairs.clocks(pair)
    runs = [clock.read_request(pair, layer, 0, 4, 25, t).stream(pairs.denoisers(pair), reader) for t in (0.0, offset)]
    (honest, _), (lied, found) = (deque(one, maxlen=1)[0] for one in runs)
    assert torch.equal(honest[1].xt, lied[1].xt) and (honest[0].xt - lied[0].xt).abs().mean() > 0.1
    off = {
        (member, layer["given"]): clock.off_by(run, layer, reader.levels)
        for member, (run, reader) in enumerate(zip(found, pairs.clocks(pair)))
        for layer in run["layers"]
    }
    assert off[0, "true"] < -1.5 and abs(off[1, "independent"]) < 0.3  # "A lie": noisier is below

    (dataset, t), *_ = theory.posterior._noisy().values()
    found = Posterior(f"bank:{dataset}", t=t, dataset=dataset).run()
    assert all(row.std < 0.005 for row in found.rows)  # "Is it in the picture?"

    distances = {}
    for name, (low, high, clamp, eta, begin) in theory.HIDDEN.items():
        asked = theory.exact.read_request("eps", "ddpm-cosine", "ddim", eta, clamp, begin, low, high, "16", 32, 50)
        distances[name] = asked.run().relative_frechet
    data, noise, rescue = distances.values()
    assert noise[1] > 100 * noise[0] and data[1] < 1.1 * data[0] and rescue[1] < 1.1 * rescue[0]  # "What it costs"

    by_pair: dict[str, dict] = {}
    for row in tab_models.rows():
        by_pair.setdefault(row["pair"], {})[row["time_conditioning"]] = row
    members = [(one["timestep"], one["none"]) for one in by_pair.values()]
    assert all(never["step_error"] > told["step_error"] for told, never in members)  # "All figures"
    # The note and the stop say "a random t".
    assert {next(iter(probes.regimes(cards.atlas(info.name)))) for info in zoo.models()} <= {"random", "any"}
    better = [never["clock_error_near_data"] < 0.6 * told["clock_error_near_data"] for told, never in members]
    assert sum(better) > 0.8 * len(better)


@pytest.mark.slow
def test_a_film_leads_to_the_same_run_live(open_page):
    page = open_page()
    page.locator("#start-films a", has_text="Run it live").first.click()
    expect(page.locator("#status")).to_contain_text(re.compile("Denoising|Shown"), timeout=60_000)
    expect(page.locator("#scrub")).to_be_visible()


@pytest.mark.slow
def test_a_round_of_the_quiz_hides_its_answer_until_it_is_given(open_page):
    page = open_page("?tab=quiz")
    button(page, "Start a round").click()
    expect(page.locator("#quiz-status")).to_contain_text("Which one is", timeout=90_000)
    assert "told" not in page.locator("#quiz-pictures").inner_text()
    button(page, "A is time-agnostic").click()
    expect(page.locator("#quiz-status")).to_contain_text(re.compile("Right|Wrong"))
    expect(page.locator("#quiz-score")).to_contain_text("of 1 right")
    expect(page.locator("#quiz-pictures")).to_contain_text("time-agnostic")
    expect(button(page, "B is time-agnostic")).to_be_disabled()
    button(page, "Reset score").click()
    expect(page.locator("#quiz-score")).to_contain_text("No answer yet")
