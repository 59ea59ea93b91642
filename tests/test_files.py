"""Files are written whole or not at all, targets are checked before work begins, and equal content gives equal bytes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explore import files, zoo
from explore.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
NAME = next(iter(zoo.index()))
SAMPLE = ["sample", NAME, "--count", "1", "--steps", "1"]


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Kind of target -> what makes it in a folder, and whether results can go there.
TARGETS = {
    "a new folder": (lambda home: home / "new", True),
    "a folder in new folders": (lambda home: home / "a" / "b" / "c", True),
    "a folder that is there": (lambda home: (home / "there").mkdir() or home / "there", True),
    "a link to a folder": (lambda home: (home / "real").mkdir() or (home / "link").symlink_to("real") or home / "link", True),
    "the longest name": (lambda home: home / ("n" * 255), True),
    "a file": (lambda home: (home / "file").write_text("mine") and home / "file", False),
    "within a file": (lambda home: (home / "file").write_text("mine") and home / "file" / "out", False),
    "a link to nothing": (lambda home: (home / "link").symlink_to("nowhere") or home / "link", False),
    "within a link to nothing": (lambda home: (home / "link").symlink_to("nowhere") or home / "link" / "out", False),
    "a link to itself": (lambda home: (home / "loop").symlink_to("loop") or home / "loop", False),
    "too long a name": (lambda home: home / ("n" * 256), False),
    "too long a path": (lambda home: home.joinpath(*["d" * 200] * 30), False),
    "the device full": (lambda home: Path("/dev/full"), False),
    "where nobody may write": (lambda home: Path("/proc/clockless/out"), False),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(TARGETS)), st.integers(0, 10**9))
def test_targets_are_judged_before_anything_is_computed(tmp_path, kind, number):
    home = tmp_path / str(number)
    home.mkdir(exist_ok=True)
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    make, works = TARGETS[kind]
    target = make(home)
    before = tree(home)
    if works:
        assert files.check_folder(target) == target
    else:
        with pytest.raises(ValueError) as error:
            files.check_folder(target)
        assert "\n" not in str(error.value) and "Errno" not in str(error.value) and len(str(error.value)) < 1000
    assert tree(home) == before


@pytest.mark.parametrize("kind", [kind for kind, (_, works) in TARGETS.items() if not works])
def test_the_command_line_refuses_a_target_in_one_line(tmp_path, kind, capsys, monkeypatch):
    monkeypatch.setattr("explore.zoo.load", lambda *_: pytest.fail("a model was loaded"))
    target = TARGETS[kind][0](tmp_path)
    before = tree(tmp_path)
    assert main([*SAMPLE, "--out", str(target)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["evaluate", NAME, "--reference", "bank:celeba", "--out", str(target / "x.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert tree(tmp_path) == before


def test_one_file_as_a_target(tmp_path):
    assert files.check_file(tmp_path / "new" / "result.json", ".part") == tmp_path / "new" / "result.json"
    for target, message in (
        (tmp_path, "is a folder; the result is one file"),
        (tmp_path / ("n" * 255), "File name too long"),  # its unfinished work would not fit
    ):
        with pytest.raises(ValueError, match=message):
            files.check_file(target, ".part")
    assert tree(tmp_path) == []


# Written as another process whose files may hold 60,000 bytes: what a full disk does, an error in the middle of writing.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
from explore.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_what_cannot_be_written_to_its_end_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "sample", NAME, "--count", "64", "--steps", "1", "--sampler", "euler", "--out",
         str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 2 and len(errors) == 1 and errors[0].startswith("error: cannot write"), done.stderr
    assert "File too large" in errors[0] and tree(tmp_path) == []


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "state.safetensors"
    files.save_state(path, {"a": torch.ones(3)}, step=1)
    with pytest.raises(ZeroDivisionError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert files.load_state(path)[1] == {"step": 1} and tree(tmp_path) == ["state.safetensors"]


def test_the_same_content_gives_the_same_bytes():
    """The library orders metadata by a hash table with a new key at every call."""
    tensors, metadata = {name: torch.arange(5.0) for name in "cab"}, {f"key {k}": "value" for k in range(20)}
    assert len({files.to_safetensors(tensors, metadata) for _ in range(20)}) == 1
    assert files.to_safetensors(tensors, metadata) == files.to_safetensors(tensors, dict(reversed(metadata.items())))


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.floats(width=32), max_size=5), min_size=1, max_size=4),
    st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=6),
)
def test_safetensors_are_read_as_they_were_written(tensors, metadata):
    import safetensors
    import safetensors.torch

    tensors = {name: torch.tensor(rows, dtype=torch.float32) for name, rows in tensors.items() if name != "__metadata__"}
    content = files.to_safetensors(tensors, metadata)
    found = safetensors.torch.load(content)
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name].nan_to_num(7), tensor.nan_to_num(7)) for name, tensor in tensors.items())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert len(content) % 4 == 0 and (8 + int.from_bytes(content[:8], "little")) % 8 == 0
    assert header.get("__metadata__", {}) == metadata


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_is_always_valid(value):
    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads(files.to_json(value), parse_constant=refuse)
    assert found == json.loads(json.dumps(value), parse_constant=lambda _: None)


def test_numbers_of_other_libraries_are_json():
    value = {"a": np.float32(0.5), "b": torch.tensor([1.0, math.nan]), "c": np.arange(2), "d": (np.int64(3), math.inf)}
    assert files.to_json(value) == '{"a": 0.5, "b": [1.0, null], "c": [0, 1], "d": [3, null]}'


def test_two_processes_cannot_claim_one_folder(tmp_path):
    with files.claimed(tmp_path / "run", "training"):
        code = "import sys; from pathlib import Path; from explore import files; "
        code += f"files.claimed(Path({str(tmp_path / 'run')!r}), 'training').__enter__()"
        other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert other.returncode == 1 and f"another training is writing to {tmp_path / 'run'}" in other.stderr
    assert tree(tmp_path) == []  # nothing was written, so nothing is left
    with files.claimed(tmp_path / "run", "training"):
        (tmp_path / "run" / "log").write_text("x")
    with files.claimed(tmp_path / "run", "training"):
        pass
    assert (tmp_path / "run" / "log").exists()
