"""UTKFace as ``jangedoo/utkface-new`` lays it out: colour faces of 200 pixels whose names are their labels."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.data.layouts.files import Entry, Item, in_order, nested, not_an_image, other_layout
from helpers.tasks import AGE_RANGE, GENDERS, LABELS, RACES, TASKS, not_known

_LARGEST = {"age": AGE_RANGE[1], "gender": len(GENDERS) - 1, "race": len(RACES) - 1}
"""The labels in a name, in its order, and their largest numbers."""


def list_utkface(folder: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every file of ``UTKFace/`` where it is there, else of ``crop_part1/``.

    The dataset holds the same faces up to four times; reading every folder would count them twice and leak.

    Raises:
        InputError: the folder has another layout.
    """
    images = next(_places(folder), None)
    if images is None:
        raise other_layout(folder, "UTKFace", "a folder UTKFace or crop_part1")
    for path in in_order(images):
        yield not_an_image(path) or parse_utkface_name(path)


def _places(folder: Path) -> Iterator[Path]:
    """Where the faces may lie, the best place first."""
    for kind in ("UTKFace", "crop_part1"):
        for place in nested(folder):
            if any(path.is_file() for path in place.glob(f"{kind}/*")):
                yield place / kind
        if folder.name == kind:
            yield folder


def parse_utkface_name(path: Path) -> Item:
    """Labels from ``age_gender_race_time.jpg[.chip.jpg]``, or (path, reason).

    A number that is none of a label's makes that label unknown. Where a field is missing, or is no short number at all,
    nothing tells which field is which, and the name is rejected.
    """
    parts = path.name.split(".")[0].strip().split("_")
    if len(parts) != 4:
        return path, f"name has {len(parts)} fields, not age_gender_race_time"
    labels, unknown = dict[str, Any](), list[str]()
    for (what, largest), text in zip(_LARGEST.items(), parts, strict=False):
        reason = f"{what} in the name is not 0 to {largest:g}"
        # ASCII alone, since no file of this dataset has other scripts' digits.
        if re.fullmatch(r"\d{1,3}", text, re.ASCII) and int(text) <= largest:
            labels[what] = int(text) if LABELS[what].classes else (int(text), int(text))
        elif re.fullmatch(r"-?\d{1,3}", text, re.ASCII) or (text and not_known(text)):
            unknown.append(reason)
        else:
            return path, reason
    if not labels.keys() & TASKS.keys():
        return path, "; ".join(unknown)
    return Entry(path, labels=labels, unknown=tuple(unknown))
