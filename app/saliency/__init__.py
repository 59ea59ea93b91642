"""The tab Saliency: which pixels one number of each member of a pair depends on, side by side on one color scale.

An image (bundled, uploaded, or a frame of a sampling run), a noise level, a target and a method are chosen. The maps come
first, then their checks: completeness, deletion and insertion, a reinitialized network, and how much comes through the t input.

``asking`` reads the settings and computes, ``views`` holds what the page shows, ``page`` controls, handlers and the endpoint.
The settings are a :class:`explore.experiments.Saliency`; the work is that of :mod:`explore.saliency`.
"""

from __future__ import annotations

from app.saliency.page import build, tour, warm_up
from app.saliency.views import CSS

__all__ = ["CSS", "build", "tour", "warm_up"]
