"""Frozen dataclasses are stored as JSON and read back; rows become tables."""

import json
import math
from dataclasses import dataclass, field

import pytest

from explore import files
from explore.results import Rounded, Stored, columns, rounded, table
from explore.statistics import Interval


@dataclass(frozen=True)
class Part(Stored):
    name: str
    found: Interval
    by_layer: dict[str, list[Interval]]


@dataclass(frozen=True)
class Whole(Stored):
    rows: tuple[Part, ...]
    mean: float
    low: float | None
    seed: int = 0
    note: str | None = None
    picture: object = field(default=None, metadata={"stored": False})


WHOLE = Whole((Part("a", Interval(0.5, 0.25, None, n=3), {"stem": [Interval(1.0, 0.0, 2.0, "training seeds")]}),), 2.0, None)


def test_a_result_is_read_back_from_json():
    stored = json.loads(json.dumps(WHOLE.to_json()))
    assert Whole.from_json(stored) == WHOLE
    assert Whole.from_json({**stored, "command": "something else that is stored beside it"}) == WHOLE
    [row] = stored["rows"]
    assert row["found"] == {"value": 0.5, "low": 0.25, "high": None, "over": "images", "n": 3}
    assert row["by_layer"]["stem"][0] == {"value": 1.0, "low": 0.0, "high": 2.0, "over": "training seeds"}


def test_none_is_left_out_only_where_it_is_the_default():
    assert WHOLE.to_json().keys() == {"rows", "mean", "low", "seed"}
    assert Whole.from_json({"rows": [], "mean": 1.0, "low": None}) == Whole((), 1.0, None)


def test_nan_survives_json():
    again = Whole.from_json(json.loads(files.to_json(Whole((), math.nan, math.nan).to_json())))
    assert math.isnan(again.mean) and again.low is None


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match=r"cannot read a stored Whole: .*'mean'"):
        Whole.from_json({"rows": [], "low": None})


def test_rounding_keeps_nine_digits_and_five_in_lists():
    assert rounded({"a": 1 / 3, "b": [1 / 3, {"c": 2 / 3}], "n": 7}) == {
        "a": 0.333333333,
        "b": [0.33333, {"c": 0.666666667}],
        "n": 7,
    }

    @dataclass(frozen=True)
    class One(Rounded):
        value: float

    assert One(1 / 3).to_json() == {"value": 0.333333333}


def test_rows_become_columns():
    assert columns(WHOLE.rows[0]) == {"name": "a", "found": "0.5", "by_layer": WHOLE.rows[0].by_layer}
    assert table([{"t": 0.5, "name": "one"}, {"t": 10.0, "name": "more"}]).splitlines() == [
        "  t  name",
        "0.5  one",
        " 10  more",
    ]
