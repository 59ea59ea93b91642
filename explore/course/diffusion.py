"""Noising and one denoising step, at any t. Depends on panel, schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from explore.course.display import sheet
from explore.course.panel import Part, View, menu, picture_slider, slider, titles_of
from explore.data import add_noise, to_float
from explore.denoiser import Denoiser
from explore.schedules import SCHEDULES
from explore.seeds import keyed_noise


def noising(images: Tensor) -> View:
    """A clean picture, noise and their mixture at any t, on any path.

    Args:
        images: uint8 (N, 3, H, W).
    """

    def draw(number: int, t: float, path: str) -> list[Part]:
        schedule, time_ = SCHEDULES[path], torch.tensor(t, dtype=torch.float64)
        x0 = to_float(images[number : number + 1])
        eps = keyed_noise([number], x0.shape[1:])
        alpha, sigma, logsnr = (f(time_).item() for f in (schedule.alpha, schedule.sigma, schedule.logsnr))
        trio = torch.cat([x0, eps / 2, add_noise(x0, eps, t, schedule)])  # eps itself leaves [-1, 1]
        said = f"alpha = {alpha:.3f}, sigma = {sigma:.3f}, log SNR = {logsnr:.2f}"
        return [sheet({"": trio}, ["x0", "eps / 2", "xt"]), said]

    controls = {
        "number": picture_slider(images), "t": slider("t", 0.5, 0.01, 0.99),
        "path": menu("path", SCHEDULES, "flow"),
    }  # fmt: skip
    examples: list[dict[str, Any]] = [{"t": 0.2}, {"t": 0.5}, {"t": 0.8}, {"t": 0.8, "path": "ddpm-cosine"}]
    return View(draw, controls, "A clean picture, noise, and their mixture at several t.", examples)


def one_step(denoisers: Sequence[Denoiser], images: Tensor) -> View:
    """Each model's estimate of x0 from one evaluation, at any t.

    Args:
        denoisers: Of the zoo, on one schedule.
        images: uint8 (N, 3, H, W).
    """
    titles = titles_of(denoiser.name for denoiser in denoisers)

    def draw(number: int, t: float, seed: int) -> list[Part]:
        x0 = to_float(images[number : number + 1])
        xt = add_noise(x0, keyed_noise([seed], x0.shape[1:]), t, denoisers[0].schedule)
        with torch.no_grad():
            guesses = {title: denoiser(xt, t) for title, denoiser in zip(titles, denoisers)}
        errors = [f"{title} {(guess - x0).square().mean().item():.4f}" for title, guess in guesses.items()]
        strip = torch.cat([x0, xt, *guesses.values()])
        said = "Mean squared error of x0_hat: " + ", ".join(errors) + "."
        return [sheet({"": strip}, ["x0", "xt", *titles]), said]

    controls = {
        "number": picture_slider(images), "t": slider("t", 0.5, 0.02, 0.98),
        "seed": slider("seed", 0, 0, 20, 1),
    }  # fmt: skip
    words = "A picture, the picture with noise, and the estimates of x0 at several t."
    return View(draw, controls, words, [{"t": 0.25}, {"t": 0.5}, {"t": 0.75}, {"t": 0.95}])
