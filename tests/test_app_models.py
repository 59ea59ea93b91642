"""The tab Models: what it shows is what is stored; a person's own model is checked before it is read."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from conftest import button, choose
from playwright.sync_api import expect

from app import models
from explore import cards, zoo
from explore.models import build

NETWORK = {"resolution": 8, "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [4], "head_channels": 8}
CONFIG = {
    "dataset": "mine", "resolution": 8, "architecture": "unet", "time_conditioning": "none", "prediction": "velocity",
    "schedule": "flow", "images_seen": 0, "network": NETWORK,
}  # fmt: skip


@pytest.fixture
def own(tmp_path):
    """Writes a model's two files, with changes to its configuration and tensors."""

    def own(tensors=None, **changes):
        config = CONFIG | changes
        (tmp_path / "config.json").write_text(json.dumps(config))
        weights = tmp_path / "weights.safetensors"
        if tensors is None:
            network = build("unet", "none", NETWORK)
            tensors = {name: tensor.half() for name, tensor in network.state_dict().items()}
        if isinstance(tensors, bytes):
            weights.write_bytes(tensors)
        else:
            safetensors.torch.save_file(tensors, weights)
        return [str(tmp_path / "config.json"), str(weights)]

    return own


ROWS = [("a", 10.0), ("b", 2.0), ("c", None), ("d", 9.0)]


def state(**changes):
    network = build("unet", "none", NETWORK)
    return {name: tensor.half() for name, tensor in network.state_dict().items()} | changes


def test_the_table_is_what_is_stored():
    shown = {row[0]: row for row in models.table()}
    assert list(shown) == list(zoo.index())
    for name, row in shown.items():
        stored = cards.metrics(name)
        distances = cards.distances(stored)
        assert row[6] == (distances["fd"] if distances else None)
        assert (row[11] is None) == (not cards.atlas(name))
    assert len(models.COLUMNS) == len(next(iter(shown.values())))
    json.dumps(models.rows(), allow_nan=False)


def test_the_table_is_sorted_the_best_first_and_what_was_not_measured_last(monkeypatch):
    monkeypatch.setattr(models, "table", lambda: [[name, *["x"] * 3, 1.0, 2.0, fd, *[fd] * 5] for name, fd in ROWS])
    for column, expected in (("FD", "bdac"), ("Recall", "adbc"), ("Model", "abcd"), (models.UNSORTED, "abcd")):
        assert "".join(models.styled(column).data["Model"]) == expected, column
    with pytest.raises(ValueError, match="unknown column 'nothing'"):
        models.styled("nothing")


@pytest.mark.parametrize("name", [*zoo.index()][:2])
def test_a_card_has_its_samples_and_its_text(name):
    picture, text = models.card(name)
    assert "data:image/png" in picture and f"64 samples of {name}" in picture
    assert f"### {name}" in text and "![" not in text and "## Training" in text
    with pytest.raises(ValueError, match="unknown model"):
        models.card("../index")


def test_a_model_of_ones_own_is_what_was_written(own):
    denoiser = models.read_own(own())
    expected = build("unet", "none", NETWORK).half().float()
    xt = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(denoiser.output(xt, 0.5), expected(xt, torch.tensor([0.5, 0.5])))
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())
    words = models.own_words(denoiser, 1.0)
    assert "does not depend on the given t" in words and "velocity" in words


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"architecture": "vit"}, "unknown architecture"),
        ({"schedule": "../x"}, "unknown schedule"),
        ({"prediction": "score"}, "unknown prediction"),
        ({"time_conditioning": "often"}, "unknown time_conditioning"),
        ({"network": NETWORK | {"channels": 10**9}}, "from 0 to 1024"),
        ({"network": NETWORK | {"channels": 1024, "multipliers": [8, 8, 8]}}, "at most 16,000,000"),
        ({"network": NETWORK | {"multipliers": [1] * 99}}, "numbers of a network"),
        ({"network": NETWORK | {"flavour": 3}}, "describes no network"),
        ({"network": NETWORK | {"channels": 0}}, "describes no network"),
        ({"network": NETWORK | {"resolution": 16}}, "resolution is not"),
        ({"network": NETWORK | {"channels": 16}}, "does not fit"),
        ({"resolution": "8"}, "'resolution' is missing"),
        ({"tensors": b"PK\x03\x04 a pickle, say"}, "not a safetensors file"),
        ({"tensors": b""}, "not a safetensors file"),
        ({"tensors": state(more=torch.zeros(3))}, "'more' is none of the network's"),
        ({"tensors": {"head.bias": torch.zeros(3)}}, "does not fit"),
        ({"tensors": state(**{"stem.bias": torch.full((8,), float("nan")).half()})}, "not finite"),
    ],
)
def test_files_that_make_no_model_are_refused_in_one_line(own, changes, message):
    files = own(**changes)
    with pytest.raises(ValueError) as caught:
        models.read_own(files)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_large_files_and_missing_ones_are_refused_before_they_are_read(own, monkeypatch):
    files = own()
    with pytest.raises(ValueError, match=r"config\.json and weights\.safetensors is missing"):
        models.read_own(None)
    with pytest.raises(ValueError, match=r"weights\.safetensors is missing"):
        models.read_own(files[:1])
    monkeypatch.setattr(zoo, "MAX_FOREIGN_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 1,000 are read"):
        models.read_own(files)


