"""The course: its notebooks keep their rules, run on the shipped checkpoints, and read well on a page without a kernel."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import ipywidgets as widgets
import nbformat
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from explore import cards, course, zoo
from explore.__main__ import app
from explore.experiments import Compare

NOTEBOOKS = sorted(course.NOTEBOOKS.glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]
WIDTHS = (1200, 390)
# A path of whichever machine ran it: absolute, of at least two parts; or an address in memory.
MACHINE = re.compile(r"(?<![\w./<:+=\\-])/[A-Za-z_][\w.-]*/[\w./-]*|site-packages|0x[0-9a-f]{6,}")

# Runs in the notebook's own kernel when all its cells are through: every control of every view is moved, and must draw.
EXERCISE = """
import ipywidgets
from explore import course as _course

def _other(control):
    if isinstance(control, ipywidgets.Dropdown):
        return control.options[(control.options.index(control.value) + 1) % len(control.options)]
    if isinstance(control, ipywidgets.Checkbox):
        return not control.value
    if isinstance(control, ipywidgets.FloatRangeSlider):
        return (control.value[0] + control.step, control.value[1])
    return control.value - control.step if control.value >= control.max else control.value + control.step

for _name, _view in [(n, v) for n, v in list(globals().items()) if isinstance(v, _course.View) and not n.startswith("_")]:
    for _control in _view.controls.values():
        _before = _view.drawings
        _control.value = _other(_control)
        if _view.button is None:
            assert _view.drawings == _before + 1 and not _view.message, (_name, _control.description, _view.message)
    if _view.button is not None:
        _before = _view.drawings
        _view.button.click()
        assert _view.drawings == _before + 1 and not _view.message, (_name, _view.message)
    assert _view.parts
    print("exercised", _name)
