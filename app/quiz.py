"""The tab Quiz: two unlabeled sampling runs from the same noise; which one is the time-agnostic model?

The answer stays on the server until it is given. Answers are counted for each pair and never pooled over pairs. Players look
after every round and stop when they like, so the verdict comes from a confidence sequence
(:func:`explore.statistics.anytime_share`): a player who guesses is told "better" or "worse than guessing" with probability .05
at most for a pair, in any number of rounds.
"""

from __future__ import annotations

import functools
import html
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from torch import Tensor

from app import pairs, ui, works
from explore import figures, zoo
from explore.data import to_uint8
from explore.samplers import SAMPLERS, Sampling
from explore.seeds import keyed_noise, seed_range
from explore.statistics import Interval, anytime_p, anytime_share
from explore.values import choose

ANY, IMAGES, STEPS, UPDATE_SECONDS = "any pair", 9, 20, 0.15
LETTERS = ("A", "B")


@dataclass(frozen=True)
class Score:
    """Answers so far, all about one pair.

    Attributes:
        right: How many were right.
        rounds: How many were given.
    """

    right: int = 0
    rounds: int = 0

    @property
    def share(self) -> Interval:
        """Probability of a right answer, once there is one answer."""
        return anytime_share(self.right, self.rounds, "answers")

    @property
    def verdict(self) -> str:
        """Comparison with guessing."""
        low, high = self.share.ends
        if low is not None and low > 0.5:
            return "better than guessing"
        if high is not None and high < 0.5:
            return "worse than guessing"
        return "not significantly different from guessing yet"


def counted(scores: dict[str, Score], pair: str, right: bool) -> dict[str, Score]:
    """Scores after one more answer about ``pair``, which becomes the last key."""
    others = {name: score for name, score in scores.items() if name != pair}
    before = scores.get(pair, Score())
    return others | {pair: Score(before.right + right, before.rounds + 1)}


def score_words(scores: dict[str, Score]) -> str:
    """The score of the pair played last, which is the last key, with its verdict; then a table of the other pairs."""
    if not scores:
        return "<p class='summary'>No answer yet. Guessing would be right half of the time.</p>"
    *others, (pair, score) = scores.items()
    said = (
        f"<p class='summary'>{html.escape(pair)}: <b>{score.right}</b> of <b>{score.rounds}</b> right, {score.share:.0%}: "
        f"{score.verdict}.</p><p class='note'>In parentheses: 95% confidence sequence. Always-valid p-value: "
        f"{anytime_p(score.right, score.rounds):.2g}. You may stop after any round: a player who guesses is ever called "
        "better or worse than guessing with probability 5% at most for a pair. A reset starts a new test.</p>"
    )
    if not others:
        return said
    rows = [[html.escape(name), f"{one.right} of {one.rounds}", f"{one.share:.0%}", one.verdict] for name, one in others]
    caption = "Other pairs, each tested alone: with several pairs, a wrong verdict on one of them can be more likely than 5%"
    return said + ui.table(caption, ("pair", "right", "share", "verdict"), rows)


@dataclass(frozen=True)
class Round:
    """Two runs shown, and which is which.

    Attributes:
        pair: Of the models.
        blind: Index into ``LETTERS`` of the time-agnostic model.
        seed: Of the first image.
        answered: Whether it counted already.
    """

    pair: str
    blind: int
    seed: int
    answered: bool = False


def offered() -> list[str]:
    """Pairs of a conditioned and a time-agnostic member."""
    kinds_of = {pair: {zoo.info(name).time_conditioning for name in names} for pair, names in zoo.pairs().items()}
    return [pair for pair, kinds in kinds_of.items() if {"timestep", "none"} <= kinds]


def stream(pair: str, seed: int, blind: int) -> Iterator[tuple[float, list[Tensor]]]:
    """Share done and both states uint8 (N, 3, H, W), in the order of ``LETTERS``.

    Raises:
        ValueError: For a pair that is not offered.
    """
    choose("pair", pair, offered())
    conditioned, agnostic = pairs.denoisers(pair)
    order = [agnostic, conditioned] if blind == 0 else [conditioned, agnostic]
    options = Sampling.for_model(conditioned).arguments | {"steps": STEPS}
    sampler, seeds = SAMPLERS[options.pop("sampler")], seed_range(seed, IMAGES)
    walks = [sampler(one, keyed_noise(seeds, one.shape), seeds=seeds, **options) for one in order]
    for both in zip(*walks):
        yield both[0].index / STEPS, [to_uint8(step.xt) for step in both]


