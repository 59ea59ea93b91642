"""What was measured of the models, kept beside their weights, and the tables and cards made of it.

``checkpoints/<name>/metrics.json`` holds what was measured of the shipped weights, ``seeds.json`` what was measured of
networks that differ from them in the training seed only and are not shipped. Every function works on the default zoo, see
:func:`explore.zoo.using`.
"""

from explore.cards.differences import DIFFERENCES, differences
from explore.cards.store import (
    adopt,
    atlas,
    by_seed,
    distances,
    metrics,
    store,
    store_yardsticks,
    yardsticks,
)
from explore.cards.tables import figures, fill, markdown, rows, tables
from explore.cards.write import write_card, write_encoder_card

__all__ = [
    "DIFFERENCES", "adopt", "atlas", "by_seed", "differences", "distances", "figures", "fill", "markdown", "metrics",
    "rows", "store", "store_yardsticks", "tables", "write_card", "write_encoder_card", "yardsticks",
]  # fmt: skip
