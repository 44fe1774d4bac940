"""UTKFace as ``jangedoo/utkface-new`` lays it out: colour faces of 200 pixels whose names are their labels."""

from collections.abc import Iterator
from pathlib import Path

from helpers.data.layouts.files import Entry, Item, in_order, nested, not_an_image, other_layout
from helpers.tasks import AGE_RANGE, GENDERS, RACES

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
    """Labels from ``age_gender_race_time.jpg[.chip.jpg]``, or (path, reason)."""
    parts = path.name.split(".")[0].strip().split("_")
    if len(parts) != 4:
        return path, f"name has {len(parts)} fields, not age_gender_race_time"
    for (what, largest), text in zip(_LARGEST.items(), parts, strict=False):
        # isdecimal alone also takes other scripts' digits, which no file of this dataset has.
        if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= largest):
            return path, f"{what} in the name is not 0 to {largest:g}"
    age, gender, race = (int(text) for text in parts[:3])
    return Entry(path, labels={"age": (age, age), "gender": gender, "race": race})
