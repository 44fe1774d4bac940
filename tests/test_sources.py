"""The layouts are read by their rules, and everything else is rejected by name."""

import csv
import io
import math
import os
import shutil
import string
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.config import PackConfig
from helpers.data.audit import rejects_table
from helpers.data.augment import TECHNIQUES, Augmenter
from helpers.data.images import RejectedImageError, decode, read_face, reduce
from helpers.data.layouts.files import Entry, not_an_image
from helpers.data.layouts.utkface import list_utkface, parse_utkface_name
from helpers.data.sources import fingerprint, list_all, load_paths, read_source
from helpers.data.store import pack
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
        "Thumbs.db": (b"\xd0\xcf", not_an_image(Path("Thumbs.db"))[1]),
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
    assert sum(read.left_out()["rejected"].values()) == len(read.rejects)


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
        ("IMG_0_0_20170116174525125.jpg", "age"),
        ("25_20170116_0_174525125.jpg", "gender"),
        ("25_1_²_20170116174525125.jpg", "race"),
        ("117_2_0_20170116174525125.jpg", "age in the name is not 0 to 116; gender in the name is not 0 to 1"),
    ],
)
def test_malformed_utkface_names_are_rejected_for_what_is_wrong(name, reason):
    _, found = parse_utkface_name(Path(name))
    assert reason in found


@pytest.mark.parametrize(
    ("name", "labels", "reason"),
    [
        ("117_0_3_20170116174525125.jpg", {"gender": 0, "race": 3}, "age in the name is not 0 to 116"),
        ("-5_0_3_20170116174525125.jpg", {"gender": 0, "race": 3}, "age in the name is not 0 to 116"),
        ("nan_0_3_20170116174525125.jpg", {"gender": 0, "race": 3}, "age in the name is not 0 to 116"),
        ("25_2_3_20170116174525125.jpg", {"age": (25, 25), "race": 3}, "gender in the name is not 0 to 1"),
        ("25_1_5_20170116174525125.jpg", {"age": (25, 25), "gender": 1}, "race in the name is not 0 to 4"),
    ],
)
def test_a_number_in_a_utkface_name_that_is_none_of_its_label_s_costs_that_label_alone(name, labels, reason):
    entry = parse_utkface_name(Path(name))
    assert entry.labels == labels and entry.unknown == (reason,)


@given(
    st.text(alphabet=string.printable.replace("/", "") + "é三", min_size=1, max_size=40)
    | st.lists(st.integers(-9, 999) | st.sampled_from(["", "nan", "x"]), min_size=3, max_size=5).map(
        lambda parts: "_".join(map(str, parts)) + "_2017.jpg"
    )
)
def test_any_utkface_name_is_an_entry_in_range_or_a_reason(name):
    found = parse_utkface_name(Path("x") / name)
    if isinstance(found, Entry):
        assert found.labels.keys() & {"age", "gender"} and len(found.labels) + len(found.unknown) == 3
        low, high = found.labels.get("age", (0, 0))
        assert 0 <= low == high <= 116
        assert found.labels.get("gender", 0) in (0, 1) and found.labels.get("race", 0) in range(5)
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


def test_splits_and_emotions_are_known_by_any_of_their_folders_names_and_a_validation_split_stays_one(tmp_path):
    names = ("Angry", "disgusted", "FEARFUL", "happy", "Neutral", "sadness", "surprised")
    splits = {"Training": "train", "val": "validation", "PublicTest": "test", "PrivateTest": "test"}
    for number, split in enumerate(splits):
        for code, name in enumerate(names):
            place = tmp_path / "archive" / "images" / "faces" / split / name
            place.mkdir(parents=True)
            (place / "0.png").write_bytes(picture(size=(20 + code, 20 + number)))
    read = read_source("fer2013", tmp_path, PackConfig())
    assert read.table.num_rows == 28 and not read.rejects
    for row in read.table.to_pandas().itertuples():
        split, name = row.name.split("/")[3:5]
        assert row.split == splits[split] and row.part == (split if "Test" in split else None)
        assert row.emotion == names.index(name)
    store = pack({"fer2013": tmp_path}, tmp_path / "faces")
    mine = store.faces["name"].str.contains("/val/")
    assert set(store.faces["split"][mine]) == {"validation"}, "what is published for validation is not trained on"
    assert set(store.faces["part"].dropna()) == {"PublicTest", "PrivateTest"}


FER_CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The order of the challenge's own table, by its description."""


