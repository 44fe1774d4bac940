"""The datasets: what each is, where it lies, and how its folder is read into the one table of faces.

A layout's reader only looks at names; :func:`read_source` opens the files it lists. So what is accepted, and under
which label, can be told and tested without an image.
"""

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch.utils.data import DataLoader

from helpers.config import PackConfig
from helpers.data.images import MAX_BYTES, Face, RejectedImageError, encode_grey, read_face
from helpers.data.layouts.affectnet import list_affectnet
from helpers.data.layouts.fer2013 import list_fer2013
from helpers.data.layouts.files import HIDDEN, TABLE, Entry, Item, path_of, printable, unread, why_not_open
from helpers.data.layouts.own import list_own
from helpers.data.layouts.rafdb import list_rafdb
from helpers.data.layouts.utkface import list_utkface
from helpers.data.workers import loading, quiet_worker
from helpers.files import InputError, read_json, to_json, user_path, write_file
from helpers.session.progress import Progress, silent
from helpers.tasks import LABELS

SCHEMA = pa.schema([
    ("image", pa.binary()), ("dataset", pa.string()), ("split", pa.string()),
    *((name, pa.type_for_alias(label.storage)) for label in LABELS.values() for name in label.columns),
    ("sha", pa.string()), ("name", pa.string()), ("part", pa.string()), ("subject", pa.string()),
])  # fmt: skip
"""The table of faces, one row per image. Here ``split`` is the published one (as in the audit, or null)."""


_WORTH_A_PROCESS = 500
"""Images for each of which a process is started to read them; it takes as long as some hundred small ones."""


@dataclass(frozen=True)
class Source:
    """A dataset: what it holds, where it comes from and under which terms, and how its folder is read.

    Attributes:
        title: its name among people.
        handle: its name on Kaggle; for a user's own faces, what they are.
        labels: what its faces carry.
        images: how many images the download holds that can be read, and ``megabytes``: about how large it is.
        lost: what a model lacks without it.
        list_files: (folder, knobs) -> an item for every file.
    """

    title: str
    handle: str
    labels: str
    images: int
    megabytes: int
    terms: str
    lost: str
    list_files: Callable[[Path, PackConfig], Iterator[Item]]


@dataclass(frozen=True)
class Read:
    """What :func:`read_source` found in a dataset.

    Attributes:
        dataset: its name.
        table: one row per usable image (see SCHEMA).
        outlines, thumbnails: what twins are told by, in the rows' order (see :mod:`helpers.data.twins`).
        sides: the faces' longer sides in pixels.
        rejects: (name, reason) of what cannot be used.
        unknown: (name, reason) of labels that were given and are not known, of faces that are used.
    """

    dataset: str
    table: pa.Table
    outlines: np.ndarray
    thumbnails: np.ndarray
    sides: np.ndarray
    rejects: list[tuple[str, str]]
    unknown: list[tuple[str, str]]

    def left_out(self) -> dict:
        """What was left out, files and labels: counts by reason, most frequent first, and every name.

        Of hidden folders the name alone, with the number of files.
        """
        inside = [name for name, why in self.rejects if why == HIDDEN]
        hidden = Counter(re.sub(r"((^|/)(\.|__MACOSX)[^/]*)/.*", r"\1", name) for name in inside)
        listed = [pair for pair in self.rejects if pair[1] != HIDDEN]
        listed += [(f"{folder}: {count} files", HIDDEN) for folder, count in hidden.items()]
        counts = {"rejected": self.rejects, "unknown": self.unknown}
        found = {name: dict(Counter(why for _, why in pairs).most_common()) for name, pairs in counts.items()}
        return found | {"rejected_files": listed, "unknown_labels": self.unknown}


_RESEARCH = "non-commercial research only, not to be passed on"

SOURCES = {
    "fer2013": Source("FER2013", "msambare/fer2013", "emotion", 35_887, 50, "Database Contents License",
        "the emotion criterion cannot be judged", lambda folder, _: list_fer2013(folder)),
    "utkface": Source("UTKFace", "jangedoo/utkface-new", "age, gender", 23_708, 300, "non-commercial research only",
        "age and gender are not learned", lambda folder, _: list_utkface(folder)),
    "rafdb": Source("RAF-DB", "shuvoalok/raf-db-dataset", "emotion", 15_339, 200, _RESEARCH,
        "the emotion criterion cannot be judged", lambda folder, _: list_rafdb(folder)),
    "affectnet": Source("AffectNet subset", "noamsegal/affectnet-training-data", "emotion", 29_042, 250, _RESEARCH,
        "emotion is learned from fewer faces", lambda folder, knobs: list_affectnet(folder, knobs.affectnet_labels)),
}  # fmt: skip
"""The datasets on Kaggle. Images are counted; the megabytes are those that the seed of this project states."""

