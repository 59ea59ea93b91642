"""One reader for every picture: what a person sees is what library, command line, app and the offered code compute with."""

import io
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app import pairs
from explore import data, zoo
from explore.__main__ import main
from explore.denoiser import Denoiser
from explore.experiments import Posterior
from explore.experiments.model import one_image
from explore.schedules import SCHEDULES
from explore.values import Note

ORIENTATION = 0x0112
# EXIF orientation -> how an upright array is stored under it.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),  # shown after a quarter turn clockwise
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
MODES = ("RGB", "RGBA", "L", "LA", "I;16", "1", "P", "P with a clear color")


@st.composite
def pictures(draw):
    """Mode, orientation, file format, the values shown (H, W, 4) from 0 to 1, and the picture as it is stored."""
    mode, orientation = draw(st.sampled_from(MODES)), draw(st.sampled_from(sorted(STORED)))
    kind = draw(st.sampled_from(["PNG", "WEBP"] if mode in ("RGB", "RGBA") else ["PNG"]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shown = np.ones((height, width, 4))
    if mode == "1":
        values = rng.integers(0, 2, (height, width), dtype=np.uint8) * 255
        shown[..., :3] = values[..., None] / 255
    elif mode == "I;16":
        values = rng.integers(0, 2**16, (height, width)).astype(np.uint16)
        shown[..., :3] = values[..., None] / 65535
    elif mode.startswith("P"):
        palette = rng.integers(0, 256, (4, 3), dtype=np.uint8)
        values = rng.integers(0, 4, (height, width), dtype=np.uint8)
        shown[..., :3] = palette[values] / 255
        shown[..., 3] = np.where(values == 2, 0.0, 1.0) if "clear" in mode else 1.0
    else:
        values = rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
        gray = mode.startswith("L")
        shown[..., :3] = (values[..., :1] if gray else values[..., :3]) / 255
        if mode.endswith("A"):
            shown[..., 3] = values[..., -1] / 255
        values = values[..., 0] if mode == "L" else values
    stored = np.ascontiguousarray(STORED[orientation](values))
    image = Image.fromarray(stored)
    options = {}
    if mode == "1":
        image = image.convert("1", dither=Image.Dither.NONE)
    if mode.startswith("P"):
        image = Image.frombytes("P", image.size, stored.tobytes())
        image.putpalette(palette.tobytes())
        options = {"transparency": 2} if "clear" in mode else {}
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image.save(buffer, format=kind, exif=exif, **options, **lossless)
    return mode, kind, shown, buffer.getvalue()


def on_white(shown: np.ndarray) -> np.ndarray:
    """What a person sees of (H, W, 4) from 0 to 1 on a white page, 0 to 255 and not rounded."""
    alpha = shown[..., 3:]
    return 255 * (shown[..., :3] * alpha + 1 - alpha)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pictures())
def test_reader_gives_what_a_person_sees(tmp_path, case):
    mode, kind, shown, content = case
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(content)
    expected = on_white(shown)
    size = expected.shape[:2]
    found, said = data.read_image(path, size)
    assert found.dtype == torch.uint8 and found.shape == (3, *size)
    # Whole levels, and one more where an alpha channel was multiplied in 8 bits.
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() <= (1.5 if "A" in mode else 0.5)
    assert (data.GRAYSCALE in said) == (mode in ("L", "LA", "I;16", "1"))
    if mode in ("RGBA", "LA") and not (kind == "WEBP" and (shown[..., 3] == 1).all()):  # WebP drops an opaque alpha channel
        assert data.TRANSPARENT in said
    # Brightness alone, for models of one channel, by the weights of ITU-R 601.
    one = data.load_image(path, size, channels=1)
    brightness = found.permute(1, 2, 0).numpy() @ np.array([0.299, 0.587, 0.114])
    assert one.shape == (1, *size) and np.abs(one[0].numpy() - brightness).max() <= 1.01
    # A folder, a zip and the command line read it alike.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        (folder / path.name).write_bytes(content)
        assert torch.equal(data.load_images(folder, size, "all")[0], found)
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr(path.name, content)
        assert torch.equal(data.load_images(tmp_path / "x.zip", size, "all")[0], found)
        denoiser = Denoiser(torch.nn.Identity(), SCHEDULES["flow"], "x0", (3, *size))
        assert torch.equal(one_image(str(path), 0, denoiser.shape)[0][0], found)


@pytest.fixture
def oddities(tmp_path):
    """The pictures of a bug report: a sideways photograph, hidden red, and 16 bits of gray."""
    stored = np.zeros((32, 64, 3), dtype=np.uint8)
    stored[:, :32] = 255  # white on the left; a quarter turn clockwise shows it above
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(stored).save(tmp_path / "sideways.jpg", exif=exif, quality=95)
    red = np.zeros((32, 32, 4), dtype=np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "hidden.png")
    Image.fromarray(np.full((32, 32), 32896, dtype=np.uint16)).save(tmp_path / "gray16.png")
    return tmp_path


def test_sideways_transparent_and_16_bit_pictures_have_the_right_values(oddities):
    upright = data.load_image(oddities / "sideways.jpg", (64, 32))
    assert upright[:, :30].float().mean() > 254 and upright[:, 34:].float().mean() < 1
    assert (data.load_image(oddities / "hidden.png", 32) == 255).all()
    assert (data.load_image(oddities / "gray16.png", 32) == 128).all()


@pytest.mark.parametrize("name", ["sideways.jpg", "hidden.png", "gray16.png"])
def test_app_and_the_code_it_offers_read_alike(oddities, name):
    picture, _ = pairs.read_picture(oddities / name, 32)
    known: dict = {}
    exec(Posterior(str(oddities / name)).code, known)
    assert torch.equal(known["result"].picture[0], picture)
    assert torch.equal(data.load_image(oddities / name, 32), picture)


def test_16_bit_gray_may_have_a_clear_value(tmp_path):
    values = np.array([[0, 65535], [300, 0]], dtype=np.uint16)
    image = Image.fromarray(values)
    image.save(tmp_path / "a.png", transparency=0)
    if "transparency" not in Image.open(tmp_path / "a.png").info:  # written by hand: the chunk is two bytes
        content = (tmp_path / "a.png").read_bytes()
        place = content.index(b"IDAT") - 4
        import struct
        import zlib

        chunk = b"tRNS" + struct.pack(">H", 0)
        (tmp_path / "a.png").write_bytes(
            content[:place] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[place:]
        )
    assert data.load_image(tmp_path / "a.png", 2)[0].tolist() == [[255, 255], [1, 255]]


def test_shapes_other_than_squares_are_cropped_and_resized(tmp_path):
    pixels = np.zeros((30, 60, 3), dtype=np.uint8)
    pixels[:, 7:53] = 255  # 45 x 30 and an edge, three to two
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = data.load_image(tmp_path / "wide.png", (16, 24))
    assert found.shape == (3, 16, 24) and (found[:, :, 1:-1] >= 250).all()
    Image.fromarray(pixels.swapaxes(0, 1)).save(tmp_path / "tall.png")
    assert data.load_image(tmp_path / "tall.png", (24, 16)).shape == (3, 24, 16)
    with pytest.warns(Note, match="fewer than 20"):
        assert data.load_images(tmp_path, (16, 24), "train").shape == (1, 3, 16, 24)
    with pytest.raises(ValueError, match="one number, or"):
        data.load_image(tmp_path / "wide.png", (16, 24, 3))
    with pytest.raises(ValueError, match="not into 4"):
        data.load_image(tmp_path / "wide.png", 8, channels=4)


# Archives and folders as people have them ----------------------------------------------------------------------------------


def png(value: int = 0, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value,) * 3).save(buffer, format="PNG")
    return buffer.getvalue()