def pixel_rows(path: Path, rows, header=("emotion", "pixels", "Usage")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("name", ["fer2013.csv", "archive/fer2013/icml_face_data.csv"])
def test_the_original_table_of_fer2013_gives_its_pixels_its_own_splits_and_its_own_order_of_emotions(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 48, 48), dtype=np.uint8)
    usages = ("Training", "PublicTest", "PrivateTest")
    rows = [(n % 7, " ".join(map(str, face.ravel())), usages[n // 7]) for n, face in enumerate(pixels)]
    pixel_rows(
        tmp_path / name, rows, ("emotion", " pixels", " Usage") if "icml" in name else ("emotion", "pixels", "Usage")
    )
    read = read_source("fer2013", tmp_path, PackConfig())
    assert not read.rejects and read.table.num_rows == 21
    for number, row in enumerate(read.table.to_pandas().itertuples()):
        assert (
            np.array_equal(decode(row.image)[..., 0], pixels[number]) and EMOTIONS[row.emotion] == FER_CODES[number % 7]
        )
        assert (row.split, row.part) == [("train", None), ("test", "PublicTest"), ("test", "PrivateTest")][number // 7]
        assert row.name == f"{name}/row {number + 1}"


def test_a_row_of_pixels_that_cannot_be_a_face_is_left_out_by_name_and_a_folder_layout_goes_before_the_table(tmp_path):
    good, small = " ".join(["7", "9"] * 1152), " ".join("1" * 100)
    rows = [(0, good, "Training"), (7, good, "Training"), ("contempt", good, "Training"), (0, good, "Fold 3"),
            (0, "1 2 3", "Training"), (0, "", "Training"), (0, good + " 256", "Training"), (0, good + " x", "Training"),
            (0, "9" * 5000, "Training"), (0, small, "Training")]  # fmt: skip
    pixel_rows(tmp_path / "fer2013.csv", rows)
    read = read_source("fer2013", tmp_path, PackConfig())
    assert read.table.num_rows == 1 and [name for name, _ in read.rejects] == [
        f"fer2013.csv/row {n}" for n in range(2, 11)
    ]
    reasons = [reason for _, reason in read.rejects]
    wrong, square, values = "emotion is not 0 to 6", "pixels are not those of a square", "pixels are not numbers"
    expected = [wrong, wrong, "Usage is not Training", square, square, values, values, values, "fewer than"]
    for reason, words in zip(reasons, expected, strict=True):
        assert words in reason
    with pytest.raises(InputError, match=r"lacks the column usage.*expected emotion, pixels, usage"):
        read_source(
            "fer2013", pixel_rows(tmp_path / "wrong" / "fer2013.csv", [], ("emotion", "pixels")).parent, PackConfig()
        )
    fer2013(tmp_path)
    read = read_source("fer2013", tmp_path, PackConfig())
    assert read.table.num_rows == 14
    assert dict(read.rejects) == {"fer2013.csv": "in no folder that is read",
                                  "wrong/fer2013.csv": "in no folder that is read"}  # fmt: skip


def test_no_file_below_a_dataset_s_folder_goes_unmentioned(tmp_path):
    root = fer2013(tmp_path / "archive" / "one")
    fer2013(tmp_path / "archive" / "two")
    fer2013(tmp_path / "__MACOSX" / "archive" / "one")
    fer2013(tmp_path / ".Trash")
    (root / "train" / "happy" / "more" / "deep").mkdir(parents=True)
    (root / "train" / ".ipynb_checkpoints").mkdir()
    for place in ("train/happy/more/deep/a.png", "train/.ipynb_checkpoints/b.png", "notes/c.txt", "d.png"):
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).write_bytes(picture())
    (tmp_path / "readme.md").write_text("x")
    read = read_source("fer2013", tmp_path, PackConfig())
    found = dict(read.rejects)
    assert set(read.table["name"].to_pylist()) == {f"archive/one/{p.relative_to(root)}" for s in ("train", "test")
                                                   for p in root.glob(f"{s}/*/{s}_*.png")}  # fmt: skip
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(read.table["name"].to_pylist()) | (found.keys() - {"archive/one/train/happy/more"})
    assert found["archive/two/test/sad/test_5.png"] == found["readme.md"] == "outside of archive/one, which is read"
    assert found["archive/one/d.png"] == found["archive/one/train/happy/more/deep/a.png"] == "in no folder that is read"
    left = read.left_out()
    assert left["rejected"]["in a hidden folder"] == 29
    hidden = sorted(name for name, reason in left["rejected_files"] if reason == "in a hidden folder")
    assert hidden == [".Trash: 14 files", "__MACOSX: 14 files", "archive/one/train/.ipynb_checkpoints: 1 files"]


def _print_of(name, place):
    return fingerprint(name, place, list_all(name, place, PackConfig()))


def test_a_hidden_folder_never_wins_and_what_a_system_leaves_there_does_not_pack_the_store_again(tmp_path):
    fer2013(tmp_path / "__MACOSX")
    with pytest.raises(InputError, match="does not hold FER2013"):
        read_source("fer2013", tmp_path, PackConfig())
    fer2013(tmp_path / "zzz")
    before = _print_of("fer2013", tmp_path)
    (tmp_path / "__MACOSX" / "new.txt").write_text("x")
    assert _print_of("fer2013", tmp_path) == before
    (tmp_path / "new.txt").write_text("x")
    assert _print_of("fer2013", tmp_path) != before


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_file_of_any_tree_is_read_or_listed_once(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("tree")
    fer2013(root / data.draw(st.sampled_from([".", "archive", "a/images", "a/b/c"])))
    parts = st.sampled_from(["__MACOSX", ".x", "train", "test", "Val", "happy", "joy", "a", "b", "archive", "images"])
    for number, place in enumerate(data.draw(st.lists(st.lists(parts, max_size=5), max_size=12))):
        (root.joinpath(*place)).mkdir(parents=True, exist_ok=True)
        name = data.draw(st.sampled_from(["x.png", "y.txt", "fer2013.csv", ".DS_Store"]))
        (root.joinpath(*place, f"{number}{name}" if name[0] != "." else name)).write_bytes(
            picture(size=(30, 20 + number))
        )
    try:
        read = read_source("fer2013", root, PackConfig())
    except InputError as error:
        assert "does not hold FER2013" in str(error)  # another train folder came first, which lacks a class
        return
    names = [*read.table["name"].to_pylist(), *(name for name, _ in read.rejects)]
    assert len(names) == len(set(names))
    assert {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} <= set(names)
    assert not [name for name in read.table["name"].to_pylist() if "__MACOSX" in name or "/." in f"/{name}"]


@pytest.mark.parametrize("form", ["TIFF", "BMP", "WEBP", "PPM", "GIF", "JPEG", "PNG"])
def test_every_common_format_is_read_by_its_usual_names(tmp_path, form):
    endings = {
        "TIFF": "tif tiff",
        "BMP": "bmp",
        "WEBP": "webp",
        "PPM": "pgm ppm pnm pbm",
        "GIF": "gif",
        "JPEG": "jfif JPG jpeg",
    }
    (tmp_path / "UTKFace").mkdir()
    names = [f"{20 + n}_1_2_2017.{ending}" for n, ending in enumerate(endings.get(form, "png").split())]
    for number, name in enumerate(names):
        mode = "L" if name.endswith("pgm") else "1" if name.endswith("pbm") else "RGB"
        (tmp_path / "UTKFace" / name).write_bytes(picture(mode, (24, 18 + number), form))
    read = read_source("utkface", tmp_path, PackConfig())
    assert read.table.num_rows == len(names) and not read.rejects
    assert all(decode(image).std() > 0 for image in read.table["image"].to_pylist())


def test_formats_that_start_a_program_are_not_opened_whatever_they_are_called(tmp_path, monkeypatch):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n{} loop\n%%EOF\n"
    monkeypatch.setenv("PATH", str(tmp_path))  # no Ghostscript here, or one that says so
    (tmp_path / "gs").write_text("#!/bin/sh\ntouch ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RejectedImageError, match="not readable as an image"):
        read_face(eps)
    assert not (tmp_path / "ran").exists()
    for form in ("PCX", "TGA", "ICO", "SGI", "DDS"):
        with pytest.raises(RejectedImageError, match="not readable as an image"):
            read_face(picture(form=form))


def test_a_picture_of_real_numbers_keeps_its_structure():
    for top in (1.0, 255.0, 65535.0):
        ramp = np.linspace(0, top, 432, dtype=np.float32).reshape(18, 24)
        buffer = io.BytesIO()
        Image.fromarray(ramp).save(buffer, "TIFF")
        assert decode(read_face(buffer.getvalue()).encoded)[..., 0].std() > 60


def test_only_regular_files_that_lie_in_the_dataset_s_folder_are_opened(tmp_path):
    images, name = tmp_path / "utk" / "UTKFace", "{}_1_2_2017.jpg"
    images.mkdir(parents=True)
    (tmp_path / "outside.jpg").write_bytes(picture())
    (images / name.format(20)).write_bytes(picture(form="JPEG", size=(30, 30)))
    os.mkfifo(images / name.format(21))
    (images / name.format(22)).symlink_to("/dev/zero")
    (images / name.format(23)).symlink_to(tmp_path / "outside.jpg")
    (images / name.format(24)).symlink_to(images / name.format(20))
    (images / name.format(25)).symlink_to(images / name.format(25))
    with open(images / name.format(26), "wb") as file:
        file.truncate(20_000_000_000)
    read = read_source("utkface", tmp_path / "utk", PackConfig())
    outside = "a link that leads out of the dataset's folder"
    assert {name.split("/")[1][:2]: reason for name, reason in read.rejects} == {
        "21": "not a regular file", "22": outside, "23": outside, "26": "more than 64 MB",
        "25": "file cannot be opened (Too many levels of symbolic links)"}  # fmt: skip
    assert read.table.num_rows == 2, "a link within the folder is another name for its file"


def test_a_folder_that_leads_out_gives_no_face_and_tables_are_opened_by_the_same_rule(tmp_path):
    outside = fer2013(tmp_path / "outside")
    root = fer2013(tmp_path / "in" / "fer")
    shutil.rmtree(root / "train" / "happy")
    (root / "train" / "happy").symlink_to(outside / "train" / "happy")
    (tmp_path / "in" / "link").symlink_to(outside)
    read = read_source("fer2013", tmp_path / "in", PackConfig())
    assert read.table.num_rows == 13
    assert dict(read.rejects) == {
        "fer/train/happy/train_3.png": "a link that leads out of the dataset's folder",
        "link": "outside of fer, which is read"}  # fmt: skip
    (tmp_path / "utk").symlink_to(tmp_path / "in")
    assert read_source("fer2013", tmp_path / "utk", PackConfig()).table.num_rows == 13, (
        "the folder itself may be a link"
    )
    (tmp_path / "own").mkdir()
    os.mkfifo(tmp_path / "own" / "labels.csv")
    for word in ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"):
        (tmp_path / "own" / word).mkdir()
    with pytest.raises(InputError, match=r"labels\.csv cannot be read as CSV \(not a regular file\)"):
        read_source("affectnet", tmp_path / "own", PackConfig())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & {0, 47} and name.strip(b".")),
                min_size=1, max_size=4, unique=True))  # fmt: skip
@example([b"\xb8\xb1\xb1\xbe"])
def test_a_file_of_any_name_is_read_or_listed_and_its_name_can_be_stored(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("names")
    images = root / "utk" / "UTKFace"
    images.mkdir(parents=True)
    for number, name in enumerate([b"good", *names]):
        (images / os.fsdecode(b"30_1_2_" + name.replace(b"_", b"") + b".png")).write_bytes(
            picture(size=(30, 30 + number))
        )
        (images / os.fsdecode(name.replace(b"_", b""))).write_bytes(b"x")
    store = pack({"utkface": root / "utk"}, root / "faces")
    found = store.manifest["audit"]["utkface"]
    assert found["rows"] + len(found["rejected_files"]) == len(list(images.iterdir()))
    ("\n".join([*store.faces["name"], *(name for name, _ in found["rejected_files"])])).encode()
    assert len(rejects_table(store.manifest["audit"])) == len(found["rejected"])


@pytest.mark.parametrize("size", [(600, 16), (16, 600), (96, 19), (200, 30)])
def test_a_picture_too_long_for_a_face_is_left_out(size):
    with pytest.raises(RejectedImageError, match="longer than 5 times its width"):
        read_face(picture(size=size))


@settings(max_examples=150, deadline=None)
@given(st.integers(16, 160), st.floats(1, 5), st.booleans(), st.sampled_from([32, 45, 64, 96]), st.floats(0.02, 2),
       st.sampled_from([name for name, technique in TECHNIQUES.items() if technique.build]))  # fmt: skip
@example(16, 5.0, False, 32, 2.0, "erasing")
@example(60, 5.0, True, 32, 2.0, "erasing")
@example(16, 5.0, True, 32, 2.0, "downscale")
@example(16, 5.0, True, 32, 1.0, "grid distortion")
def test_every_face_that_is_taken_goes_through_every_technique_at_every_side_and_strength(
    short, aspect, upright, side, strength, technique
):
    size = (short, min(int(short * aspect), 5 * short))
    kept = decode(read_face(picture(size=size if upright else size[::-1]), 288).encoded)
    face = reduce(kept, side)
    augmenter = Augmenter(strength, ", ".join(name for name in TECHNIQUES if name != technique))
    augmenter._probabilities[:] = 1.0
    augmenter.reseed(0)
    changed = augmenter(face)
    assert changed.shape == face.shape and changed.dtype == np.uint8
