"""The notebooks: listed, executed and written with their outputs. Depends on display, files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explore import files, zoo
from explore.course.display import TWINS

NOTEBOOKS = Path(__file__).resolve().parent.parent.parent / "notebooks"
MAX_BYTES = 1_000_000  # of a committed notebook
WIDGET = "application/vnd.jupyter.widget-view+json"


def course(folder: Path = NOTEBOOKS) -> list[dict[str, str]]:
    """The notebooks in their order: ``name``, ``title``, ``question`` and ``time``, read from their first cells.

    Raises:
        ValueError: For a notebook whose first cell has no title, question or running time.
    """
    found = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        first = "".join(files.read_json(path)["cells"][0]["source"])
        parts = {}
        for key, pattern in (
            ("title", r"^# (.+)$"), ("question", r"\*\*Question\.\*\*\s+(.+?)(?:\n\n|$)"),
            ("time", r"\*\*Running time\.\*\*\s+(.+?)(?:\n\n|$)"),
        ):  # fmt: skip
            match = re.search(pattern, first, re.MULTILINE if key == "title" else re.DOTALL)
            if match is None:
                raise ValueError(f"the first cell of {path.name} says no {key}")
            parts[key] = " ".join(match[1].split())
        found.append({"name": path.stem, **{key: text.replace("*", "") for key, text in parts.items()}})  # no emphasis
    return found


def _is_progress(output: Mapping[str, Any]) -> bool:
    """Whether an output is a progress bar, which nobody needs when the work is done."""
    data = output.get("data", {})
    return WIDGET in data and "image/png" not in data and re.search(r"\d+%\||\d+it \[", data.get("text/plain", "")) is not None


def weights_of(source: str) -> dict[str, str]:
    """Name -> sha256 of the models that ``source`` names, by their own names or by that of their pair."""
    named = set(re.findall(r"[\w-]+", source))
    return {name: entry["sha256"] for name, entry in zoo.index().items() if {name, entry["pair"]} & named}


def execute(path: Path, out: Path | None = None) -> dict[str, Any]:
    """Runs a notebook from top to bottom in a fresh kernel and writes it with its outputs.

    Widgets are left out of the file, their static versions stay: a page without a kernel could not draw widgets. The metadata
    hold the sha256 of the weights of the models that the code names: ``clockless.weights``.

    Args:
        path: The notebook.
        out: Output file; by default the notebook itself.

    Returns:
        ``name``, ``seconds`` and ``bytes``.

    Raises:
        ValueError: If a cell fails, prints a warning or a path of this machine, or if the file is too large.
    """
    import nbformat  # here, where they are used: JupyterLab brings them
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    began = time.monotonic()
    client = NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}, record_timing=False, store_widget_state=False
    )
    try:
        client.execute(env={**os.environ, TWINS: "1"})
    except CellExecutionError as error:
        raise ValueError(f"{path.name}: {re.sub(chr(27) + r'[^m]*m', '', str(error)).strip()[-600:]}") from None
    seconds = time.monotonic() - began
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise ValueError(f"{path.name}: a cell warns: {output.text.strip()[:300]}")
            if output.get("data", {}).get(WIDGET) is not None:
                del output.data[WIDGET]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "clockless": {"weights": weights_of("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code"))},
        }
    )
    text = nbformat.writes(notebook) + "\n"
    for place in {str(Path.home()), str(NOTEBOOKS.parent)}:
        if len(place) > 1 and f"{place}/" in text:
            raise ValueError(f"{path.name}: an output holds a path of this machine, {place}")
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"{path.name} takes {len(text.encode()):,} bytes with its outputs, at most {MAX_BYTES:,}")
    files.write_atomically(out or path, text)
    return {"name": path.stem, "seconds": round(seconds, 1), "bytes": len(text.encode())}