def test_archives_of_macos_are_read_and_what_is_skipped_is_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "FACES.ZIP", "w") as archive:
        for number in range(20):
            archive.writestr(f"faces/{number:02d}.PNG", png(number))
            archive.writestr(f"__MACOSX/faces/._{number:02d}.PNG", b"\x00\x05\x16\x07 a resource fork")
        archive.writestr("faces/.DS_Store", b"x")
        archive.writestr("dataset.json", "{}")
    with pytest.warns(Note, match=r"20 images; skipped 21 other files \(__MACOSX/faces/\._00\.PNG, .* and 18 more\)"):
        found = data.load_images(tmp_path / "FACES.ZIP", 8, "all")
    assert found[:, 0, 0, 0].tolist() == list(range(20))


def test_folders_of_zips_in_capitals_and_links_are_followed(tmp_path):
    (tmp_path / "real" / "deep").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "real" / "deep" / f"{number}.png").write_bytes(png(number))
    (tmp_path / "real" / "deep" / "back").symlink_to(tmp_path / "real")  # a circle
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "real")
    assert len(data.load_images(tmp_path / "data", 8, "all")) == 3
    with zipfile.ZipFile(tmp_path / "Train-0.ZIP", "w") as archive:
        archive.writestr("a.png", png(7))
    (tmp_path / "Test.zip").write_bytes((tmp_path / "Train-0.ZIP").read_bytes())
    assert data.load_images(tmp_path, 8, "train").float().mean() == 7
    assert len(data.load_images(tmp_path, 8, "all")) == 2


