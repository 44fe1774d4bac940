"""The layouts are read by their rules, and everything else is rejected by name."""

import io
import math
import string
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.config import PackConfig
from helpers.data.images import RejectedImageError, decode, read_face
from helpers.data.layouts.files import Entry
from helpers.data.layouts.utkface import list_utkface, parse_utkface_name
from helpers.data.sources import load_paths, read_source
from helpers.files import InputError
from helpers.tasks import EMOTIONS


def picture(mode="RGB", size=(24, 18), form="PNG", **options) -> bytes:
    """An encoded picture with some structure."""
    height, width = size[1], size[0]
    ramp = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    buffer = io.BytesIO()
    Image.fromarray(ramp).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def fer2013(root: Path) -> Path:
    """FER2013's folders with one image in each."""
    for split in ("train", "test"):
        for code, emotion in enumerate(EMOTIONS):
            folder = root / split / emotion
            folder.mkdir(parents=True)
            size = (20 + code, 20 if split == "train" else 21)
            (folder / f"{split}_{code}.png").write_bytes(picture(size=size))
    return root


def test_fer2013_takes_labels_and_published_splits_from_its_folders(tmp_path):
    table = read_source("fer2013", fer2013(tmp_path), PackConfig()).table.to_pandas()
    assert len(table) == 14
    for row in table.itertuples():
        split, emotion, _ = row.name.split("/")
        assert (row.split, EMOTIONS[row.emotion]) == (split, emotion)
        assert math.isnan(row.age_low) and math.isnan(row.age_high) and row.gender == row.race == -1


def test_a_dataset_is_found_below_the_folder_that_was_given(tmp_path):
    fer2013(tmp_path / "archive" / "fer2013")
    assert read_source("fer2013", tmp_path, PackConfig()).table.num_rows == 14


@pytest.mark.parametrize("missing", ["test", "train/disgust"])
def test_a_wrong_layout_is_told_in_one_sentence(tmp_path, missing):
    root = fer2013(tmp_path / "fer2013")
    (root / missing).rename(tmp_path / "gone")
    with pytest.raises(InputError, match="does not hold FER2013") as caught:
        read_source("fer2013", root, PackConfig())
    assert Path(missing).name in str(caught.value) and "\n" not in str(caught.value)


def test_utkface_is_found_below_a_folder_of_its_own_name_and_when_named_itself(tmp_path):
    images = tmp_path / "UTKFace" / "UTKFace"
    images.mkdir(parents=True)
    (images / "25_1_2_20170116174525125.jpg").write_bytes(picture())
    for folder in (tmp_path, tmp_path / "UTKFace", images):
        assert [entry.path.parent for entry in list_utkface(folder)] == [images]


def test_every_rejected_file_is_listed_with_its_reason_and_costs_no_other_row(tmp_path):
    root = fer2013(tmp_path)
    happy = root / "train" / "happy"
    whole = picture(form="JPEG", size=(200, 200))
    broken = {
        "cut.jpg": (whole[: len(whole) * 8 // 10], "truncated image"),
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"not an image", "not readable as an image"),
        "Thumbs.db": (b"\xd0\xcf", "not .jpg, .jpeg, .png"),
    }
    for name, (content, _) in broken.items():
        (happy / name).write_bytes(content)
    (root / "train" / "contempt").mkdir()
    (root / "train" / "contempt" / "a.png").write_bytes(picture())
    (root / "train" / "stray.txt").write_text("x")
    read = read_source("fer2013", root, PackConfig())
    assert read.table.num_rows == 14
    assert dict(read.rejects) == {f"train/happy/{name}": reason for name, (_, reason) in broken.items()} | {
        "train/contempt/a.png": "not in an emotion's folder",
        "train/stray.txt": "not in an emotion's folder",
    }
    assert sum(read.reasons().values()) == len(read.rejects)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("25_1_2_20170116174525125.jpg.chip.jpg", ((25, 25), 1, 2)),
        ("116_0_0_20170116174525125.jpg", ((116, 116), 0, 0)),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", ((24, 24), 0, 1)),
    ],
)
def test_utkface_names_give_age_gender_and_race(name, labels):
    entry = parse_utkface_name(Path(name))
    assert entry.labels == dict(zip(("age", "gender", "race"), labels, strict=True))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("61_1_20170109142408075.jpg.chip.jpg", "3 fields"),
        ("61_3_20170109150557335.jpg.chip.jpg", "3 fields"),
        ("39_1_20170116174525125.jpg.chip.jpg", "3 fields"),
        ("53__0_20170116184028385.jpg.chip.jpg", "gender"),
        ("117_0_0_20170116174525125.jpg", "age"),
        ("-5_0_0_20170116174525125.jpg", "age"),
        ("25_2_0_20170116174525125.jpg", "gender"),
        ("25_1_5_20170116174525125.jpg", "race"),
        ("25_1_²_20170116174525125.jpg", "race"),
    ],
)
def test_malformed_utkface_names_are_rejected_for_what_is_wrong(name, reason):
    _, found = parse_utkface_name(Path(name))
    assert reason in found


