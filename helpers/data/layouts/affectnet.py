"""The AffectNet subset as ``noamsegal/affectnet-training-data`` lays it out: colour faces of 96 pixels, one CSV."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from helpers.data.layouts import files
from helpers.data.layouts.files import SPLITS, TABLE, Entry, Item
from helpers.files import InputError
from helpers.tasks import EMOTION

FOLDERS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CONTEMPT = "contempt"
"""The eighth folder. Whether it is used follows from the classes of the emotion task; its absence is no fault."""
_TABLE = "labels.csv"


def list_affectnet(folder: Path, labels: str = "agree") -> Iterator[Item]:
    """An entry or (path, reason) for every file of the class folders and every row without a file.

    The CSV's labels come from another model than the folders', and file names repeat across the folders, so a row is
    known by its ``pth``. Contempt has no place among the emotions: it is left out by the final label.

    Args:
        folder: holds the class folders and ``labels.csv``, perhaps some levels deeper, perhaps in folders of splits.
        labels: ``agree`` takes the images on which folder and CSV agree, ``folder`` and ``csv`` believe one of them.

    Raises:
        InputError: the folder has another layout, or the CSV is needed and cannot be read.
    """
    roots, tables, seen = files.find(folder, _roots) or {}, dict[Path, dict](), set[str]()
    if not roots:
        raise files.other_layout(folder, "AffectNet", f"folders {', '.join(FOLDERS)}")
    for root, split in roots.items():
        files.need_classes(root, "AffectNet", FOLDERS, EMOTION.code)
        # The CSV lies among the class folders or one level above.
        table = next((path for path in (root / _TABLE, root.parent / _TABLE) if path.exists()), None)
        if table is None and labels != "folder":
            raise InputError(
                f"{root} has no {_TABLE}; download again, or set affectnet_labels = 'folder' to go by folders alone."
            )
        if table and table not in tables:
            tables[table] = {} if labels == "folder" else files.read_labels(table, "pth", parts=2)
            yield table, TABLE
        entry = partial(_entry, labels, tables[table] if table else {}, split)
        for item in files.class_folders(root, _class_of, "not in a class's folder", entry):
            if files.path_of(item) != table:
                yield item
        seen |= {f"{path.parent.name}/{path.name}" for path in root.glob("*/*")}
    for table, rows in tables.items():
        yield from ((table.parent / key, f"in {_TABLE}, but there is no such file") for key in rows if key not in seen)


def _roots(place: Path) -> dict[Path, str | None]:
    """``place`` where it holds class folders, else those of its splits' folders that do, each with its split."""
    splits = {root: SPLITS[root.name.lower()] for root in files.split_folders(place)}
    needed = {_class_of("anger"), _class_of("happy")}
    found = {root: split for root, split in {place: None, **splits}.items()
             if needed <= {_class_of(path.name) for path in root.glob("*/")}}  # fmt: skip
    return {place: None} if place in found else found


def _class_of(name: str) -> int | str | None:
    """The emotion that a folder is called by, or contempt."""
    return CONTEMPT if name.lower() == CONTEMPT else EMOTION.code(name)


def _entry(labels: str, rows: dict[str, str | None], split: str | None, path: Path) -> Item:
    """The entry of an image in a class's folder, by the chosen source of labels."""
    final = place = path.parent.name.lower()
    if labels != "folder":
        key = f"{path.parent.name}/{path.name}"
        label = rows.get(key)
        if label is None:
            return path, f"rows in {_TABLE} contradict each other" if key in rows else f"no row in {_TABLE}"
        if label != CONTEMPT and EMOTION.code(label) is None:
            return path, f"label {label!r} in {_TABLE} is not an emotion"
        if labels == "agree" and EMOTION.code(label) != EMOTION.code(place):
            return path, f"{_TABLE} and the folder disagree"
        final = label
    if EMOTION.code(final) is None:
        return path, f"{final} is not among the emotions"
    return Entry(path, split, {"emotion": EMOTION.code(final)})