def test_few_pictures_still_hold_one_out(tmp_path, capsys):
    for number in range(12):
        (tmp_path / f"{number:02d}.png").write_bytes(png(number))
    with pytest.warns(Note, match="12 images, fewer than 20: only the last one is held out"):
        train, test = data.load_images(tmp_path, 8, "train"), data.load_images(tmp_path, 8, "test")
    assert train[:, 0, 0, 0].tolist() == list(range(11)) and test[:, 0, 0, 0].tolist() == [11]
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.png").write_bytes(png())
    with pytest.raises(ValueError, match=r"holds one image, so none is held out.*--split all"):
        data.load_images(one, 8, "test")
    assert len(data.load_images(one, 8, "train")) == 1


def damaged_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/a.png", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)


def bomb(path):
    """A PNG whose header claims 20,000 x 20,000 pixels."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


def large_member(path):
    """A member that unpacks to 400 MB, in an archive of 400 kB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("in/large.png", "w") as member,
    ):
        for _ in range(8):
            member.write(bytes(50 * 10**6))


def encrypted(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in/a.png", png())
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of encryption, in the member's header and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


UNREADABLE = [
    ("x.zip", damaged_zip, r"x\.zip:in/a\.png"),
    ("x.zip", large_member, r"x\.zip:in/large\.png has 400,000,000 bytes; a picture may have at most"),
    ("x.zip", encrypted, r"cannot read x\.zip:in/a\.png: .*encrypted"),
    ("x.zip", lambda path: path.write_bytes(b"PK not a zip"), r"cannot read .*x\.zip as a zip file"),
    ("a.png", bomb, r"a\.png has .*pixels"),
    ("a.png", lambda path: path.write_bytes(png(side=200)[:120]), r"cannot read .*a\.png as an image"),
    ("a.png", lambda path: path.write_bytes(b""), r"cannot read .*a\.png as an image"),
    ("a.png", lambda path: path.symlink_to("nowhere"), r"a\.png as an image: it is a link to nowhere, which does not exist"),
    ("a.png", lambda path: Image.new("RGB", (9, 9)).save(path, format="TIFF"), r"cannot read .*a\.png as an image; PNG, JPEG"),
    ("a.png", lambda path: Image.new("1", (9000, 9000)).save(path), r"9000 x 9000 pixels; at most 40 million"),
]


@pytest.mark.parametrize(("name", "make", "message"), UNREADABLE)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, name, make, message, capsys):
    make(tmp_path / name)
    source = tmp_path / name if name.endswith(".zip") else tmp_path
    with pytest.raises(ValueError, match=message) as error:
        data.load_images(source, 8, "all")
    assert "\n" not in str(error.value) and "0x" not in str(error.value)
    assert main(["gaussian", "x", "--data", str(source), "--resolution", "8"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and not (zoo.folder("gaussian") / "x-8.safetensors").exists()
    if name == "a.png":
        with pytest.raises(ValueError, match=r"a\.png"):
            data.load_image(tmp_path / name, 8)


def test_no_message_shows_an_address(tmp_path, capsys):
    from explore.values import one_line

    assert one_line("cannot identify <_io.BytesIO object at 0x7f2a5c1e>\n now") == "cannot identify <_io.BytesIO> now"
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(ValueError) as error:
        data.load_images(tmp_path, 8, "all")
    assert "BytesIO" not in str(error.value)


def test_grayscale_pictures_in_a_folder_are_counted(tmp_path):
    for number in range(3):
        image = Image.new("L" if number else "RGB", (8, 8), 100)
        image.save(tmp_path / f"{number}.png")
    with pytest.warns(Note, match="2 of 3 images: The picture is grayscale"):
        found = data.load_images(tmp_path, 8, "all")
    assert (found[1:] == 100).all()
    with pytest.warns(Note, match="1 of 3 images: The picture's colors are dropped"):
        assert data.load_images(tmp_path, 8, "all", channels=1).shape == (3, 1, 8, 8)