"""


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_the_course_is_there():
    assert len(NOTEBOOKS) >= 7
    assert [path.stem[:2] for path in NOTEBOOKS] == sorted({path.stem[:2] for path in NOTEBOOKS})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_asks_first_and_answers_last(path):
    cells = read(path).cells
    first, last = cells[0].source, cells[-1].source
    assert first.startswith(f"# {path.stem[:2]} · ")
    for part in ("**Question.**", "**Before this.**", "**Running time.**", "**You will be able to**"):
        assert part in first
    assert cells[1].cell_type == "code" and "import" in cells[1].source
    assert re.search(r"^SEED, COUNT, DEVICE = ", cells[1].source, re.MULTILINE)
    assert re.search(r"^## Answer$", last, re.MULTILINE) and re.search(r"^## References$", last, re.MULTILINE)
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert prose.count("**Predict") >= 2
    assert prose.count("<details><summary>Solution</summary>") == prose.count("</details>") >= 3
    assert sum(cell.source.count("assert ") for cell in code_cells(path)) >= 3
    assert len({cell.id for cell in cells}) == len(cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_cells_are_short_and_define_nothing_that_the_library_should(path):
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 15, cell.source
        assert max(map(len, cell.source.splitlines())) <= 150, cell.source
        if not path.stem.startswith("08"):  # there the reader's own network is the subject
            assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_figures_quoted_in_prose_are_computed_above(path):
    """A number with decimals after a code cell is in that cell or in what it put out, within its own precision."""
    above = ""
    for cell in read(path).cells[1:]:
        if cell.cell_type == "code":
            above = cell.source + json.dumps(cell.outputs)
            continue
        prose = re.sub(
            r"<details>.*?</details>|^\|.*$|```.*?```|## References.*", "", cell.source, flags=re.DOTALL | re.MULTILINE
        )
        prose = re.sub(r"arXiv \d+\.\d+|`[^`]*`", "", prose)
        # What the next cell will be asked is no quotation of the one above; settings such as t = 0.3 are none either.
        prose = re.split(r"\*\*Predict", prose)[0]
        for number in re.findall(r"(?<![\w=.])(?<!= )\d*\.\d+", prose):
            assert number.lstrip("0") in above, f"{number} is not computed above: {prose[:200]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_is_committed_executed_and_reads_without_a_kernel(path):
    assert path.stat().st_size < course.MAX_BYTES
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    # All that can be read; pictures are base64, which has slashes of its own.
    said = [
        {kind: text for kind, text in {**output.get("data", {}), "text": output.get("text", "")}.items() if kind != "image/png"}
        for cell in cells
        for output in cell.outputs
    ]
    words = re.sub(r"data:image/[^\"\\']*", "", json.dumps(said)).replace("/tmp/pictures", "")
    assert not MACHINE.search(words), MACHINE.search(words)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    shown = [output for output in outputs if "data" in output]
    assert not [output for output in shown if course.WIDGET in output.data]
    for output in shown:
        assert {"image/png", "text/html"} & set(output.data), output.data.get("text/plain")
        if "image/png" in output.data:
            assert len(output.metadata["image/png"]["alt"]) > 10


def test_the_command_line_lists_the_course():
    listed = CliRunner().invoke(app, ["course"])
    assert listed.exit_code == 0 and all(name in listed.output for name in IDS)
    rows = json.loads(CliRunner().invoke(app, ["course", "--json"]).output)
    assert [row["name"] for row in rows] == IDS and all(row["question"].endswith("?") and row["time"] for row in rows)
    assert "choose from" in str(CliRunner().invoke(app, ["course", "nothing"]).exception)


def test_execute_writes_outputs_and_refuses_what_nobody_should_see(tmp_path):
    source = tmp_path / "01_small.ipynb"

    def write(code):
        cells = [nbformat.v4.new_markdown_cell("# 01 · Small\n\n**Question.** Why?\n\n**Running time.** None.")]
        nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(code)]), source)

    write("from explore import course\ncourse.table([{'a': 1, 'b': 0.25}])")
    assert course.course(tmp_path) == [{"name": "01_small", "title": "01 · Small", "question": "Why?", "time": "None."}]
    done = course.execute(source)
    assert done["bytes"] == source.stat().st_size and "0.25" in code_cells(source)[0].outputs[0].data["text/html"]
    for code, words in (
        ("import warnings; warnings.warn('careful')", "warns"), ("1 / 0", "ZeroDivisionError"),
        (f"print('{course.NOTEBOOKS}/x')", "path of this machine"), ("print('x' * 10**6)", "bytes"),
    ):  # fmt: skip
        write(code)
        with pytest.raises(ValueError, match=words):
            course.execute(source)


def test_an_atlas_is_shown_with_the_t_that_was_told():
    stored = [cards.atlas(name) for name in zoo.members_of("celeba32-unet-velocity")]
    assert course.atlas_titles(stored) == ["conditioned (random t)", "time-agnostic"]
    fixed = [stored[0] | {"told": "fixed:0.05"}, stored[1]]
    assert course.atlas_titles(fixed) == ["conditioned (fixed t = 0.05)", "time-agnostic"]
    first, second, *baselines = course.atlas_errors(fixed)
    for row, atlas in zip((first, second), fixed):
        errors = [
            one["error_over_yardstick_by_region"]["near_the_data"]["value"] for one in atlas["layers"] if one["name"] != "input"
        ]
        assert row["near the data"] == min(errors) and row["gain over random"] > 0
        assert row["estimator"].endswith(": " + atlas["best"]["name"])
    assert first["estimator"].startswith("conditioned (fixed t = 0.05)")
    assert {row["estimator"] for row in baselines} > {"picture alone: wavelet MAD", "picture alone: variance"}
    assert all(row["gain over random"] is None and "told t" not in row["estimator"] for row in baselines)


def test_weights_of_names_the_models_of_a_source_by_name_and_by_pair():
    index = zoo.index()
    pair = [f"celeba32-unet-velocity-{kind}" for kind in ("timestep", "none")]
    assert course.execution.weights_of('members_of("celeba32-unet-velocity")') == {name: index[name]["sha256"] for name in pair}
    assert list(course.execution.weights_of('load("celeba32-unet-velocity-none")')) == pair[1:]
    assert course.execution.weights_of("celeba32-unet-velocity-none2 x") == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_names_the_weights_of_its_models(path):
    stored = read(path).metadata["clockless"]["weights"]
    assert set(stored) == set(course.execution.weights_of("\n".join(cell.source for cell in code_cells(path))))


# The kernel reaches no data set and no network: every address but this machine's own is refused.
OFFLINE = """import socket as _s
_c = _s.socket.connect
def _refuse(own, address):
    assert own.family == _s.AF_UNIX or address[0] in ('127.0.0.1', '::1', 'localhost'), address
    return _c(own, address)
