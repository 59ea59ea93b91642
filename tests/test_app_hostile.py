"""What nobody should send: every endpoint answers in words, keeps nothing, and serves the next honest request."""

import io
import json
import struct
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image

pytestmark = pytest.mark.slow

PAIR = "celeba32-unet-velocity"


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is this large and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def honest_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def animated_gif() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("P", (9000, 9000)) for _ in range(2)]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


FILES = {
    "bomb.png": png_header(30_000, 30_000),
    "wide.png": png_header(2**30, 1),
    "large.png": png_header(20_000, 20_000),
    "zero.png": png_header(0, 0),
    "truncated.png": honest_png()[:200],
    "flipped.png": bytes(byte ^ (0xFF if 60 < i < 90 else 0) for i, byte in enumerate(honest_png())),
    "large.gif": animated_gif(),
    "script.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "entity.svg": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>',
    "page.png": b"<html><script>alert(1)</script></html>",
    "pickle.png": b"\x80\x04\x95\x1e\x00\x00\x00",
    "empty.png": b"",
    "text.png": b"x" * 1000,
    "zip.png": b"PK\x03\x04" + b"\0" * 100,
}

# Endpoint, honest arguments by name, and what is put in the place of one.
COMPARE = {"pair": PAIR, "sampler": "heun", "steps": 1, "seed": 0, "count": 1}
SAMPLE = {"model": f"{PAIR}-none", "steps": 1, "count": 1}
CLOCK = {"model": PAIR, "seed": 0, "count": 1, "steps": 1, "clock_offset": 0.0}
POSTERIOR = {"t": 0.5, "seed": 0, "dataset": "celeba", "schedule": "flow"}
SALIENCY = {"model": PAIR, "t": 0.5, "target": "implied-clock", "method": "saliency", "seed": 0}
RULER = {"model": PAIR, "logsnr": 2.0, "seed": 0}
VALUES = [
    ("/compare", COMPARE, {"pair": "../../etc/passwd"}),
    ("/compare", COMPARE, {"pair": "celeba32-unet-velocity\0"}),
    ("/compare", COMPARE, {"pair": "x" * 100_000}),
    ("/compare", COMPARE, {"pair": ""}),
    ("/compare", COMPARE, {"pair": "<img src=x onerror=alert(1)>"}),
    ("/compare", COMPARE, {"sampler": "__import__('os')"}),
    ("/compare", COMPARE, {"steps": 10**9}),
    ("/compare", COMPARE, {"steps": -1}),
    ("/compare", COMPARE, {"steps": 1.5}),
    ("/compare", COMPARE, {"count": 10**6}),
    ("/compare", COMPARE, {"count": 0}),
    ("/compare", COMPARE, {"seed": 2**64}),
    ("/compare", COMPARE, {"seed": -1}),
    ("/compare", COMPARE | {"sampler": "ddim"}, {"eta": 1e308}),
    ("/compare", COMPARE, {"start": -3.0}),
    ("/clock", CLOCK, {"model": "nobody"}),
    ("/clock", CLOCK, {"count": 17}),
    ("/clock", CLOCK, {"steps": 1001}),
    ("/clock", CLOCK, {"clock_offset": 9.0}),
    ("/clock", CLOCK, {"condition": ["told"]}),
    ("/trajectories", COMPARE, {"space": "/etc/passwd"}),
    ("/trajectories", COMPARE, {"projection": "tsne"}),
    ("/trajectories", COMPARE, {"dimensions": 7}),
    ("/trajectories", COMPARE, {"count": 65}),
    ("/sample", SAMPLE, {"model": "../../etc"}),
    ("/sample", SAMPLE, {"model": PAIR}),
    ("/sample", SAMPLE, {"count": 65}),
    ("/sample", SAMPLE, {"sampler": "heun; rm"}),
    ("/probe", {"model": f"{PAIR}-none"}, {"model": "/etc/passwd"}),
    ("/probe", {"model": f"{PAIR}-none"}, {"layer": "../atlas.json"}),
    ("/probe", {"model": f"{PAIR}-none"}, {"view": "x" * 10_000}),
    ("/saliency", SALIENCY, {"target": "os.system"}),
    ("/saliency", SALIENCY, {"method": "../../method"}),
    ("/saliency", SALIENCY, {"t": -0.5}),
    ("/posterior", POSTERIOR, {"t": 1e308}),
    ("/posterior", POSTERIOR, {"dataset": "/work"}),
    ("/posterior", POSTERIOR, {"schedule": "../flow"}),
    ("/ruler", RULER, {"logsnr": 1e6}),
    ("/ruler", RULER, {"seed": 0.5}),
]
# These endpoints want a picture too; an honest one is given where something else is wrong.
WITH_PICTURE = {"/saliency": "image", "/posterior": "picture", "/ruler": "picture"}
# Raw bodies over HTTP: what no client of ours would send.
BODIES = [
    b"",
    b"{",
    b"[]",
    b'{"data": 3}',
    b'{"data": []}',
    b'{"data": [null, null, null, null, null, null, null, null]}',
    b'{"data": [{"path": "/etc/passwd"}, [], {}, "NaN", 1, 2, 3, 4]}',
    json.dumps({"data": [PAIR, "heun", float("nan"), 0, 1, 0, False, None]}).encode(),
    json.dumps({"data": [PAIR, "heun", [[[[]]]], 0, 1, 0, False, None]}).encode(),
    json.dumps({"data": [PAIR] * 500}).encode(),
]


