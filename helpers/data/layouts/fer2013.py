"""FER2013 as ``msambare/fer2013`` lays it out: grey faces of 48 pixels, ``train|test/<emotion>/*.jpg``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helpers.config import EMOTIONS, InputError
from helpers.data.layouts.files import Entry, Item, contents, find, in_order, not_an_image


def list_fer2013(folder: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every file, in a fixed order.

    Raises:
        InputError: the folder has another layout.
    """
    root = find(folder, lambda place: (place / "train").is_dir() and (place / "test").is_dir())
    if root is None:
        raise InputError(f"{folder} does not hold FER2013: found {contents(folder)}, expected folders train and test.")
    for split in ("train", "test"):
        missing = [emotion for emotion in EMOTIONS if not (root / split / emotion).is_dir()]
        if missing:
            raise InputError(
                f"{root / split} does not hold FER2013: no folder {', '.join(missing)}; expected {', '.join(EMOTIONS)}."
            )
        for place in in_order(root / split):
            if not place.is_dir():
                yield place, "not in an emotion's folder"
            elif place.name not in EMOTIONS:
                yield from ((path, "not in an emotion's folder") for path in in_order(place))
            else:
                emotion = EMOTIONS.index(place.name)
                for path in in_order(place):
                    yield not_an_image(path) or Entry(path, split, emotion=emotion, part=_part(path, split))


def _part(path: Path, split: str) -> str | None:
    """The half of the test folder that a name tells: published scores are those of PrivateTest alone."""
    usage = path.name.partition("_")[0]
    return usage if split == "test" and usage in ("PublicTest", "PrivateTest") else None
