"""The datasets: what each is, where it lies, and how its folder is read into the one table of faces.

A layout's reader only looks at names; :func:`read_source` opens the files it lists. So what is accepted, and under
which label, can be told and tested without an image.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from drawn_faces.datasets import is_drawn
from helpers.config import DataConfig, InputError, read_json, write_file
from helpers.data.images import RejectedImageError, read_face
from helpers.data.layouts.affectnet import list_affectnet
from helpers.data.layouts.fer2013 import list_fer2013
from helpers.data.layouts.files import Item, is_file
from helpers.data.layouts.own import list_own
from helpers.data.layouts.rafdb import list_rafdb
from helpers.data.layouts.utkface import list_utkface
from helpers.session.progress import Progress, silent

SCHEMA = pa.schema(
    [
        ("image", pa.binary()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("emotion", pa.int8()),
        ("age", pa.float32()),
        ("gender", pa.int8()),
        ("race", pa.int8()),
        ("sha", pa.string()),
        ("name", pa.string()),
        ("part", pa.string()),
    ]
)
"""The table of faces, one row per image. Here ``split`` is the published one (``train``, ``test`` or null)."""


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
    list_files: Callable[[Path, DataConfig], Iterator[Item]]


@dataclass(frozen=True)
class Read:
    """What :func:`read_source` found in a dataset.

    Attributes:
        dataset: its name.
        table: one row per usable image (see SCHEMA).
        hashes, thumbnails: what twins are told by, in the rows' order (see :mod:`helpers.data.twins`).
        sides: the faces' longer sides in pixels.
        rejects: (name, reason) of what cannot be used.
    """

    dataset: str
    table: pa.Table
    hashes: np.ndarray
    thumbnails: np.ndarray
    sides: np.ndarray
    rejects: list[tuple[str, str]]

    def reasons(self) -> dict[str, int]:
        """How many files were rejected, by reason, most frequent first."""
        return dict(Counter(reason for _, reason in self.rejects).most_common())


_RESEARCH = "non-commercial research only, not to be passed on"

SOURCES = {
    "fer2013": Source(
        "FER2013", "msambare/fer2013", "emotion", 35_887, 50, "Database Contents License",
        "the emotion criterion cannot be judged",
        lambda folder, _: list_fer2013(folder),
    ),
    "utkface": Source(
        "UTKFace", "jangedoo/utkface-new", "age, gender", 23_708, 300, "non-commercial research only",
        "age and gender are not learned",
        lambda folder, _: list_utkface(folder),
    ),
    "rafdb": Source(
        "RAF-DB", "shuvoalok/raf-db-dataset", "emotion", 15_339, 200, _RESEARCH,
        "the emotion criterion cannot be judged",
        lambda folder, _: list_rafdb(folder),
    ),
    "affectnet": Source(
        "AffectNet subset", "noamsegal/affectnet-training-data", "emotion", 29_042, 250, _RESEARCH,
        "emotion is learned from fewer faces",
        lambda folder, knobs: list_affectnet(folder, knobs.affectnet_labels),
    ),
}  # fmt: skip
"""The datasets on Kaggle. Images are counted; the megabytes are those that the seed of this project states."""

OWN = "own"
"""The name of a user's own faces where they are given without one."""

OWN_SOURCE = Source(
    "your own faces", "a CSV file", "any", 0, 0, "your own", "they are not learned", lambda table, _: list_own(table)
)


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
        found[name] = checked_place(name, Path(path).parent / os.path.expanduser(place), f"{path}: {name!r}")
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
        return place
    if not place.is_dir():
        raise InputError(f"{what}, {place}, does not exist; correct it or download again.")
    if not any(place.iterdir()):
        raise InputError(f"{what}, {place}, is empty; correct it or download again.")
    return place


def save_paths(path: Path, folders: dict[str, Path]) -> None:
    """Write ``dataset_paths.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({name: str(folder) for name, folder in folders.items()}, indent=2) + "\n")


def fingerprint(folders: dict[str, Path], knobs: DataConfig) -> dict[str, dict]:
    """Per dataset its handle, folder, whether it is drawn, and a digest over the files' names, sizes and labels.

    Tells whether a packed store still matches the folders, without opening an image.
    """
    found = {}
    for name, place in folders.items():
        source, digest = source_of(name, place), hashlib.sha256()
        for item in source.list_files(place, knobs):
            path, about = item if isinstance(item, tuple) else (item.path, dataclasses.astuple(item)[1:])
            size = path.stat().st_size if is_file(path) else -1
            digest.update(f"{_name(path, place)}|{size}|{about}\n".encode())
        found[name] = {
            "handle": source.handle,
            "terms": "drawn by this project" if is_drawn(place) else source.terms,
            "folder": str(place.absolute()),
            "drawn": is_drawn(place),
            "listing": digest.hexdigest(),
        }
    return found


def read_source(name: str, place: Path, knobs: DataConfig, progress: Progress = silent) -> Read:
    """Read one dataset's folder, or the CSV file of a user's own faces, into the table of faces.

    Raises:
        InputError: the folder has not this dataset's layout, or not one of its images can be used.
    """
    listed = list(source_of(name, place).list_files(place, knobs))
    rows, likenesses, sides, rejects = [], [], [], []
    # Threads, since decoding and hashing both let go of the interpreter's lock. Pillow warns of large pictures and odd
    # EXIF blocks; both are judged by read_face, not shown to the user.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (item, result) in enumerate(
            zip(listed, pool.map(partial(_open, max_side=knobs.max_side), listed), strict=True), start=1
        ):
            path = item[0] if isinstance(item, tuple) else item.path
            if isinstance(result, str):
                rejects.append((_name(path, place), result))
            else:
                rows.append((result.encoded, name, item.split, item.emotion, item.age, item.gender, item.race,
                             result.sha, _name(path, place), item.part))  # fmt: skip
                likenesses.append(result.likeness)
                sides.append(max(result.height, result.width))
            if done % 256 == 0 or done == len(listed):
                progress(done, len(listed))
    if not rows:
        why = (
            f" The most frequent reason: {Counter(why for _, why in rejects).most_common(1)[0][0]}." if rejects else ""
        )
        raise InputError(f"{place} holds no usable image of {name}: {len(rejects)} files, all rejected.{why}")
    columns = [pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    hashes, thumbnails = (np.stack(column) for column in zip(*likenesses, strict=True))
    return Read(name, pa.Table.from_arrays(columns, schema=SCHEMA), hashes, thumbnails, np.array(sides), rejects)


def _name(path: Path, place: Path) -> str:
    """A file's path in its dataset."""
    return path.relative_to(place if place.is_dir() else place.parent).as_posix()


def _open(item: Item, max_side: int):
    """The face in an entry's file, or why it was rejected."""
    if isinstance(item, tuple):
        return item[1]
    try:
        return read_face(item.path.read_bytes(), max_side)
    except RejectedImageError as error:
        return str(error)
    except OSError as error:
        return f"file cannot be opened ({error.strerror})"