OWN = "own"
"""The name of a user's own faces where they are given without one."""

OWN_SOURCE = Source("your own faces", "a CSV file", "any", 0, 0, "your own",
    "they are not learned", lambda table, knobs: list_own(table, knobs.gender_codes))  # fmt: skip


def source_of(name: str, place: Path | None = None) -> Source:
    """The source of that name; a CSV file at ``place`` makes any new name one of a user's own.

    Raises:
        InputError: there is no such dataset.
    """
    own = place is not None and place.suffix.lower() == ".csv"
    if own and name not in SOURCES and re.fullmatch(r"[a-z0-9_-]{1,32}", name):
        return OWN_SOURCE
    if own or name not in SOURCES:
        raise InputError(
            f"There is no dataset {name!r}{' in a CSV file' if own else ''}; choose from: {', '.join(SOURCES)}, or "
            "give a CSV file of your own faces under another name in small letters."
        )
    return SOURCES[name]


def list_items(source: Source, place: Path, knobs: PackConfig) -> Iterator[Item]:
    """An item for every file of a dataset; an InputError where a folder does not answer, as on a Drive that is gone."""
    try:
        yield from source.list_files(place, knobs)
    except OSError as error:
        raise InputError(
            f"{error.filename or place} cannot be listed ({error.strerror}); see that its disk or Drive is there, then "
            "run this step again: nothing was packed."
        ) from error


def load_paths(path: Path) -> dict[str, Path]:
    """Read ``dataset_paths.json``: an object ``{dataset: folder}``; folders may be relative to the file.

    A name of the user's own takes a CSV file instead of a folder (see :mod:`helpers.data.layouts.own`).

    Raises:
        InputError: the file is missing or wrong, names an unknown dataset, or a folder is missing or empty.
    """
    found = {}
    for name, place in read_json(path, "an object {dataset: folder}").items():
        if not isinstance(place, str):
            raise InputError(f"{path}: the folder of {name!r} is {place!r}, but a path in quotes was expected.")
        found[name] = checked_place(name, Path(path).parent / user_path(place), f"{path}: {name!r}")
    if not found:
        raise InputError(f'{path} names no dataset; expected for example {{"fer2013": "/path/to/fer2013"}}.')
    return found


def checked_place(name: str, place: Path, what: str) -> Path:
    """The full path of ``place`` if it may hold the dataset: a folder with something in it, or a user's CSV file.

    Raises:
        InputError: it is neither; the sentence begins with ``what``.
    """
    place = Path(os.path.abspath(place))
    if source_of(name, place) is OWN_SOURCE:
        if not place.is_file():
            raise InputError(f"{what}, {place}, does not exist; correct the path.")
    elif not place.is_dir():
        raise InputError(f"{what}, {place}, does not exist; correct it or download again.")
    elif not any(place.iterdir()):
        raise InputError(f"{what}, {place}, is empty; correct it or download again.")
    return place


def save_paths(path: Path, folders: dict[str, Path]) -> None:
    """Write ``dataset_paths.json``."""
    write_file(path, to_json({name: str(folder) for name, folder in folders.items()}, indent=2))


DRAWN_RECORD = "sample_faces.json"
"""The file that :mod:`drawn_faces` leaves beside the datasets that it has drawn."""


def is_drawn(folder: Path) -> bool:
    """Whether a folder holds, or lies in, drawn faces: what is measured on them says nothing about real ones."""
    folder = Path(folder).absolute()
    return any((place / DRAWN_RECORD).exists() for place in (folder, *folder.parents))


def list_all(name: str, place: Path, knobs: PackConfig) -> list[Item]:
    """What a dataset's layout says of its files, and (path, reason) for every file below its folder that it leaves.

    Raises:
        InputError: the folder has not this dataset's layout, or cannot be listed.
    """
    items = list(list_items(source_of(name, place), place, knobs))
    return [*items, *unread(place, items)] if place.is_dir() else items


