"""The tabs Start and Quiz: the films show what the models do, and the quiz keeps its answer and an honest score."""

import json
import re

import numpy as np
import pytest
from conftest import button
from PIL import Image
from playwright.sync_api import expect

from app import quiz, start
from app.__main__ import TABS
from explore import trajectories, zoo


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
    denoisers = [zoo.load(name, "float32") for name in trajectories.members_of(case["pair"])]
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
        (0, 0, "No answer yet"),
        (5, 8, "not to be told from guessing"),
        (18, 20, "better than guessing"),
        (1, 20, "worse than guessing"),
    ],
)
def test_the_score_says_what_it_is_worth(right, rounds, words):
    assert words in quiz.Score(right, rounds).words()


def test_the_interval_is_wilsons():
    # Newcombe (1998), table I: 81 of 263.
    found = quiz.Score(81, 263).words()
    assert "26% to 37%" in found


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
    expect(films).to_have_count(2 * len(start.CASES), timeout=30_000)
    for index in range(films.count()):
        assert films.nth(index).evaluate("film => getComputedStyle(film).backgroundImage").startswith('url("data:image/webp')
    assert films.first.evaluate("film => getComputedStyle(film).animationName") == "clockless-film"
    page.locator("#start-films .pause input").check()
    assert films.first.evaluate("film => getComputedStyle(film).animationName") == "none"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#start-lesson button", has_text=re.compile("^Theory$")).click()
    expect(page.locator("#theory-exact")).to_be_visible(timeout=30_000)


@pytest.mark.slow
def test_a_film_leads_to_the_same_run_live(open_page):
    page = open_page()
    page.locator("#start-films a", has_text="Run it live").first.click()
    expect(page.locator("#status")).to_contain_text(re.compile("Denoising|Shown"), timeout=60_000)
    expect(page.locator("#scrub")).to_be_visible()


@pytest.mark.slow
def test_a_round_of_the_quiz_hides_its_answer_until_it_is_given(open_page):
    page = open_page("?tab=quiz")
    button(page, "New round").click()
    expect(page.locator("#quiz-status")).to_contain_text("Which of the two", timeout=90_000)
    assert "told" not in page.locator("#quiz-pictures").inner_text()
    button(page, "A was never told").click()
    expect(page.locator("#quiz-status")).to_contain_text(re.compile("Right|Wrong"), timeout=30_000)
    expect(page.locator("#quiz-score")).to_contain_text("of 1 right")
    expect(page.locator("#quiz-pictures")).to_contain_text("never told the time")
    expect(button(page, "B was never told")).to_be_disabled()
    button(page, "Forget my score").click()
    expect(page.locator("#quiz-score")).to_contain_text("No answer yet", timeout=30_000)
