"""What the layouts share: the entry they give for each file, class folders, and looking at folders and CSV files."""

import csv
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.files import InputError

_EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm",
               ".gif")  # fmt: skip

SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "publictest": "test", "privatetest": "test",
}  # fmt: skip
"""How datasets call their published splits, in small letters, and the split that is meant."""

PARTS = {"publictest": "PublicTest", "privatetest": "PrivateTest"}
"""The halves of FER2013's test split, in small letters, and as they are reported."""

HIDDEN = "in a hidden folder"

TABLE = "read as a table"
"""Not a reason: what a layout says of a table that it has read, which is used and no face."""


@dataclass(frozen=True)
class Entry:
    """A face that a layout names, with the labels its place and name give.

    Attributes:
        path: its file; for a face in a row of a table, the table's path with the row below it.
        split: the published one, and ``part`` a part of it that is also reported by itself.
        labels: those that are known, by the names and in the form of :data:`helpers.tasks.LABELS`.
        subject: whose face it is, where the dataset says so.
        unknown: why labels of it that were given are not known, a reason for each.
        pixels: of a face in a row of a table, square and grey, one byte each.
    """

    path: Path
    split: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    part: str | None = None
    subject: str | None = None
    unknown: tuple[str, ...] = ()
    pixels: bytes | None = None


Item = Entry | tuple[Path, str]
"""What a layout's reader yields: an entry, or (path, reason) of a file or row that cannot be used, or (path, TABLE)."""


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


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As ``os.walk``, which does not enter links.

    Raises:
        InputError: a folder cannot be listed.
    """

    def refuse(error: OSError):
        raise InputError(f"{error.filename} cannot be listed ({error.strerror}); try again, or copy it elsewhere.")

    return os.walk(folder, onerror=refuse)


def in_order(folder: Path) -> list[Path]:
    """What lies in a folder, in one order on every file system."""
    _, folders, files = next(_walk(folder))
    return [folder / name for name in sorted([*folders, *files])]


def is_hidden(name: str) -> bool:
    """Whether a folder is what a system or a program leaves beside what a person put there."""
    return name.startswith((".", "__MACOSX"))


def nested(folder: Path, depth: int = 3) -> list[Path]:
    """The folder, then those up to ``depth`` levels below it, the upper ones first: archives nest differently.

    Hidden folders are not entered.
    """
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist; correct the path or download again.")
    found = []
    for place, folders, _ in _walk(folder):
        level = len(Path(place).relative_to(folder).parts)
        folders[:] = [name for name in folders if level < depth and not is_hidden(name)]
        found.append((level, place))
    return [Path(place) for _, place in sorted(found)]


def printable(path: Path | str) -> str:
    """A path as text that can be printed and stored, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def other_layout(folder: Path, title: str, expected: str) -> InputError:
    """What to raise for a folder in which a dataset was not found; names the first few things in it."""
    names = [printable(path.name) for path in in_order(folder)]
    found = (", ".join(names[:5]) or "nothing") + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return InputError(f"{folder} does not hold {title}: found {found}, expected {expected}.")


def find(folder: Path, holds: Callable[[Path], Any]) -> Any:
    """What ``holds`` says of the folder, or of the first one :func:`nested` in it of which it says something."""
    return next(filter(None, map(holds, nested(folder))), None)


def split_folders(root: Path) -> list[Path]:
    """The folders of published splits in ``root``, by any of their names."""
    return [place for place in in_order(root) if place.name.lower() in SPLITS and place.is_dir()]


def need_classes(root: Path, title: str, classes: Iterable[Any], class_of: Callable[[str], Any]) -> None:
    """Raise an InputError unless ``root`` holds a folder of each class, by what ``class_of`` says of their names."""
    found = {class_of(place.name) for place in in_order(root) if place.is_dir()}
    if missing := [str(name) for name in classes if class_of(name) not in found]:
        raise InputError(f"{root} does not hold {title}: no folder {', '.join(missing)}.")


