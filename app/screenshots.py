"""Pictures of every tab and of the tour, for the README: ``python -m app.screenshots [--out docs] [--only TAB ...]``.

Starts the app on a free port, opens each tab in headless Chromium, does what a person would do first, and keeps what is seen;
of the guided tour, one of its stops.
Needs Playwright (the extra ``test``) and a Chromium on the machine. Depends on ``app.__main__`` for the tabs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app import start
from app.__main__ import TABS
from explore import files
from explore.values import choose

REPOSITORY = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 860}
PATIENCE = 300_000  # milliseconds, on a busy machine
# Tab -> what is pressed, one after the other, each with where and what to wait for.
ACTS: dict[str, list[tuple[str, str, str]]] = {
    "Start": [("#start-films .pause input", "#start-films", "Run it live")],
    "Compare": [("#denoise", "#status", "Shown")],
    "Clock": [("#clock-go", "#clock-summary", "Finished")],
    "Saliency": [("#saliency-go", "#saliency-status", "Finished")],
    "Trajectories": [("#paths-go", "#paths-status", "Shown")],
    "Theory": [("#posterior-go", "#posterior-status", "Computed in"), ("#exact-go", "#exact-status", "Done")],
    "Models": [],
    "Quiz": [("#quiz-go", "#quiz-status", "Which one is")],
}
TOUR = "Tour"


def planned(name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Query of the address and what is done, of a tab or of the tour's stop that gives a wrong t."""
    if name != TOUR:
        return f"tab={name.lower()}", ACTS[name]
    number = next(number for number, (_, stop) in enumerate(start.stops(TABS), start=1) if stop.press.startswith("clock"))
    return f"tour={number}", [(f"#tour-show-{number}", "#clock-summary", "Finished")]


@contextlib.contextmanager
def serving(**environment: str) -> Iterator[tuple[str, int]]:
    """Address and process number of an app of its own, with these environment variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "app", "--port", str(port), "--no-browser"]
    with (
        tempfile.TemporaryFile("w+") as complaints,  # a pipe that nobody reads would fill, and stop the app
        subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=complaints, env={**os.environ, **environment}
        ) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE / 1000
            while True:
                if process.poll() is not None or time.monotonic() > deadline:
                    complaints.seek(0)
                    said = complaints.read() if process.poll() is not None else "no answer"
                    raise ValueError(f"the app did not start: {' '.join(said.split())[-300:]}")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                    break
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}/", process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def take(names: Sequence[str], out: Path) -> list[Path]:
    """Writes ``NAME.jpg`` of each of these tabs, or of the tour, into ``out``.

    Raises:
        ValueError: For an unknown tab, or if there is no browser, no Playwright, or the app does not start.
    """
    for name in names:
        choose("tab", name, [*TABS, TOUR])
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        raise ValueError(f"a browser is needed: none of {', '.join(BROWSERS)} is installed")
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        raise ValueError("Playwright is needed: pip install -e '.[test]'") from None
    written = []
    with serving() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-background-networking"]
        )
        for name in names:
            page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
            query, acts = planned(name)
            page.goto(f"{address}?{query}&__theme=light", timeout=PATIENCE)
            for button, place, words in acts:
                page.locator(button).click(timeout=PATIENCE)
                expect(page.locator(place)).to_contain_text(words, timeout=PATIENCE)
            page.wait_for_timeout(3000)  # figures are drawn after the words
            whole: dict[str, Any] = {}
            if name != TOUR:  # which stays at the top of what is in sight
                page.evaluate("window.scrollTo(0, 0)")
                height: Any = page.evaluate("document.documentElement.scrollHeight")
                clip = {"x": 0, "y": 0, "width": SIZE["width"], "height": min(int(height), 1500)}
                whole = {"full_page": True, "clip": clip}
            picture = page.screenshot(type="jpeg", quality=82, **whole)
            files.write_atomically(out / f"{name.lower()}.jpg", picture)
            written.append(out / f"{name.lower()}.jpg")
            page.close()
        browser.close()
    return written


def main() -> int:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m app.screenshots", description="Pictures of every tab.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs")
    parser.add_argument("--only", nargs="+", default=[*TABS, TOUR], help="tabs, by name, or Tour")
    options = parser.parse_args()
    try:
        for path in take(options.only, options.out):
            print(os.path.relpath(path))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