@pytest.fixture(autouse=True)
def the_next_honest_request_works(request, client):
    yield
    seed = zlib.crc32(request.node.name.encode())  # one that was not asked before: a kept answer would say nothing
    found, png, _ = client.predict(**COMPARE | {"seed": seed}, api_name="/compare")
    assert found["pair"] == PAIR and Image.open(png).size[0] > 100


def refused(call) -> str:
    """The words with which a call is refused."""
    try:
        answer = call()
    except Exception as error:  # whatever the client makes of it is what a person reads
        words = str(error)
        assert words and "Traceback" not in words and len(words) < 1500
        return words
    pytest.fail(f"it was taken: {str(answer)[:200]}")


def test_there_are_fifty_of_them():
    assert len(FILES) + len(VALUES) + len(BODIES) >= 50


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_pictures(client, tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    for endpoint, honest in (("/ruler", RULER), ("/posterior", POSTERIOR), ("/saliency", SALIENCY)):
        asked = {WITH_PICTURE[endpoint]: handle_file(tmp_path / name), **honest}
        words = refused(lambda endpoint=endpoint, asked=asked: client.predict(**asked, api_name=endpoint))
        assert name in words or "picture" in words or "file" in words.lower()


@pytest.mark.parametrize("endpoint, honest, bad", VALUES, ids=lambda value: str(value)[:40])
def test_values_that_are_not_allowed(client, tmp_path, endpoint, honest, bad):
    picture = {}
    if endpoint in WITH_PICTURE:
        (tmp_path / "honest.png").write_bytes(honest_png())
        picture = {WITH_PICTURE[endpoint]: handle_file(tmp_path / "honest.png")}
    words = refused(lambda: client.predict(**picture, **{**honest, **bad}, api_name=endpoint))
    assert "\n" not in words.strip()
    name = next(iter(bad))
    assert any(part in words for part in (name, "unknown", "must be", "choose from", "from 1 to 64", "start"))
    assert "root:" not in words


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:40].decode())
def test_bodies_that_are_no_calls(server, body):
    request = urllib.request.Request(
        f"{server}gradio_api/call/compare", data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            event = json.loads(answer.read())["event_id"]
    except urllib.error.HTTPError as error:
        assert 400 <= error.code < 600
        assert b"root:" not in error.read()
        return
    with urllib.request.urlopen(f"{server}gradio_api/call/compare/{event}", timeout=120) as answer:
        said = answer.read().decode()
    assert "event: error" in said and "root:" not in said


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", "checkpoints/index.json", "/proc/self/environ"])
def test_no_file_of_the_machine_is_served(server, path):
    for route in ("gradio_api/file=", "file="):
        try:
            with urllib.request.urlopen(f"{server}{route}{path}", timeout=30) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            assert error.code in (403, 404)
            continue
        assert b"root:" not in body and b'"models"' not in body and b"PATH=" not in body
