"""FER2013 as ``msambare/fer2013`` lays it out: grey faces of 48 pixels, ``train|test/<emotion>/*.jpg``."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from helpers.data.layouts.files import Entry, Item, class_folders, find, need_folders
from helpers.tasks import EMOTION

FOLDERS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def list_fer2013(folder: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every file, in a fixed order.

    Raises:
        InputError: the folder has another layout.
    """
    root = find(folder, "FER2013", "folders train and test", "train", "test")
    for split in ("train", "test"):
        need_folders(root / split, "FER2013", FOLDERS, f"; expected {', '.join(FOLDERS)}")
        yield from class_folders(root / split, FOLDERS, "not in an emotion's folder", partial(_entry, split))


def _entry(split: str, path: Path) -> Entry:
    """The entry of an image; a name may tell its half of the test folder: published scores are PrivateTest's alone."""
    usage = path.name.partition("_")[0]
    part = usage if split == "test" and usage in ("PublicTest", "PrivateTest") else None
    return Entry(path, split, {"emotion": EMOTION.code(path.parent.name)}, part)