def class_folders(root: Path, class_of: Callable[[str], Any], stray: str, entry: Callable[[Path], Item]):
    """An item for every file in ``root``: the ``entry`` of each image in a class's folder, and why not of the rest.

    A class's folder is one of whose name ``class_of`` does not say None.
    """
    for place in in_order(root):
        if place.is_dir() and class_of(place.name) is not None:
            yield from (not_an_image(path) or entry(path) for path in in_order(place))
        elif not (place.is_dir() and is_hidden(place.name)):
            files = in_order(place) if place.is_dir() else [place]
            yield from ((path, stray) for path in files if not path.is_dir())


def unread(folder: Path, items: list[Item]) -> Iterator[tuple[Path, str]]:
    """(path, reason) of every file below a folder, and of every link to a folder, that none of the items names."""
    seen, places = set(map(path_of, items)), {item.path.parent for item in items if isinstance(item, Entry)}
    taken = Path(os.path.commonpath(places)) if places else folder
    outside = f"outside of {printable(taken.relative_to(folder))}, which is read"
    for root, folders, files in _walk(folder):
        folders.sort()
        for path in (Path(root, name) for name in sorted([*files, *folders])):
            if path not in seen and path not in places and (path.is_symlink() or not path.is_dir()):
                hidden = any(map(is_hidden, path.relative_to(folder).parts[:-1]))
                yield path, HIDDEN if hidden else "in no folder that is read" if taken in path.parents else outside


def why_not_open(path: Path, root: str, most: int, resolved: Callable[[Path], str] = os.path.realpath) -> str | None:
    """Why a file is not opened: it is no regular file, leads out of ``root`` (resolved), or is too large; or None.

    Args:
        most: bytes that it may have.
        resolved: gives a folder's real path, as it was found before.
    """
    try:
        about = os.stat(path)
        real = os.path.realpath(path) if path.is_symlink() else resolved(path.parent)
    except OSError as error:
        return f"file cannot be opened ({error.strerror})"
    if os.path.commonpath([root, real]) != root:
        return "a link that leads out of the dataset's folder"
    if not stat.S_ISREG(about.st_mode):
        return "not a regular file"
    return f"more than {most // 1_000_000} MB" if about.st_size > most else None


SURPLUS = "surplus cells"
"""The key under which a row of :func:`read_rows` holds cells beyond the last column."""


_TABLE_BYTES = 1_000_000_000


def read_rows(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file as column -> text without spaces around it; a cell that is not there is empty.

    Columns are known by their names in small letters.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or lacks or repeats a column.
    """
    if problem := why_not_open(path, os.path.realpath(path.parent), _TABLE_BYTES):
        raise InputError(f"{path} cannot be read as CSV ({problem}); put a copy of the table there.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            # Strict, since a quote that is never closed would otherwise swallow all rows behind it.
            reader = csv.DictReader(file, restkey=SURPLUS, restval="", strict=True)
            columns = reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            if missing := [name for name in needed if name not in columns]:
                raise InputError(
                    f"{path} lacks the column {', '.join(missing)}: found {', '.join(columns) or 'nothing'}, "
                    f"expected {', '.join(needed)} separated by commas."
                )
            if repeated := [name for name in dict.fromkeys(columns) if columns.count(name) > 1]:
                raise InputError(f"{path} has more than one column {', '.join(repeated)}; keep one of each.")
            for row in reader:
                yield {name: "".join(text).strip() for name, text in row.items()}
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); correct it or download it again.") from None


def read_labels(place: Path, column: str, parts: int) -> dict[str, str | None]:
    """File -> label of a CSV file.

    A file is known by the last ``parts`` of its path, which stands in ``column``. Its label is None where its rows
    contradict each other.
    """
    found: dict[str, str | None] = {}
    for row in read_rows(place, (column, "label")):
        key = "/".join(row[column].replace("\\", "/").strip("/").split("/")[-parts:])
        label = row["label"].lower().removesuffix(".0")  # some programs write whole numbers as decimal ones
        found[key] = label if found.get(key, label) == label else None
    return found
