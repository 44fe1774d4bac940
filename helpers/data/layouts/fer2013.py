"""FER2013: grey faces of 48 pixels, as ``msambare/fer2013`` lays it out, ``train|test/<emotion>/*.jpg``, or as a table.

Other uploads have other words for the folders, a validation split, or the original ``fer2013.csv``.
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from helpers.data.layouts import files
from helpers.data.layouts.files import PARTS, SPLITS, TABLE, Entry, Item
from helpers.tasks import EMOTION, EMOTIONS

CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The emotions in the order of the table's codes, which is not that of the folders."""

_TABLES = ("fer2013.csv", "icml_face_data.csv")


def list_fer2013(folder: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every file of the splits' folders, in a fixed order, or every row of the table.

    Raises:
        InputError: the folder has another layout, or the table cannot be read.
    """
    if splits := files.find(folder, _splits):
        for place in splits:
            if SPLITS[place.name.lower()] != "validation":
                files.need_classes(place, "FER2013", EMOTIONS, EMOTION.code)
            entry = partial(_entry, place.name.lower())
            yield from files.class_folders(place, EMOTION.code, "not in an emotion's folder", entry)
    elif table := files.find(folder, _table):
        yield table, TABLE
        for number, row in enumerate(files.read_rows(table, ("emotion", "pixels", "usage")), start=1):
            yield _row_entry(table / f"row {number}", row)
    else:
        raise files.other_layout(folder, "FER2013", f"folders train and test, or {_TABLES[0]}")


def _splits(root: Path) -> list[Path]:
    """The splits' folders in ``root`` where one of them is for training and another is not."""
    places = files.split_folders(root)
    return places if {"train"} < {SPLITS[place.name.lower()] for place in places} else []


def _table(root: Path) -> Path | None:
    return next((root / name for name in _TABLES if (root / name).is_file()), None)


def _entry(split: str, path: Path) -> Entry:
    """The entry of an image; a name may tell its half of the test folder: published scores are PrivateTest's alone."""
    part = PARTS.get(path.name.partition("_")[0].lower(), PARTS.get(split))
    labels = {"emotion": EMOTION.code(path.parent.name)}
    return Entry(path, SPLITS[split], labels, part if SPLITS[split] == "test" else None)


def _row_entry(path: Path, row: dict[str, str]) -> Item:
    """The entry of a row of the table, which holds its picture."""
    usage, code = row["usage"].lower(), row["emotion"].removesuffix(".0")
    if usage not in SPLITS:
        return path, "Usage is not Training, PublicTest or PrivateTest"
    if code not in map(str, range(len(CODES))):
        return path, f"emotion is not 0 to {len(CODES) - 1}"
    try:
        pixels = bytes(map(int, row["pixels"].split()))
    except ValueError:
        return path, "pixels are not numbers from 0 to 255"
    if not pixels or math.isqrt(len(pixels)) ** 2 != len(pixels):
        return path, "pixels are not those of a square"
    return Entry(path, SPLITS[usage], {"emotion": EMOTIONS.index(CODES[int(code)])}, PARTS.get(usage), pixels=pixels)
