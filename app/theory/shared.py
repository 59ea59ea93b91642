"""Shared by the sections of the tab Theory: noise paths, limits, headings and colors."""

from __future__ import annotations

from explore import figures

PATHS = {
    "flow": "flow (straight)",
    "ddpm-cosine": "DDPM, cosine",
    "ddpm-linear": "DDPM, linear",
    "edm": "EDM (variance-exploding, scaled)",
    "uedm": "uEDM (variance-exploding, scaled)",
}
SECTIONS = {
    "theory-posterior": (
        "What does one image tell about t?",
        "Noise is added to an image. How probable is each noise level? The answer needs a prior: an assumption about "
        "images. Each curve is exact under its prior only.",
    ),
    "theory-exact": (
        "What does hiding t cost?",
        "For Gaussian images with the spectrum of photographs the best possible network is a formula, with or without t. Both "
        "sample from the same noise. Hide t on the whole path, or on a part of it, and see which end matters.",
    ),
    "theory-plane": (
        "A finite set in the plane",
        "The data are a few points. Both optimal networks start from the same noise and follow their paths. On a finite set "
        "nothing diverges, but samples of the time-agnostic network can stop between the points.",
    ),
}
TITLES, COLORS = ("conditioned", "time-agnostic"), (figures.CONDITIONED, figures.TIME_AGNOSTIC)
