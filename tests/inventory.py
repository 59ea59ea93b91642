"""What a person can reach: commands and options, endpoints and arguments, controls, notebook views, environment variables.

``python tests/inventory.py`` prints it as JSON. tests/fixtures/inventory.json holds it as it was before experiments were
declared in one place; tests/test_inventory.py holds every entry of it to its present place, or to a sentence why it went.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def commands() -> dict[str, list[str]]:
    """Verb of the command line -> its arguments and options."""
    import typer

    from explore.__main__ import app

    group: Any = typer.main.get_command(app)
    found = {}
    for name, command in sorted(group.commands.items()):
        options = [spelled for parameter in command.params for spelled in (*parameter.opts, *parameter.secondary_opts)]
        found[name] = sorted(one for one in options if one != "--help")
    return found


def endpoints(page: Any) -> dict[str, list[str]]:
    """Named endpoint of the app -> its arguments."""
    info = page.get_api_info()["named_endpoints"]
    return {name: [parameter["parameter_name"] for parameter in one["parameters"]] for name, one in sorted(info.items())}


def controls(page: Any) -> list[str]:
    """Ids of what can be pressed, set or typed in on the page."""
    import gradio as gr

    kinds = (
        gr.Button, gr.Slider, gr.Dropdown, gr.Number, gr.Checkbox, gr.CheckboxGroup, gr.Radio, gr.Image, gr.File, gr.Textbox,
        gr.DownloadButton, gr.Accordion, gr.Gallery,
    )  # fmt: skip
    return sorted({block.elem_id for block in page.blocks.values() if isinstance(block, kinds) and block.elem_id})


def views() -> dict[str, list[str]]:
    """View of the notebooks -> its arguments."""
    from explore import course

    found = {}
    for name, function in sorted(vars(course).items()):
        if inspect.isfunction(function) and not name.startswith("_") and function.__module__.startswith("explore.course."):
            found[name] = list(inspect.signature(function).parameters)
    return found


def variables() -> list[str]:
    """Environment variables that the product reads."""
    pattern = re.compile(r"environ(?:\.get\(|\[)\s*[\"']([A-Z_]+)[\"']")
    sources = [*(ROOT / "explore").rglob("*.py"), *(ROOT / "app").rglob("*.py")]
    return sorted({name for path in sources for name in pattern.findall(path.read_text())})


def launched() -> list[str]:
    """Verbs that share their work under `accelerate launch`, as their help says."""
    import typer

    from explore.__main__ import app

    group: Any = typer.main.get_command(app)
    help_of = {name: " ".join((command.help or "").split()) for name, command in group.commands.items()}
    return sorted([name for name, text in help_of.items() if "`accelerate launch`" in text] + ["train"])


def inventory() -> dict[str, Any]:
    """All of it."""
    from app.__main__ import build

    page = build()
    return {
        "commands": commands(), "endpoints": endpoints(page), "controls": controls(page), "views": views(),
        "environment": variables(), "accelerate launch": launched(), "app": ["--port", "--host", "--no-browser"],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(inventory(), indent=1))
