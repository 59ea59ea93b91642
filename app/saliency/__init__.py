"""The tab Saliency: which pixels one scalar of each member depends on, side by side on one color scale.

An image (bundled, uploaded, or a frame of a sampling run), a noise level, a target and a method are chosen. The maps come
first, then the checks: completeness, deletion and insertion, the maps of reinitialized networks, and the routes through the t
input. The computations are in :mod:`explore.saliency`.

Files, each importing only those before it: ``settings``, ``asking``, ``views``, ``endpoints`` and ``page``.
"""

from app.saliency.asking import as_code, ask
from app.saliency.page import TARGETS, build, target_menu, tour, warm_up
from app.saliency.settings import Settings, of_a_run, read_settings, with_noise
from app.saliency.views import CSS

__all__ = [
    "CSS", "TARGETS", "Settings", "as_code", "ask", "build", "of_a_run", "read_settings", "target_menu", "tour", "warm_up",
    "with_noise",
]  # fmt: skip