_s.socket.connect = _refuse"""


@pytest.fixture(scope="module")
def kernel():
    """A client whose kernel the notebooks share, each in an empty namespace, because the imports take seconds."""
    first = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(OFFLINE)])
    client = NotebookClient(first, timeout=500, resources={"metadata": {"path": str(course.NOTEBOOKS)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOCKLESS_DATA", str(course.NOTEBOOKS / "no-such-folder"))
        patch.delenv(course.TWINS, raising=False)
        client.execute(cleanup_kc=False)
    yield client
    client.nb = first
    client.execute(cleanup_kc=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_runs_offline_and_its_controls_draw(path, kernel):
    notebook = read(path)
    for cell in notebook.cells:
        cell.pop("outputs", None) if cell.cell_type != "code" else cell.update(outputs=[], execution_count=None)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    notebook.cells.append(nbformat.v4.new_code_cell(EXERCISE))
    kernel.nb = notebook
    kernel.execute(cleanup_kc=False)
    said = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    kinds = "noising|one_step|film|compare|posterior|exact|layer_reading|lied_to|steering|attribution|paths"
    source = "\n".join(cell.source for cell in notebook.cells[1:-1])
    made = len(re.findall(rf"course\.(?:{kinds})\(", source))
    assert said.count("exercised") == made


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_the_page_of_a_notebook_shows_every_figure(path, tmp_path, browser):
    from nbconvert import HTMLExporter

    notebook = read(path)
    page_path = tmp_path / f"{path.stem}.html"
    page_path.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    pictures = sum("image/png" in output.get("data", {}) for cell in code_cells(path) for output in cell.outputs)
    for width in WIDTHS:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
        page.goto(page_path.as_uri(), wait_until="load")
        found = page.evaluate(
            """() => [...document.querySelectorAll('.jp-OutputArea-output img')].map(image => {
                const box = image.getBoundingClientRect();
                return {natural: image.naturalWidth, left: box.left, right: box.right, height: box.height};
            })"""
        )
        assert len(found) == pictures
        for box in found:
            assert box["natural"] > 50 and box["height"] > 40 and 0 <= box["left"] < box["right"] <= width, (width, box)
        scroll = page.evaluate("document.scrollingElement.scrollWidth")
        assert scroll <= width, f"the page scrolls sideways at {width} px: {scroll}"
        assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        page.close()


def accept(dialog):
    """Presses the button that a dialog of JupyterLab proposes, and says in the test's output what it was."""
    print("a dialog:", " ".join(dialog.inner_text().split()))
    dialog.locator("button.jp-mod-accept").click(timeout=5_000)


