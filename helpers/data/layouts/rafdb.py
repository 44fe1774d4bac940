"""RAF-DB as ``shuvoalok/raf-db-dataset`` lays it out: colour faces of 100 pixels in numbered folders, and two CSVs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helpers.config import InputError, emotion_code
from helpers.data.layouts.files import Entry, Item, contents, find, in_order, not_an_image, one_label_each, read_rows

CLASSES = {
    "1": "surprise",
    "2": "fear",
    "3": "disgust",
    "4": "happiness",
    "5": "sadness",
    "6": "anger",
    "7": "neutral",
}
"""Folder and CSV label -> the dataset's own name of the emotion. Sorting them gives another order than FER2013's."""


def list_rafdb(folder: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every file of ``DATASET/{train,test}/{1..7}`` and every row without a file.

    An image is used where its folder and its row of ``<split>_labels.csv``, beside ``DATASET``, name the same class.

    Raises:
        InputError: the folder has another layout, or a CSV cannot be read.
    """
    root = find(folder, lambda place: all((place / split / "1").is_dir() for split in ("train", "test")))
    if root is None:
        raise InputError(
            f"{folder} does not hold RAF-DB: found {contents(folder)}, expected DATASET with train/1 and test/1 in it."
        )
    for split in ("train", "test"):
        if missing := [number for number in CLASSES if not (root / split / number).is_dir()]:
            raise InputError(f"{root / split} does not hold RAF-DB: no folder {', '.join(missing)}; expected 1 to 7.")
        yield from _list_split(root, split)


def _list_split(root: Path, split: str) -> Iterator[Item]:
    table = f"{split}_labels.csv"
    place = next((path for path in (root.parent / table, root / table) if path.exists()), None)
    labels = None
    if place is None:
        yield root / table, "not there, so the folders' labels were not checked"
    else:
        rows = read_rows(place, ("image", "label"))
        labels = dict(one_label_each((row["image"].split("/")[-1], row["label"].removesuffix(".0")) for row in rows))
    seen = set()
    for number in in_order(root / split):
        if not number.is_dir():
            yield number, "not in a folder 1 to 7"
            continue
        for path in in_order(number):
            seen.add(path.name)
            yield not_an_image(path) or _entry(path, split, number.name, labels, table)
    for name, label in (labels or {}).items():
        if name not in seen:
            yield root / split / (label or "") / name, f"in {table}, but there is no such file"


def _entry(path: Path, split: str, number: str, labels: dict[str, str | None] | None, table: str) -> Item:
    """The entry of an image in folder ``number``, checked against its row."""
    if number not in CLASSES:
        return path, "not in a folder 1 to 7"
    if labels is not None:
        if path.name not in labels:
            return path, f"no row in {table}"
        label = labels[path.name]
        if label is None:
            return path, f"rows in {table} contradict each other"
        if label not in CLASSES:
            return path, f"label in {table} is not 1 to 7"
        if label != number:
            return path, f"{table} and the folder disagree"
    return Entry(path, split, emotion=emotion_code(CLASSES[number]))
