"""RAF-DB as ``shuvoalok/raf-db-dataset`` lays it out: colour faces of 100 pixels in numbered folders, and two CSVs."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from helpers.data.layouts.files import TABLE, Entry, Item, class_folders, find, need_classes, other_layout, read_labels
from helpers.tasks import EMOTION

CLASSES = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger", "7": "neutral"}
"""Folder and CSV label -> the dataset's own name of the emotion. Sorting them gives another order than FER2013's."""


def list_rafdb(folder: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every file of ``DATASET/{train,test}/{1..7}`` and every row without a file.

    An image is used where its folder and its row of ``<split>_labels.csv``, beside ``DATASET``, name the same class.

    Raises:
        InputError: the folder has another layout, or a CSV cannot be read.
    """
    root = find(folder, lambda place: place if (place / "train/1").is_dir() and (place / "test/1").is_dir() else None)
    if root is None:
        raise other_layout(folder, "RAF-DB", "DATASET with train/1 and test/1 in it")
    for split in ("train", "test"):
        need_classes(root / split, "RAF-DB", CLASSES, CLASSES.get)
        name = f"{split}_labels.csv"
        table = next((path for path in (root.parent / name, root / name) if path.exists()), None)
        rows = read_labels(table, "image", parts=1) if table else None
        yield (table, TABLE) if table else (root / name, "not there, so the folders' labels were not checked")
        entry = partial(_entry, split, rows, name)
        yield from class_folders(root / split, CLASSES.get, "not in a folder 1 to 7", entry)
        seen = {path.name for path in (root / split).glob("*/*")}
        for file, label in (rows or {}).items():
            if file not in seen:
                yield root / split / (label or "") / file, f"in {name}, but there is no such file"


def _entry(split: str, rows: dict[str, str | None] | None, table: str, path: Path) -> Item:
    """The entry of an image in a class's folder, checked against its row."""
    number = path.parent.name
    if rows is not None:
        label = rows.get(path.name)
        if label is None:
            return path, f"rows in {table} contradict each other" if path.name in rows else f"no row in {table}"
        if label not in CLASSES:
            return path, f"label in {table} is not 1 to 7"
        if label != number:
            return path, f"{table} and the folder disagree"
    return Entry(path, split, {"emotion": EMOTION.code(CLASSES[number])})
