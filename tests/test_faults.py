"""Every odd or broken file is taken rightly or left out by name, and costs no other row."""

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.config import PackConfig
from helpers.data.images import decode
from helpers.data.layouts.affectnet import FOLDERS, list_affectnet
from helpers.data.layouts.fer2013 import list_fer2013
from helpers.data.layouts.files import Entry, not_an_image
from helpers.data.layouts.rafdb import list_rafdb
from helpers.data.layouts.utkface import list_utkface
from helpers.data.sources import read_source
from helpers.data.store import pack
from helpers.files import InputError


def picture(form="JPEG", mode="RGB", size=(40, 30), seed=0, **options) -> bytes:
    """An encoded picture with some structure."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 5, size[0] // 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size)
    buffer = io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def huge() -> bytes:
    """A PNG whose header promises 20,000 x 20,000 pixels."""
    header = picture("PNG")
    chunk = b"IHDR" + (20000).to_bytes(4, "big") * 2 + header[24:29]
    return header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(exif=exif)


LABELS = "30_1_2_20170101"
NO_IMAGE = not_an_image(Path("c.txt"))[1]
FAULTS: dict[str, tuple[str, bytes, str | None]] = {
    "cut short": (f"{LABELS}01.jpg", picture(size=(200, 200))[:-400], "truncated image"),
    "cut in the header": (f"{LABELS}02.jpg", picture()[:20], "not readable as an image"),
    "zero bytes": (f"{LABELS}03.jpg", b"", "empty file"),
    "text": (f"{LABELS}04.jpg", b"<html>404 Not Found</html>", "not readable as an image"),
    "random bytes": (f"{LABELS}05.jpg", np.random.default_rng(0).bytes(500), "not readable as an image"),
    "one byte changed in a PNG": (f"{LABELS}06.png", picture("PNG")[:60] + b"?" + picture("PNG")[61:],
                                  "not readable as an image"),
    "of another kind": (f"{LABELS}07.webm", b"x", NO_IMAGE),
    "no extension": (f"{LABELS}08", picture(), NO_IMAGE),
    "a thumbnail database": ("Thumbs.db", b"\xd0\xcf", NO_IMAGE),
    "1x1": (f"{LABELS}09.png", picture("PNG", size=(5, 5)), "fewer than 16 pixels a side"),
    "a long strip": (f"{LABELS}10.png", picture("PNG", size=(600, 10)), "fewer than 16 pixels a side"),
    "20,000 x 20,000 in its header": (f"{LABELS}11.png", huge(), "more than 50 million pixels"),
    "three fields in its name": ("30_1_20170101.jpg", picture(), "name has 3 fields, not age_gender_race_time"),
    "five fields in its name": ("30_1_2_3_20170101.jpg", picture(), "name has 5 fields, not age_gender_race_time"),
    "an age of 117": ("117_1_2_20170101.jpg", picture(seed=12), None),
    "a negative age": ("-3_1_2_20170101.jpg", picture(seed=13), None),
    "an age in other digits": ("٣٠_1_2_20170101.jpg", picture(), "age in the name is not 0 to 116"),
    "a gender of 3": ("30_3_2_20170101.jpg", picture(seed=14), None),
    "a race of 5": ("30_1_5_20170101.jpg", picture(seed=15), None),
    "an age and a gender of none": ("117_3_2_20170101.jpg", picture(), "age in the name is not 0 to 116; gender in the "
                                    "name is not 0 to 1"),
    "no gender in its name": ("53__0_20170101.jpg", picture(), "gender in the name is not 0 to 1"),
    "a PNG called .jpg": (f"{LABELS}21.jpg", picture("PNG", seed=21), None),
    "a GIF called .jpg": (f"{LABELS}22.jpg", picture("GIF", seed=22), None),
    "a WebP called .png": (f"{LABELS}23.png", picture("WEBP", seed=23), None),
    "capital extension": (f"{LABELS}24.JPG", picture(seed=24), None),
    "grey": (f"{LABELS}25.jpg", picture(mode="L", seed=25), None),
    "CMYK": (f"{LABELS}26.jpg", picture(mode="CMYK", seed=26), None),
    "16 bits": (f"{LABELS}27.png", picture("PNG", "I;16", seed=27), None),
    "palette": (f"{LABELS}28.png", picture("PNG", "P", seed=28), None),
    "palette with transparency": (f"{LABELS}29.png", picture("PNG", "P", seed=29, transparency=0), None),
    "transparent": (f"{LABELS}30.png", picture("PNG", "RGBA", seed=30), None),
    "black and white": (f"{LABELS}31.png", picture("PNG", "1", seed=31), None),
    "turned by its camera": (f"{LABELS}32.jpg", rotated(), None),
    "progressive": (f"{LABELS}33.jpg", picture(seed=33, progressive=True), None),
    "a space in its name": (f"{LABELS}34 .jpg", picture(seed=34), None),
    "letters beyond ASCII in its name": (f"{LABELS}é三.jpg", picture(seed=35), None),
    "wider than high": (f"{LABELS}36.jpg", picture(size=(300, 60), seed=36), None),
    "larger than the store keeps": (f"{LABELS}37.jpg", picture(size=(900, 700), seed=37), None),
}  # fmt: skip
"""What is wrong with a file -> its name, its bytes, and the reason it is left out for; None where it is a good face."""


@pytest.fixture(scope="module")
def utkface(tmp_path_factory) -> Path:
    """All faults in one folder, with a good face, a folder and a link that leads nowhere."""
    root = tmp_path_factory.mktemp("faults")
    images = root / "UTKFace"
    images.mkdir()
    for name, content, _ in FAULTS.values():
        (images / name).write_bytes(content)
    (images / "20_0_0_20170101.jpg").write_bytes(picture(seed=99))
    (images / f"{LABELS}40.jpg").mkdir()
    os.symlink(images / "nowhere.jpg", images / f"{LABELS}41.jpg")
    return root


def test_every_file_is_taken_or_left_out_by_name_and_none_costs_another_row(utkface):
    found = read_source("utkface", utkface, PackConfig())
    taken, rejected = set(found.table["name"].to_pylist()), dict(found.rejects)
    for what, (name, _, reason) in FAULTS.items():
        place = f"UTKFace/{name}"
        assert (place in taken) == (reason is None), what
        assert rejected.get(place) == reason, what
    assert rejected[f"UTKFace/{LABELS}40.jpg"] == "a folder among the images"
    assert rejected[f"UTKFace/{LABELS}41.jpg"] == "file cannot be opened (No such file or directory)"
    assert "UTKFace/20_0_0_20170101.jpg" in taken
    assert len(taken) + len(rejected) == len(FAULTS) + 3


def test_odd_faces_come_out_of_the_store_upright_in_colour_and_within_the_cap(utkface, tmp_path):
    store = pack({"utkface": utkface}, tmp_path / "faces")
    shapes = {Path(name).stem[len(LABELS) :]: store.image(row).shape for row, name in enumerate(store.faces["name"])}
    assert shapes["32"] == (40, 30, 3), "turned upright"
    assert shapes["37"] == (224, 288, 3) and shapes["36"] == (58, 288, 3)
    assert all(store.image(row).dtype == np.uint8 and store.image(row).std() > 5 for row in range(len(store)))
    encoded = read_source("utkface", utkface, PackConfig()).table["image"].to_pylist()
    assert all(decode(content).ndim == 3 for content in encoded)


PARTS = {
    list_fer2013: ["train", "test", "angry", "happy", "joy", "a.jpg", "b.PNG", "c.txt"],
    list_utkface: ["UTKFace", "crop_part1", "30_1_2_1.jpg", "x.jpg", "c.txt"],
    list_rafdb: ["DATASET", "train", "test", "1", "7", "8", "train_00001_aligned.jpg", "train_labels.csv", "c.txt"],
    list_affectnet: [*FOLDERS[:3], "contempt", "joy", "image0000001.jpg", "labels.csv", "c.txt"],
}
"""Names of which the trees are made."""


@pytest.mark.parametrize("reader", PARTS)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_tree_of_files_is_listed_once_each_or_refused_in_one_sentence(reader, data, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    paths = st.lists(st.sampled_from(PARTS[reader]), min_size=1, max_size=4).map(lambda parts: root.joinpath(*parts))
    contents = st.sampled_from([b"", b"image,label\ntrain_00001_aligned.jpg,1\n", b"pth,label\nanger/x.jpg,anger\n"])
    for path, content in data.draw(st.lists(st.tuples(paths, contents), max_size=25)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            continue  # a file where a folder was wanted, or the other way round
    for fixed in {list_fer2013: [f"{s}/{e}" for s in ("train", "test") for e in
                                 ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")],
                  list_rafdb: [f"DATASET/{s}/{n}" for s in ("train", "test") for n in range(1, 8)],
                  list_affectnet: FOLDERS}.get(reader, []):  # fmt: skip
        if data.draw(st.integers(0, 19)) and not any(
            place.is_file() for place in (root / fixed, *(root / fixed).parents)
        ):
            (root / fixed).mkdir(parents=True, exist_ok=True)
    try:
        items = list(reader(root))
    except InputError as error:
        assert "\n" not in str(error)
        return
    listed = [item.path if isinstance(item, Entry) else item[0] for item in items]
    assert len(listed) == len(set(listed)), "no file twice"
    assert all(isinstance(item, Entry) or item[1] for item in items)
    for item in items:
        if isinstance(item, Entry):
            assert item.path.is_file() and item.path.is_relative_to(root)
