"""The course: views of every instrument for the notebooks, and the notebooks themselves."""

from explore.course.clock import atlas_errors, atlas_titles, layer_reading, lied_to, steering
from explore.course.diffusion import noising, one_step
from explore.course.display import TWINS, figure, picture, sheet, table
from explore.course.execution import MAX_BYTES, NOTEBOOKS, WIDGET, course, execute
from explore.course.panel import View
from explore.course.saliency import attribution
from explore.course.sampling import compare, film
from explore.course.theory import exact, posterior
from explore.course.trajectories import paths

__all__ = [
    "MAX_BYTES", "NOTEBOOKS", "TWINS", "WIDGET", "View", "atlas_errors", "atlas_titles", "attribution", "compare", "course",
    "exact", "execute", "figure", "film", "layer_reading", "lied_to", "noising", "one_step", "paths", "picture", "posterior",
    "sheet", "steering", "table",
]  # fmt: skip
