"""Nothing a person could reach is lost in silence: every entry of the inventory is there, has moved, or a sentence says why."""

import json
from pathlib import Path
from typing import Any

import pytest
from inventory import inventory

BEFORE = json.loads((Path(__file__).parent / "fixtures" / "inventory.json").read_text())

# Entry of the inventory -> its present entry, or a sentence that says why it went, which begins with "gone: ".
# An entry is written as kind/name or kind/name/argument.
MOVED: dict[str, str] = {
    "commands/neighbours": "commands/neighbors",
    "commands/trajectories/--colour": "commands/trajectories/--color",
    "controls/paths-colour": "controls/paths-color",
    "endpoints//trajectory": "endpoints//trajectories",
    "endpoints//clock/pair": "endpoints//clock/model",
    "endpoints//clock/offset": "endpoints//clock/clock_offset",
    "endpoints//ruler/pair": "endpoints//ruler/model",
    "endpoints//saliency/picture": "endpoints//saliency/image",
    "endpoints//saliency/pair": "endpoints//saliency/model",
    "views/attribution/clocks": "views/attribution/probe_sets",
    "views/lied_to/clocks": "views/lied_to/probe_sets",
    "views/steering/clock": "views/steering/probe_set",
    "views/exact/path": "gone: the view's menu of noise paths begins with the cosine schedule",
    "views/exact/prediction": "gone: the view's menu of targets begins with eps",
    "views/exact/resolution": "views/exact/size",
    "views/posterior/dataset": "gone: the view takes a source of images, and the request the data set of its priors",
    **{
        f"endpoints//trajectory/{argument}": f"endpoints//trajectories/{argument}"
        for argument in (
            "pair",
            "sampler",
            "steps",
            "seed",
            "count",
            "eta",
            "clamp",
            "start",
            "space",
            "projection",
            "dimensions",
        )
    },
    **{
        f"commands/neighbours/{option}": f"commands/neighbors/{option}"
        for option in ("--count", "--data", "--out", "--seed", "--store", "model")
    },
}


def flat(kind: str, part: Any) -> set[str]:
    """The entries of one kind."""
    if isinstance(part, list):
        return {f"{kind}/{name}" for name in part}
    return {f"{kind}/{name}" for name in part} | {f"{kind}/{name}/{one}" for name, all_of in part.items() for one in all_of}


@pytest.fixture(scope="module")
def now() -> set[str]:
    return {entry for kind, part in inventory().items() for entry in flat(kind, part)}


@pytest.mark.parametrize("kind", sorted(BEFORE))
def test_every_entry_has_a_place(kind, now):
    entries = flat(kind, BEFORE[kind])
    assert len(entries) > 2
    lost = sorted(entry for entry in entries - now if entry not in MOVED)
    assert not lost, f"{len(lost)} entries went without a word: {lost[:10]}"


def test_moves_are_of_real_entries_to_real_places(now):
    before = {entry for kind, part in BEFORE.items() for entry in flat(kind, part)}
    for entry, place in MOVED.items():
        assert entry in before and entry not in now, entry
        assert place in now or (place.startswith("gone: ") and len(place) > 30), f"{entry} -> {place}"