# In a browser --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_sorts_and_the_cards_open(open_page):
    page = open_page("?tab=models")
    expect(page.locator("#models-table")).to_contain_text("celeba32-unet-velocity-timestep", timeout=60_000)
    figures = page.locator("#models-table [role=gridcell][data-col='6']")
    stored = sorted(row[6] for row in models.table())
    assert figures.all_inner_texts() != [f"{fd:.2f}" for fd in stored]
    choose(page, "models-order", "FD")
    expect(figures).to_have_text([f"{fd:.2f}" for fd in stored])
    expect(page.locator("#models-samples img")).to_be_visible()
    page.locator("#models-choice input").click()
    page.get_by_role("option", name="cifar10-unet-velocity-none", exact=True).click()
    expect(page.locator("#models-card")).to_contain_text("cifar10-unet-velocity-none")
    expect(page.locator("#models-card")).to_contain_text("Images seen")


@pytest.mark.slow
def test_no_number_of_a_card_is_broken_on_a_phone(open_page):
    page = open_page("?tab=models", width=390, height=844)
    expect(page.locator("#models-card td").first).to_be_visible()
    lines = page.locator("#models-card td").evaluate_all("""cells => cells.filter(cell => /^[-+.\\d]+$/.test(cell.textContent))
        .map(cell => { const range = document.createRange(); range.selectNodeContents(cell);
                       return new Set([...range.getClientRects()].map(box => box.top)).size; })""")
    assert len(lines) > 40 and set(lines) == {1}
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_a_model_of_ones_own_is_sampled_and_a_damaged_one_refused(open_page, own, tmp_path):
    page = open_page("?tab=models", width=390, height=844)
    folder = tmp_path / "given"
    folder.mkdir()
    files = [shutil.copy(file, folder) for file in own()]
    page.locator("#models-files input[type=file]").set_input_files(files)
    button(page, "Check and sample").click()
    expect(page.locator("#models-summary")).to_contain_text("predicts velocity", timeout=60_000)
    expect(page.locator("#models-own-samples img")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page = open_page("?tab=models")
    files = own(tensors=b"nothing")
    page.locator("#models-files input[type=file]").set_input_files(files)
    button(page, "Check and sample").click()
    expect(page.locator("#models-status [role=alert]")).to_contain_text("not a safetensors file", timeout=60_000)


@pytest.mark.slow
def test_a_shipped_model_can_be_given_and_one_that_does_not_fit(open_page):
    page = open_page("?tab=models")
    page.wait_for_timeout(1000)  # a click on a page that is still being built is lost
    page.locator("#own-example-1").click()
    expect(page.locator("#models-summary")).to_contain_text("predicts velocity", timeout=60_000)
    expect(page.locator("#models-files")).to_contain_text("weights.safetensors")
    expect(page.locator("#models-own-samples img")).to_have_count(1)
    page.locator("#own-example-2").click()
    expect(page.locator("#models-status [role=alert]")).to_contain_text("does not fit config.json", timeout=60_000)
    expect(page.locator("#models-own-samples img")).to_have_count(0)


@pytest.mark.slow
def test_other_programs_get_the_figures(client):
    found = client.predict(api_name="/models")
    assert [row["name"] for row in found] == list(zoo.index())
    assert found[0]["fd"] == pytest.approx(cards.distances(cards.metrics(found[0]["name"]))["fd"])