@given(st.text(alphabet=string.printable.replace("/", "") + "é三", min_size=1, max_size=40))
def test_any_utkface_name_is_an_entry_in_range_or_a_reason(name):
    found = parse_utkface_name(Path("x") / name)
    if isinstance(found, Entry):
        low, high = found.labels["age"]
        assert 0 <= low == high <= 116 and found.labels["gender"] in (0, 1) and found.labels["race"] in range(5)
    else:
        assert found[1]


def test_utkface_is_read_once_although_its_faces_lie_in_four_folders(tmp_path):
    name = "25_1_2_20170116174525125.jpg.chip.jpg"
    for folder in ("UTKFace", "crop_part1", "utkface_aligned_cropped/UTKFace", "utkface_aligned_cropped/crop_part1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(picture())
    assert [entry.path.parent for entry in list_utkface(tmp_path)] == [tmp_path / "UTKFace"]
    (tmp_path / "UTKFace" / name).unlink()
    (tmp_path / "UTKFace").rmdir()
    (tmp_path / "utkface_aligned_cropped" / "UTKFace" / name).unlink()
    (tmp_path / "utkface_aligned_cropped" / "UTKFace").rmdir()
    assert [entry.path.parent for entry in list_utkface(tmp_path)] == [tmp_path / "crop_part1"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16", "I", "CMYK", "RGB"])
def test_every_kind_of_pixel_becomes_upright_rgb(mode):
    form = "JPEG" if mode == "CMYK" else "PNG"
    if mode in ("I;16", "I"):
        buffer = io.BytesIO()
        Image.fromarray((np.arange(432).reshape(18, 24) * 100).astype(np.uint16)).save(buffer, "PNG")
        encoded = buffer.getvalue()
    else:
        encoded = picture(mode, form=form)
    face = read_face(encoded)
    pixels = decode(face.encoded)
    assert pixels.shape == (18, 24, 3) and pixels.dtype == np.uint8
    assert pixels.std() > 0, "the picture's structure is kept"


def test_a_rotated_photo_is_turned_upright():
    upright = Image.fromarray(np.arange(432).astype(np.uint8).reshape(18, 24))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    assert np.array_equal(decode(read_face(buffer.getvalue()).encoded)[..., 0], np.asarray(upright))


def test_the_fingerprint_follows_the_pixels_and_not_the_encoding():
    first, second = picture(compress_level=0), picture(compress_level=9)
    assert first != second and read_face(first).sha == read_face(second).sha
    assert read_face(picture("L")).sha == read_face(picture("RGB")).sha, "grey and its RGB are the same face"
    assert read_face(picture(size=(24, 18))).sha != read_face(picture(size=(18, 24))).sha


def test_a_picture_of_a_few_pixels_is_refused():
    for size in ((15, 40), (40, 15), (1, 1)):
        with pytest.raises(RejectedImageError, match="fewer than 16 pixels a side"):
            read_face(picture(size=size))
    assert read_face(picture(size=(16, 16)))


def test_a_huge_picture_is_refused_before_it_is_decoded():
    header = picture(size=(24, 18))
    chunk = b"IHDR" + (20000).to_bytes(4, "big") * 2 + header[24:29]
    huge = header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
    with pytest.raises(RejectedImageError, match="million pixels"):
        read_face(huge)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 200))
def test_any_bytes_are_a_face_or_a_reason(noise, place):
    whole = picture(form="JPEG", size=(24, 24))
    for encoded in (noise, whole[:place] + noise + whole[place + len(noise) :]):
        try:
            face = read_face(encoded)
        except RejectedImageError as error:
            assert str(error)
        else:
            assert decode(face.encoded).shape == (face.height, face.width, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "names no dataset"),
        ('{"fer2014": "x"}', "There is no dataset 'fer2014'; choose from: fer2013"),
        ('{"fer2013": 3}', "a path in quotes was expected"),
        ('{"fer2013": "nowhere"}', "does not exist"),
        ('{"fer2013": "empty"}', "is empty"),
        ("[]", "is an object with named fields"),
    ],
)
def test_a_wrong_paths_file_is_told_in_one_sentence(tmp_path, content, words):
    (tmp_path / "empty").mkdir()
    path = tmp_path / "dataset_paths.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        load_paths(path)


def test_a_folder_without_one_usable_image_is_refused(tmp_path):
    (tmp_path / "UTKFace").mkdir()
    (tmp_path / "UTKFace" / "25_1_2_20170116174525125.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="no usable image of utkface: 1 files, all rejected"):
        read_source("utkface", tmp_path, PackConfig())