def fingerprint(name: str, place: Path, listed: list[Item]) -> dict:
    """A dataset's handle, folder, whether it is drawn, and a digest over the files' names, sizes and labels.

    Tells whether a packed store still matches the folder, without opening an image.

    Args:
        listed: its files, of :func:`list_all`.
    """
    source, drawn, digest = source_of(name, place), is_drawn(place), hashlib.sha256()
    folder = place if place.is_dir() else place.parent
    for item in listed:
        path, about = item if isinstance(item, tuple) else (item.path, tuple(vars(item).values())[1:])
        if about != HIDDEN:  # systems write there unasked
            size = path.stat().st_size if os.path.isfile(path) else -1
            digest.update(f"{_name(path, folder)}|{size}|{about}\n".encode())
    return {"handle": source.handle, "terms": "drawn by this project" if drawn else source.terms,
            "folder": str(place.absolute()), "drawn": drawn, "listing": digest.hexdigest()}  # fmt: skip


def read_source(
    name: str, place: Path, knobs: PackConfig, progress: Progress = silent, listed: list[Item] | None = None
) -> Read:
    """Read one dataset's folder, or the CSV file of a user's own faces, into the table of faces.

    Args:
        listed: its files, of :func:`list_all`, where they are at hand.

    Raises:
        InputError: the folder has not this dataset's layout, or not one of its images can be used.
    """
    items = list_all(name, place, knobs) if listed is None else listed
    items = [item for item in items if isinstance(item, Entry) or item[1] != TABLE]
    rows, likenesses, sides, unknown = [], [], [], []
    rejects: list[tuple[str, Any]] = []
    folder = place if place.is_dir() else place.parent
    # Processes, since threads would mostly wait for each other's turn at small faces.
    workers = min(len(os.sched_getaffinity(0)), len(items) // _WORTH_A_PROCESS)
    opened: Iterable[list[Face | str]] = DataLoader(
        items, 64, num_workers=workers, worker_init_fn=quiet_worker,  # type: ignore[arg-type]
        collate_fn=partial(_open_all, os.path.realpath(folder), knobs.max_side),
    )  # fmt: skip
    with loading("make room and run this again"):
        for done, (item, face) in enumerate(zip(items, chain.from_iterable(opened), strict=True), start=1):
            file = _name(path_of(item), folder)
            if isinstance(item, tuple) or isinstance(face, str):
                rejects.append((file, face))
            else:
                labels = [cell for label in LABELS.values()
                          for cell in label.cells(item.labels.get(label.name, label.unknown))]  # fmt: skip
                rows.append((face.encoded, name, item.split, *labels, face.sha, file, item.part, item.subject))
                unknown += [(file, reason) for reason in item.unknown]
                likenesses.append(face.likeness)
                sides.append(max(face.height, face.width))
            if done % 256 == 0 or done == len(items):
                progress(done, len(items))
    if not rows:
        reasons = Counter(reason for _, reason in rejects).most_common(1)
        why = "".join(f" The most frequent reason: {reason}." for reason, _ in reasons)
        raise InputError(f"{place} holds no usable image of {name}: {len(rejects)} files, all rejected.{why}")
    columns = [pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    outlines, thumbnails = (np.stack(column) for column in zip(*likenesses, strict=True))
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    return Read(name, table, outlines, thumbnails, np.array(sides), rejects, unknown)


def _name(path: Path, folder: Path) -> str:
    """A file's path in its dataset, as text that can be stored."""
    name = str(path).removeprefix(f"{folder}/")  # takes a tenth of relpath's time
    return printable(os.path.relpath(path, folder) if os.path.isabs(name) else name)


def _open_all(root: str, max_side: int, items: list[Item]) -> list[Face | str]:
    resolved = cache(os.path.realpath)
    # Pillow warns of large pictures and odd EXIF blocks; both are judged by read_face, not shown to the user.
    with warnings.catch_warnings(action="ignore"):
        return [_open(item, root, max_side, resolved) for item in items]


def _open(item: Item, root: str, max_side: int, resolved: Callable[[Path], str]) -> Face | str:
    """The face in an entry's file, or why it was rejected."""
    if isinstance(item, tuple):
        return item[1]
    try:
        if item.pixels:
            return read_face(encode_grey(item.pixels), max_side)
        return why_not_open(item.path, root, MAX_BYTES, resolved) or read_face(item.path.read_bytes(), max_side)
    except RejectedImageError as error:
        return str(error)
    except OSError as error:
        return f"file cannot be opened ({error.strerror})"
