"""The AffectNet subset as ``noamsegal/affectnet-training-data`` lays it out: colour faces of 96 pixels, one CSV."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from helpers.data.layouts.files import Entry, Item, class_folders, find, need_folders, read_labels
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
        folder: holds the class folders and ``labels.csv``, perhaps one level deeper.
        labels: ``agree`` takes the images on which folder and CSV agree, ``folder`` and ``csv`` believe one of them.

    Raises:
        InputError: the folder has another layout, or the CSV is needed and cannot be read.
    """
    root = find(folder, "AffectNet", f"folders {', '.join(FOLDERS)}", "anger", "happy")
    need_folders(root, "AffectNet", FOLDERS)
    # The CSV lies among the class folders or one level above.
    rows = {} if labels == "folder" else read_labels((root / _TABLE, root.parent / _TABLE), "pth", parts=2)
    if rows is None:
        raise InputError(
            f"{root} has no {_TABLE}; download again, or set affectnet_labels = 'folder' to go by the folders alone."
        )
    stray = "not in a class's folder"
    for item in class_folders(root, (*FOLDERS, CONTEMPT), stray, partial(_entry, labels, rows)):
        if item != (root / _TABLE, stray):
            yield item
    seen = {f"{path.parent.name}/{path.name}" for path in root.glob("*/*")}
    yield from ((root / key, f"in {_TABLE}, but there is no such file") for key in rows if key not in seen)


def _entry(labels: str, rows: dict[str, str | None], path: Path) -> Item:
    """The entry of an image in a class's folder, by the chosen source of labels."""
    final = place = path.parent.name
    if labels != "folder":
        key = f"{place}/{path.name}"
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
    return Entry(path, labels={"emotion": EMOTION.code(final)})
