"""The app as a person starts it, and a browser that looks at it, for the tests of its tabs."""

import os
import shutil
import signal
from collections import Counter
from urllib.parse import urlparse

import pytest

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they, and what they start, share the cores; torch reads this once
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

from app.screenshots import BROWSERS, serving

OWN_HOSTS = {"127.0.0.1", None}  # None: data in the page itself


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests come first, so that at the end no worker waits long for the other."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def shipped():
    """Address and process number of the app on the project's checkpoints."""
    with serving() as (address, process):
        yield address, process
        os.kill(process, signal.SIGCONT)  # or it would not end


@pytest.fixture(scope="module")
def server(shipped):
    """Address of that app, which sleeps between the modules that use it; a module may have a server of its own."""
    address, process = shipped
    os.kill(process, signal.SIGCONT)
    yield address
    os.kill(process, signal.SIGSTOP)  # it asks its queue for work many times a second


@pytest.fixture(scope="module")
def client(server):
    from gradio_client import Client

    return Client(server, verbose=False)


@pytest.fixture(scope="module")  # not for all modules: while Playwright is there, nothing else in the process can run asyncio
def browser():
    from playwright.sync_api import expect, sync_playwright

    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    expect.set_options(timeout=30_000)  # where a test names no other; the machine may be busy
    if executable is None:
        pytest.fail(f"the tests of the app need a browser: none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        # Without a sandbox it also runs as root in a container; it only sees this machine's own pages. Other hosts are not
        # found: a route that refuses them would turn off the cache, and a page takes twice as long without it.
        rules = ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in OWN_HOSTS if host)])
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-background-networking", f"--host-resolver-rules={rules}"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    """A browser context without a way to other machines. Its pages share the compiled scripts; the app stores nothing in it."""
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def open_page(context, server):
    """Opens the app with a query; afterwards nothing may have complained or called another machine."""
    from playwright.sync_api import expect

    complaints, hosts, pages = [], set(), []

    def open_page(query: str = "", width: int = 1280, height: int = 900):
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
        page.goto(server + query)
        expect(page.get_by_role("tablist").first).to_be_visible()
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not context.cookies() and not complaints
    assert hosts <= OWN_HOSTS, hosts


def button(page, name: str):
    """The button of exactly this name."""
    return page.get_by_role("button", name=name, exact=True)


def set_numbers(page, **values: int) -> None:
    """Fills in number fields by their label, as a person does."""
    for label, value in values.items():
        box = page.get_by_label(label, exact=True)
        box.fill(str(value))
        box.blur()


def fill(page, **values: float) -> None:
    """Number fields and sliders by the id of their component, with _ for -."""
    for name, value in values.items():
        box = page.locator(f"#{name.replace('_', '-')} input[type=number]")
        box.fill(str(value))
        box.press("Enter")
        box.blur()


# Notes what is said in a place from now on, where it differs from before.
NOTE = """place => {
  const look = () => document.querySelector(place)?.textContent ?? "";
  window.said = [];
  window.noting?.disconnect();
  let last = look();
  window.noting = new MutationObserver(() => { if (look() !== last) window.said.push(last = look()); });
  window.noting.observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def press(page, pressed, place: str, words: str, timeout: int = 90_000) -> None:
    """Clicks, and waits until ``words`` are said in ``place`` anew: what stands there from before does not count."""
    page.evaluate(NOTE, place)
    pressed.click()
    page.wait_for_function("words => window.said.some(one => one.includes(words))", arg=words, timeout=timeout)


def drawn(page, *parts: str) -> None:
    """Waits until the figures of these components are drawn: they come a moment after the words beside them."""
    for part in parts:
        page.wait_for_function("part => document.querySelector(`#${part} .js-plotly-plot`)?._fullLayout", arg=part)


def choose(page, component: str, option: str) -> None:
    """Picks an option of a menu by the id of its component."""
    page.locator(f"#{component} input").click()
    page.get_by_role("option", name=option, exact=True).click()