@pytest.mark.slow
def test_a_slider_draws_in_jupyterlab(tmp_path, browser):
    """What `make notebooks` opens: the first notebook is run from the menu, and its slider moved, as a student does it."""
    from playwright.sync_api import TimeoutError, expect

    shutil.copy(NOTEBOOKS[0], tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", f"--notebook-dir={tmp_path}"]
    address = f"http://127.0.0.1:{port}/lab/tree/{NOTEBOOKS[0].name}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}, **quiet) as process:
        try:
            deadline = time.monotonic() + 120
            while True:
                assert process.poll() is None and time.monotonic() < deadline, "JupyterLab did not start"
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                time.sleep(0.3)
            page = browser.new_page(viewport={"width": 1300, "height": 9000})  # a cell out of sight would not be drawn
            # A dialog, such as that of a server that answers late, is accepted, as a person does it.
            dialogs = page.locator(".jp-Dialog").last
            page.add_locator_handler(dialogs, lambda one: accept(one), no_wait_after=True)
            page.goto(address, timeout=120_000)
            expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")).to_be_visible(timeout=120_000)
            # What stands there from the file goes; what comes is drawn by this kernel.
            page.locator(".lm-MenuBar-item", has_text="Edit").click()
            page.locator(".lm-Menu-item", has_text="Clear Outputs of All Cells").click()
            expect(page.locator(".jp-OutputArea-output img")).to_have_count(0)
            view = page.locator(".jp-Cell", has=page.locator(".widget-slider")).first
            # While the kernel still connects a press is lost, or views come as pictures: a person presses again.
            for patience in (60_000, 60_000, 180_000):
                page.locator(".lm-MenuBar-item", has_text="Run").click()
                page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
                with contextlib.suppress(TimeoutError):
                    view.locator("img").first.wait_for(timeout=patience)
                    break
            expect(view.locator("img").first).to_be_visible()
            before, words = view.locator("img").first.get_attribute("src"), view.inner_text()
            view.locator(".noUi-handle").first.focus()
            page.keyboard.press("Home")
            expect(view.locator("img").first).not_to_have_attribute("src", before, timeout=60_000)
            assert view.inner_text() != words
        finally:
            process.terminate()


def test_a_view_draws_what_its_controls_say_and_shows_what_was_wrong():
    view = course.View(lambda x: [f"{x}"], {"x": widgets.IntSlider(1, 0, 3)}, "A number.")
    view.controls["x"].value = 2
    assert view.parts == ["2"] and view.drawings == 2

    def refuse(x):
        if x == 3:
            raise ValueError("three is not allowed")
        return [str(x)]

    view = course.View(refuse, {"x": widgets.IntSlider(1, 0, 3)}, "A number.", button="Go")
    view.controls["x"].value = 3
    assert view.drawings == 1
    view.button.click()
    assert view.message == "three is not allowed" and view.parts == ["1"] and not view.button.disabled


def test_controls_come_from_the_options_of_a_request():
    kinds = {
        "sampler": widgets.Dropdown,
        "steps": widgets.BoundedIntText,
        "eta": widgets.FloatSlider,
        "clamp": widgets.Checkbox,
    }
    controls = course.panel.controls_of(Compare, **(dict.fromkeys(kinds) | {"steps": 7}))
    assert {name: type(control) for name, control in controls.items()} == kinds
    options = Compare.options()
    assert controls["sampler"].options == tuple(options["sampler"].choices())
    assert (controls["steps"].min, controls["steps"].max) == options["steps"].limits and controls["steps"].value == 7
    assert all(control.tooltip == options[name].help for name, control in controls.items())
    assert course.panel.controls_of(Compare, pair=["a", "b"])["pair"].options == ("a", "b")


def test_a_view_shows_progress_and_the_code_of_its_request():
    request, said = Compare("celeba32-unet-velocity", count=2), []

    def draw(x):
        yield "half <done>"
        said.append(view.message if x else "")
        return [request]

    view = course.View(draw, {"x": widgets.IntSlider(0, 0, 3)}, "A request.")
    view.controls["x"].value = 1
    assert said == ["", "half &lt;done&gt;"] and view.message == ""
    assert "result = Compare(" in view.widget.children[-1].value and view.twin() is None


def test_an_interrupt_stops_a_view_but_not_the_next_drawing():
    def draw(x):
        if x == 2:
            raise KeyboardInterrupt
        return [str(x)]

    view = course.View(draw, {"x": widgets.IntSlider(1, 0, 3)}, "A number.", button="Go")
    for value, message, parts in ((2, "Stopped.", ["1"]), (3, "", ["3"])):
        view.controls["x"].value = value
        view.button.click()
        assert (view.message, view.parts, view.button.disabled) == (message, parts, False)
    with pytest.raises(KeyboardInterrupt):
        course.View(draw, {"x": widgets.IntSlider(2, 0, 3)}, "A number.")
