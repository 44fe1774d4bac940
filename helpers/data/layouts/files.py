"""What the layouts share: the entry they give for each file, class folders, and looking at folders and CSV files."""

import csv
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.files import InputError

_EXTENSIONS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Entry:
    """A file that a layout names, with the labels its place and name give.

    ``split`` is the published one, and ``part`` a part of it that is also reported by itself. ``labels`` are those that
    are known, by the names and in the form of :data:`helpers.tasks.LABELS`.
    """

    path: Path
    split: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    part: str | None = None


Item = Entry | tuple[Path, str]
"""What a layout's reader yields: an entry, or (path, reason) of a file or row that cannot be used."""


def path_of(item: Item) -> Path:
    """The path of an entry, or of what cannot be used."""
    return item.path if isinstance(item, Entry) else item[0]


def not_an_image(path: Path) -> tuple[Path, str] | None:
    """(path, reason) of something that is not an image file by its name."""
    if os.path.isdir(path):  # which, other than the method, says no to a name that no file can have
        return path, "a folder among the images"
    if path.suffix.lower() not in _EXTENSIONS:
        return path, f"not {', '.join(_EXTENSIONS)}"
    return None


def in_order(folder: Path) -> Iterable[Path]:
    """What lies in a folder, in one order on every file system."""
    return sorted(folder.iterdir(), key=lambda path: path.name)


def nested(folder: Path) -> Iterator[Path]:
    """The folder, then those at most two levels below it: archives nest differently."""
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist; correct the path or download again.")
    yield folder
    yield from sorted(folder.glob("*/"))
    yield from sorted(folder.glob("*/*/"))


def other_layout(folder: Path, title: str, expected: str) -> InputError:
    """What to raise for a folder in which a dataset was not found; names the first few things in it."""
    names = [path.name for path in in_order(folder)]
    found = (", ".join(names[:5]) or "nothing") + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return InputError(f"{folder} does not hold {title}: found {found}, expected {expected}.")


def find(folder: Path, title: str, expected: str, *names: str) -> Path:
    """The folder, or the one :func:`nested` in it, that holds folders of these names.

    Raises:
        InputError: there is none; the message tells what was ``expected`` of the dataset ``title``.
    """
    for place in nested(folder):
        if all((place / name).is_dir() for name in names):
            return place
    raise other_layout(folder, title, expected)


def need_folders(root: Path, title: str, names: Iterable[str], expected: str = "") -> None:
    """Raise an InputError unless ``root`` holds a folder of each name."""
    if missing := [name for name in names if not (root / name).is_dir()]:
        raise InputError(f"{root} does not hold {title}: no folder {', '.join(missing)}{expected}.")


def class_folders(root: Path, names: Collection[str], stray: str, entry: Callable[[Path], Item]) -> Iterator[Item]:
    """An item for every file in ``root``: the ``entry`` of each image in a class's folder, and why not of the rest."""
    for place in in_order(root):
        files = in_order(place) if place.is_dir() else [place]
        if place.is_dir() and place.name in names:
            yield from (not_an_image(path) or entry(path) for path in files)
        else:
            yield from ((path, stray) for path in files)


SURPLUS = "surplus cells"
"""The key under which a row of :func:`read_rows` holds cells beyond the last column."""


def read_rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file as column -> text without spaces around it; a cell that is not there is empty.

    Columns are known by their names in small letters.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or lacks or repeats a column.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            # Strict, since a quote that is never closed would otherwise swallow all rows behind it.
            reader = csv.DictReader(file, restkey=SURPLUS, restval="", strict=True)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [{name: "".join(text).strip() for name, text in row.items()} for row in reader]
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); correct it or download it again.") from None
    if missing := [name for name in needed if name not in columns]:
        raise InputError(
            f"{path} lacks the column {', '.join(missing)}: found {', '.join(columns) or 'nothing'}, "
            f"expected {', '.join(needed)} separated by commas."
        )
    if repeated := [name for name in dict.fromkeys(columns) if columns.count(name) > 1]:
        raise InputError(f"{path} has more than one column {', '.join(repeated)}; keep one of each.")
    return rows


def read_labels(places: Iterable[Path], column: str, parts: int) -> dict[str, str | None] | None:
    """File -> label of the CSV file that is the first of ``places`` to be there; None where none is.

    A file is known by the last ``parts`` of its path, which stands in ``column``. Its label is None where its rows
    contradict each other.
    """
    place = next((place for place in places if place.exists()), None)
    if place is None:
        return None
    found: dict[str, str | None] = {}
    for row in read_rows(place, (column, "label")):
        key = "/".join(row[column].replace("\\", "/").strip("/").split("/")[-parts:])
        label = row["label"].lower().removesuffix(".0")  # some programs write whole numbers as decimal ones
        found[key] = label if found.get(key, label) == label else None
    return found
