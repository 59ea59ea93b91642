"""Starts the app: ``python -m app [--port N] [--host 127.0.0.1] [--no-browser]``.

Adding a tab is one module and one line in ``TABS``. The module has a function ``build(page)``; it may have ``CSS``, a ``HEAD``
for the page's head, a function ``tour()`` that gives its stops of the guided tour, and a function ``warm_up()`` for what its
first use would wait for. Depends on the tabs only.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import gradio as gr

from app import clock, compare, models, quiz, saliency, sampling, start, style, theory, trajectories

QUESTION = (
    "Does a diffusion model need to be told the timestep? The models of a pair were trained alike; "
    "one is conditioned on the timestep, the other is time-agnostic."
)
MAX_QUEUE = 20  # requests that wait for the models; further ones are refused with a message
KEEP_FILES = (300, 3600)  # Gradio's own copies of files: look every 5 minutes, delete after an hour

TABS: dict[str, ModuleType] = {
    "Start": start,
    "Compare": compare,
    "Clock": clock,
    "Saliency": saliency,
    "Trajectories": trajectories,
    "Theory": theory,
    "Models": models,
    "Quiz": quiz,
}

# System fonts: the page asks no other machine for anything. The primary button is ink on paper, because blue and
# orange already mean the two members.
THEME = gr.themes.Default(primary_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*neutral_700",
    button_primary_background_fill="#1e293b",
    button_primary_background_fill_hover="#334155",
    button_primary_text_color="#ffffff",
    button_primary_background_fill_dark="#e2e8f0",
    button_primary_background_fill_hover_dark="#ffffff",
    button_primary_text_color_dark="#0f172a",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_background_fill_dark="#b91c1c",
    button_cancel_background_fill_hover_dark="#991b1b",
)
CSS = """
#clockless-head h1 { font-size: 1.6rem; font-weight: 700; margin: 0; }
#clockless-head p { margin: .15rem 0 0; max-width: 62rem; }
#clockless-head .html-container { padding: 0; }
.gradio-container button[role=tab][aria-selected=true] { color: var(--body-text-color); }
"""
# Gradio confines CSS to the page's content; what lies around it is styled from the head.
FRAME = """<style>
.gradio-container { overflow: clip !important; } /* hidden would not let the tour stay at the top */
.gradio-container .main.app { max-width: 1440px !important; }
.gradio-container footer .divider { display: none; }
@media (max-width: 640px) {
  .gradio-container .main.app { padding: 12px !important; }
  .gradio-container:has(#tour) { padding-bottom: 56px; } /* below the buttons of the tour */
}
</style>"""
# ?tab=clock opens a tab; an address with settings of a comparison opens that tab.
TAB_JS = """() => {
  const query = new URLSearchParams(window.location.search);
  window.clocklessOpen(query.get("tab") ?? (FIELDS.some(name => query.has(name)) ? "compare" : null));
}""".replace("FIELDS", str(list(sampling.FIELDS)))


def build() -> gr.Blocks:
    """The page with its tabs.

    Raises:
        ValueError: If there are no checkpoints to show.
    """
    with gr.Blocks(title="Clockless", analytics_enabled=False, delete_cache=KEEP_FILES) as page:
        gr.HTML(f"<h1>Clockless</h1><p>{QUESTION}</p>", elem_id="clockless-head")
        start.build_tour(page, TABS)
        with gr.Tabs(overflow_behavior="wrap"):  # a menu would hide tabs on a phone
            for name, tab in TABS.items():
                with gr.Tab(name):
                    tab.build(page)
        page.load(None, None, None, js=TAB_JS)
    return page.queue(max_size=MAX_QUEUE)


def _warm_up() -> None:
    for tab in TABS.values():
        getattr(tab, "warm_up", lambda: None)()


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"port must be a whole number from 1 to 65535, got {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and serves the page until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m app", description="Clockless in the browser.")
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT") or "7860", help="default: $PORT or 7860")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    options = parser.parse_args(arguments)
    # A plain kill ends the process as Ctrl-C does, so that the temporary files go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="clockless-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "gradio")
        try:
            page = build()
        except ValueError as error:
            parser.error(str(error))
        threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
        try:
            page.launch(
                server_name=options.host,
                server_port=options.port,
                inbrowser=not options.no_browser,
                theme=THEME,
                css=CSS + style.CSS + "".join(getattr(tab, "CSS", "") for tab in TABS.values()),
                head=FRAME + "".join(getattr(tab, "HEAD", "") for tab in TABS.values()),
                footer_links=["api"],
                run_history=False,
                ssr_mode=False,
                show_error=True,
                max_file_size="20mb",
            )
        except OSError as error:
            parser.error(f"cannot listen on {options.host}:{options.port}: {error}")


if __name__ == "__main__":
    main()
