"""Files: JSON and safetensors read and written whole or not at all, and targets that are checked before work begins.

Everything is written under a temporary name in its folder and renamed, so a reader sees the old file or the new one; if
writing fails, the temporary file is removed and the error is one line. Equal content gives equal bytes. Depends on values.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from filelock import FileLock, Timeout
from torch import Tensor

from explore.values import one_line


def read_json(path: Path) -> Any:
    """The JSON in ``path``.

    Raises:
        ValueError: If the file is missing or is not JSON, in one line.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read {path} as JSON: {one_line(error)}") from None


def to_json(value: Any, indent: int | None = None) -> str:
    """``value`` as valid JSON: numbers of numpy and torch as numbers, and null for what is not finite."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """``value`` of lists, dicts and Python's own numbers, as JSON would give it back; what is not finite is None."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Writes ``value`` as valid JSON; see :func:`to_json` and :func:`write_atomically`."""
    write_atomically(path, to_json(value, indent) + "\n")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Writes ``content`` under a temporary name, then renames: readers see the old file or the new one.

    Raises:
        ValueError: If it cannot be written (a full disk, no permission, ...), in one line; nothing is left behind.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; renamed to ``path`` after the block, removed if the block fails.

    Raises:
        ValueError: For whatever the operating system or safetensors says, in one line.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp")  # short: a long name of the file leaves little room
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(_refusal(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _refusal(path: Path, error: Exception) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
    return f"cannot write {one_line(path, 200)}: {reason}"


def check_folder(path: Path) -> Path:
    """Returns ``path`` if results can be written into it as a folder; it is made for the test, and removed again.

    Raises:
        ValueError: If it is a file or a link to nothing, has too long a name, or cannot be written to.
    """
    _check_link(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; the results go into a folder: choose another name")
    _try(path, path / ".test")
    return path


def check_file(path: Path, suffix: str = "") -> Path:
    """Returns ``path`` if a file can be written there, also one whose name has ``suffix`` added.

    Raises:
        ValueError: If it is a folder or a link to nothing, has too long a name, or cannot be written to.
    """
    _check_link(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; the result is one file: choose a name in it")
    _try(path.parent, path.with_name(f"{path.name}{suffix}"))
    return path


def _check_link(path: Path) -> None:
    try:
        for part in (path, *path.parents):
            if part.is_symlink() and not part.exists():
                raise ValueError(f"{part} is a link to {os.readlink(part)}, which does not exist")
    except OSError as error:  # such as too long a name
        raise ValueError(_refusal(path, error)) from None


def _make(folder: Path, made: list[Path]) -> None:
    """Makes a folder and those it lies in, and notes in ``made`` which were not there."""
    for part in [*reversed(folder.parents), folder]:
        with contextlib.suppress(FileExistsError):
            if not part.is_dir():
                part.mkdir()
                made.append(part)


def _remove_empty(made: list[Path]) -> None:
    for part in reversed(made):
        with contextlib.suppress(OSError):
            part.rmdir()


@contextlib.contextmanager
def claimed(folder: Path, work: str) -> Iterator[None]:
    """Keeps a folder, made if missing, to this process inside the block; the system lets go of it if the process ends.

    Args:
        folder: Where the work is written.
        work: What is done there, for the message: ``training``.

    Raises:
        ValueError: If another process has claimed it.
    """
    made: list[Path] = []
    lock = FileLock(folder / ".lock")
    try:
        _make(folder, made)
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another {work} is writing to {folder}: wait for its end, or choose another folder") from None
    except OSError as error:
        _remove_empty(made)
        raise ValueError(_refusal(folder, error)) from None
    try:
        yield
    finally:
        lock.release()
        if made and folder.is_dir() and [path.name for path in folder.iterdir()] in ([], [".lock"]):
            (folder / ".lock").unlink(missing_ok=True)  # nothing was written
            _remove_empty(made)


def _try(folder: Path, file: Path) -> None:
    """Does what will be done later: makes the folder, writes a block to a file; then takes both away again."""
    made: list[Path] = []
    written: list[Path] = []
    try:
        _make(folder, made)
        # Both the name that is asked for and a temporary one, as files are renamed.
        for name in {folder / f".{secrets.token_hex(4)}.tmp", *({file} if not file.exists() else set())}:
            with name.open("xb") as stream:
                written.append(name)
                stream.write(bytes(4096))
    except OSError as error:
        raise ValueError(_refusal(file if file.name != ".test" else folder, error)) from None
    finally:
        for name in written:
            with contextlib.suppress(OSError):
                name.unlink()
        _remove_empty(made)


def to_safetensors(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """``tensors`` as a safetensors file, the same bytes for the same content.

    The library writes the metadata in the order of a hash table, which differs from process to process; here it is sorted.
    """
    # Cloned: tensors that share memory, as tied or sliced ones do, cannot be stored.
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = safetensors.torch.save(own, metadata)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if "__metadata__" in header:
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format asks for tensors that begin at a multiple of 8
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[8 + size :]])


def state_bytes(tensors: dict[str, Tensor], **metadata: Any) -> bytes:
    """Tensors and JSON values as one safetensors file."""
    return to_safetensors(tensors, {name: json.dumps(value) for name, value in metadata.items()})


def save_state(path: Path, tensors: dict[str, Tensor], **metadata: Any) -> None:
    """Writes tensors and JSON values to one safetensors file, under a temporary name, then renames."""
    write_atomically(path, state_bytes(tensors, **metadata))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :func:`save_state` wrote: tensors and JSON values.

    Raises:
        ValueError: If the file is something else.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = {name: json.loads(value) for name, value in file.metadata().items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except Exception as error:  # the library raises its own, undocumented types
        raise ValueError(f"{path} is not a state file of this trainer: {one_line(error)}") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: If it is missing or is something else.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # the library raises its own, undocumented types
        raise ValueError(f"{path} is not a safetensors file: {one_line(error)}") from None


def file_sha256(path: Path) -> str:
    """sha256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
