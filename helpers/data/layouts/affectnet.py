"""The AffectNet subset as ``noamsegal/affectnet-training-data`` lays it out: colour faces of 96 pixels, one CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helpers.config import InputError, emotion_code
from helpers.data.layouts.files import Entry, Item, contents, find, in_order, not_an_image, one_label_each, read_rows

FOLDERS = ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CONTEMPT = "contempt"
_TABLE = "labels.csv"


def list_affectnet(folder: Path, labels: str = "agree") -> Iterator[Item]:
    """An entry or (path, reason) for every file of the class folders and every row without a file.

    The CSV's labels come from another model than the folders', and file names repeat across the folders, so a row is
    known by its ``pth``. Contempt has no place among the seven emotions: it is left out by the final label.

    Args:
        folder: holds the class folders and ``labels.csv``, perhaps one level deeper.
        labels: ``agree`` takes the images on which folder and CSV agree, ``folder`` and ``csv`` believe one of them.

    Raises:
        InputError: the folder has another layout, or the CSV is needed and cannot be read.
    """
    root = find(folder, lambda place: all((place / name).is_dir() for name in ("anger", "happy")))
    if root is None:
        raise InputError(
            f"{folder} does not hold AffectNet: found {contents(folder)}, expected folders {', '.join(FOLDERS)}."
        )
    if missing := [name for name in FOLDERS if not (root / name).is_dir()]:
        raise InputError(f"{root} does not hold AffectNet: no folder {', '.join(missing)}.")
    rows = {} if labels == "folder" else _rows(root)
    seen = set()
    for place in in_order(root):
        if place.is_dir() and place.name in (*FOLDERS, CONTEMPT):
            for path in in_order(place):
                key = f"{place.name}/{path.name}"
                seen.add(key)
                yield not_an_image(path) or _entry(path, place.name, rows, key, labels)
        elif place.is_dir():
            yield from ((path, "not in a class's folder") for path in in_order(place))
        elif place.name != _TABLE:
            yield place, "not in a class's folder"
    yield from ((root / key, f"in {_TABLE}, but there is no such file") for key in rows if key not in seen)


def _rows(root: Path) -> dict[str, str | None]:
    """``<class folder>/<file>`` -> label in the CSV, which lies among the class folders or one level above."""
    place = next((path for path in (root / _TABLE, root.parent / _TABLE) if path.exists()), None)
    if place is None:
        raise InputError(
            f"{root} has no {_TABLE}; download again, or set affectnet_labels = 'folder' to go by the folders alone."
        )
    rows = read_rows(place, ("pth", "label"))
    keys = ("/".join(row["pth"].replace("\\", "/").strip("/").split("/")[-2:]) for row in rows)
    return dict(one_label_each(zip(keys, (row["label"].lower() for row in rows), strict=True)))


def _entry(path: Path, place: str, rows: dict[str, str | None], key: str, labels: str) -> Item:
    """The entry of an image in the class folder ``place``, by the chosen source of labels."""
    final: str | None = place
    if labels != "folder":
        if key not in rows:
            return path, f"no row in {_TABLE}"
        final = rows[key]
        if final is None:
            return path, f"rows in {_TABLE} contradict each other"
        if final != CONTEMPT and emotion_code(final) is None:
            return path, f"label {final!r} in {_TABLE} is not an emotion"
        if labels == "agree" and emotion_code(final) != emotion_code(place):
            return path, f"{_TABLE} and the folder disagree"
    if final == CONTEMPT:
        return path, "contempt is not among the seven emotions"
    return Entry(path, emotion=emotion_code(final))
