"""What the layouts share: the entry they give for each file, and looking at folders and CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.config import UNKNOWN, InputError

_EXTENSIONS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Entry:
    """A file that a layout names, with the labels its place and name give.

    ``split`` is the published one, and ``part`` a part of it that is also reported by itself.
    """

    path: Path
    split: str | None = None
    emotion: int = UNKNOWN
    age: float = math.nan
    gender: int = UNKNOWN
    race: int = UNKNOWN
    part: str | None = None


Item = Entry | tuple[Path, str]
"""What a layout's reader yields: an entry, or (path, reason) of a file or row that cannot be used."""


def not_an_image(path: Path) -> tuple[Path, str] | None:
    """(path, reason) of something that is not an image file by its name."""
    if _answered(path.is_dir):
        return path, "a folder among the images"
    if path.suffix.lower() not in _EXTENSIONS:
        return path, f"not {', '.join(_EXTENSIONS)}"
    return None


def in_order(folder: Path) -> Iterable[Path]:
    """What lies in a folder, in one order on every file system."""
    return sorted(folder.iterdir(), key=lambda path: path.name)


def find(folder: Path, fits: Callable[[Path], bool]) -> Path | None:
    """The folder, or one at most two levels below it, whose content fits: archives nest differently."""
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist; correct the path or download again.")
    level = [folder]
    for _ in range(3):
        for place in level:
            if fits(place):
                return place
        level = [below for place in level for below in in_order(place) if below.is_dir()]
    return None


def holds_files(folder: Path) -> bool:
    """Whether it is a folder with at least one file in it."""
    return folder.is_dir() and any(path.is_file() for path in folder.iterdir())


def contents(folder: Path) -> str:
    """The first few names in a folder, for a message."""
    names = [path.name for path in in_order(folder)]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    return _answered(path.is_file)


def _answered(question: Callable[[], bool]) -> bool:
    """The file system's answer; no to a name longer than it allows, or with a zero byte in it."""
    try:
        return question()
    except (OSError, ValueError):
        return False


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


def one_label_each(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str | None]]:
    """(key, label) once per key; None where a key's rows contradict each other."""
    found: dict[str, str | None] = {}
    for key, label in rows:
        found[key] = label if found.get(key, label) == label else None
    yield from found.items()
