"""Shared by the sections of the tab Theory: noise paths, limits, headings and colors."""

from __future__ import annotations

from explore import figures

PATHS = {"flow": "flow (straight)", "ddpm-cosine": "DDPM, cosine", "ddpm-linear": "DDPM, linear"}
LEVELS = 300  # values of t in the posteriors of the Gaussian images and of the points
MAX_STEPS, MAX_SAMPLES = 100, 64
SECTIONS = {
    "theory-posterior": (
        "What does one picture tell?",
        "Noise is added to a picture. How probable is every amount of it, given what one assumes of pictures? Each curve is "
        "exact for its assumption, the prior, and says nothing beyond it.",
    ),
    "theory-exact": (
        "What does not knowing cost?",
        "Gaussian images with the spectrum of photographs: the best possible network is a formula, conditioned or "
        "time-agnostic. Both sample from the same noise. Hide t on all of the path or a part of it, and see which end matters.",
    ),
    "theory-plane": (
        "A finite set, in the plane",
        "The data are a few points. Both best possible networks start from the same noise and follow their paths; on a finite "
        "set nothing collapses, but the time-agnostic network can stop between the points.",
    ),
}
TITLES, COLORS = ("conditioned", "time-agnostic"), (figures.CONDITIONED, figures.TIME_AGNOSTIC)
