"""UTKFace as ``jangedoo/utkface-new`` lays it out: colour faces of 200 pixels whose names are their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helpers.config import AGE_RANGE, GENDERS, RACES, InputError
from helpers.data.layouts.files import Entry, Item, contents, find, holds_files, in_order, not_an_image


def list_utkface(folder: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every file of ``UTKFace/`` where it is there, else of ``crop_part1/``.

    The dataset holds the same faces up to four times; reading every folder would count them twice and leak.

    Raises:
        InputError: the folder has another layout.
    """
    for kind in ("UTKFace", "crop_part1"):
        root = find(folder, lambda place, kind=kind: holds_files(place / kind))
        if root is None and folder.name == kind:
            root = folder.parent
        if root is not None:
            break
    else:
        raise InputError(
            f"{folder} does not hold UTKFace: found {contents(folder)}, expected a folder UTKFace or crop_part1."
        )
    for path in in_order(root / kind):
        yield not_an_image(path) or parse_utkface_name(path)


def parse_utkface_name(path: Path) -> Item:
    """Labels from ``age_gender_race_time.jpg[.chip.jpg]``, or (path, reason)."""
    parts = path.name.split(".")[0].strip().split("_")
    if len(parts) != 4:
        return path, f"name has {len(parts)} fields, not age_gender_race_time"
    for what, text, top in zip(
        ("age", "gender", "race"), parts, (AGE_RANGE[1], len(GENDERS) - 1, len(RACES) - 1), strict=False
    ):
        # isdecimal alone also takes other scripts' digits, which no file of this dataset has.
        if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= top):
            return path, f"{what} in the name is not 0 to {top:g}"
    age, gender, race = (int(text) for text in parts[:3])
    return Entry(path, age=float(age), gender=gender, race=race)