def view(states: list[Tensor] | None, revealed: Round | None = None) -> str:
    """Both runs; their colors and titles only once the answer was given."""
    cells = []
    for number, letter in enumerate(LETTERS):
        color, what = ui.GRAY, ""
        if revealed is not None:
            blind = number == revealed.blind
            color = figures.TIME_AGNOSTIC if blind else figures.CONDITIONED
            what = html.escape(zoo.TITLES["none" if blind else "timestep"])
        body = ui.empty("Start a round.")
        if states is not None:
            body = ui.picture(states[number], f"Pictures of model {letter}{', ' + what if what else ''}")
        cells.append(ui.cell("", color, letter, what, body))
    return ui.pair_view(cells)


CSS = """
#quiz-pictures .pictures.two { max-width: none; gap: 12px 16px; }
"""


def tour() -> list[ui.Stop]:
    """A round."""
    if not offered():
        return []
    return [
        ui.Stop(
            "Your turn",
            "Two models of one pair, the same noise, no labels. Which one is the time-agnostic model?",
            "One round says nothing. The score on the left is kept for each pair. Its comparison with guessing stays valid "
            "however many rounds you play.",
            "quiz",
            "quiz-go",
        )
    ]


def build(page: gr.Blocks) -> None:
    """Builds the tab and connects its components."""
    known = offered()
    with gr.Column(elem_classes="tab-section"):
        ui.heading(
            "quiz", "Which one is time-agnostic?",
            "Two models of a pair turn the same noise into images. One is given the timestep at every step, the other is not. "
            "Which is which?",
        )  # fmt: skip
        if not known:
            gr.HTML("<p class='note'>No pair of a conditioned and a time-agnostic model is installed.</p>")
            return
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280):
                pair = gr.Dropdown(
                    [ANY, *known], value=ANY, label="Pair", filterable=False, elem_id="quiz-pair",
                    info="The models behind A and B.",
                )  # fmt: skip
                score_line = gr.HTML(score_words({}), elem_id="quiz-score")
                again = gr.Button("Reset score", size="sm", elem_id="quiz-forget")
            with gr.Column(scale=3, min_width=320, elem_classes="tab-stage"):
                go, halt, status = ui.run_button("quiz", "Start a round", ready="Ready: start a round.")
                pictures = gr.HTML(view(None), elem_id="quiz-pictures")
                with gr.Row():
                    answers = [
                        gr.Button(
                            f"{letter} is time-agnostic", interactive=False, elem_id=f"quiz-{letter.lower()}", min_width=140
                        )
                        for letter in LETTERS
                    ]
    score, current = gr.State({}), gr.State(None)  # kept on the server: a page cannot look the answer up
    last = gr.State(None)

    def play(session: str, pair: str) -> ui.Messages:
        """Draws a pair, a seed and an order, and shows both runs."""
        chosen = random.choice(known) if pair == ANY else choose("pair", str(pair)[:100], known)
        drawn = Round(chosen, random.randrange(2), random.randrange(2**31))
        waiting = dict.fromkeys(answers, gr.update(interactive=False))
        yield {status: ui.status("The same noise for both."), current: None, pictures: view(None), **waiting}
        for done, states in stream(drawn.pair, drawn.seed, drawn.blind):
            yield ui.Progress("Denoising.", done, functools.partial(lambda states: {pictures: view(states)}, states))
        yield {
            pictures: view(states), status: ui.status("Which one is the time-agnostic model?", 1.0), current: drawn,
            last: states, **dict.fromkeys(answers, gr.update(interactive=True)),
        }  # fmt: skip

    def answer(letter: int) -> Any:
        def given(drawn: Round | None, states: list[Tensor] | None, so_far: dict[str, Score]) -> dict[Any, Any]:
            if drawn is None or drawn.answered:
                return {status: ui.status("Start a round first.")}
            right = letter == drawn.blind
            scores = counted(so_far, drawn.pair, right)
            said = f"{'Right' if right else 'Wrong'}: <b>{LETTERS[drawn.blind]}</b> is time-agnostic"
            return {
                status: ui.status(f"{said} ({html.escape(drawn.pair)}, seed {drawn.seed}).", 1.0),
                pictures: view(states, drawn), current: replace(drawn, answered=True),
                score: scores, score_line: score_words(scores),
                **dict.fromkeys(answers, gr.update(interactive=False)),
            }  # fmt: skip

        return given

    ui.on_run("quiz", play, [pair], [pictures, current, last, *answers], go=go, halt=halt, line=status, every=UPDATE_SECONDS)
    for number, button in enumerate(answers):
        button.click(answer(number), [current, last, score], [status, pictures, score, score_line, current, *answers],
                     **ui.AT_ONCE)  # fmt: skip
    again.click(lambda: ({}, score_words({})), None, [score, score_line], **ui.AT_ONCE)
    page.unload(works.forget)
