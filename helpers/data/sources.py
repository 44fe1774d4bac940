"""The datasets: fetch one from Kaggle, and read its folder layout into the one table of faces.

A layout's reader only looks at names; :func:`read_source` opens the files it lists. So what is accepted, and under
which label, can be told and tested without an image.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from drawn_faces.datasets import is_drawn, write_sample_faces
from helpers.config import AGE_RANGE, EMOTIONS, GENDERS, RACES, SAMPLE_FACES, UNKNOWN, InputError, read_json, write_file
from helpers.data.images import RejectedImageError, read_face
from helpers.session.progress import Progress, silent
from helpers.session.workspace import PATHS_FILE

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
    ]
)
"""The table of faces, one row per image. Here ``split`` is the published one (``train``, ``test`` or null)."""

_EXTENSIONS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Entry:
    """A file that a layout names, with the labels its place and name give; ``split`` is the published one."""

    path: Path
    split: str | None = None
    emotion: int = UNKNOWN
    age: float = math.nan
    gender: int = UNKNOWN
    race: int = UNKNOWN


@dataclass(frozen=True)
class Source:
    """A dataset on Kaggle: what it is called there, under which terms, and how its folder is read."""

    name: str
    handle: str
    terms: str
    list_files: Callable[[Path], Iterator[Entry | tuple[Path, str]]]


@dataclass(frozen=True)
class Read:
    """What :func:`read_source` found: the ``table`` (see SCHEMA) and ``rejects`` as (name, reason)."""

    source: Source
    table: pa.Table
    rejects: list[tuple[str, str]]

    def reasons(self) -> dict[str, int]:
        """How many files were rejected, by reason, most frequent first."""
        return dict(Counter(reason for _, reason in self.rejects).most_common())


def list_fer2013(folder: Path) -> Iterator[Entry | tuple[Path, str]]:
    """FER2013's layout, ``train|test/<emotion>/*.jpg``: an entry or (path, reason) per file, in a fixed order."""
    root = _find(folder, lambda place: (place / "train").is_dir() and (place / "test").is_dir())
    if root is None:
        raise InputError(f"{folder} does not hold FER2013: found {_contents(folder)}, expected folders train and test.")
    for split in ("train", "test"):
        missing = [emotion for emotion in EMOTIONS if not (root / split / emotion).is_dir()]
        if missing:
            raise InputError(
                f"{root / split} does not hold FER2013: no folder {', '.join(missing)}; expected {', '.join(EMOTIONS)}."
            )
        for place in _sorted(root / split):
            if not place.is_dir():
                yield place, "not in an emotion's folder"
            elif place.name not in EMOTIONS:
                yield from ((path, "not in an emotion's folder") for path in _sorted(place))
            else:
                emotion = EMOTIONS.index(place.name)
                yield from (_image_file(path) or Entry(path, split, emotion=emotion) for path in _sorted(place))


def list_utkface(folder: Path) -> Iterator[Entry | tuple[Path, str]]:
    """UTKFace's layout: ``UTKFace/`` alone where it is there, else ``crop_part1/``.

    The dataset holds the same faces up to four times; reading every folder would count them twice and leak.
    """
    for kind in ("UTKFace", "crop_part1"):
        root = _find(folder, lambda place, kind=kind: _holds_files(place / kind))
        if root is None and folder.name == kind:
            root = folder.parent
        if root is not None:
            break
    else:
        raise InputError(
            f"{folder} does not hold UTKFace: found {_contents(folder)}, expected a folder UTKFace or crop_part1."
        )
    for path in _sorted(root / kind):
        yield _image_file(path) or parse_utkface_name(path)


def parse_utkface_name(path: Path) -> Entry | tuple[Path, str]:
    """Labels from ``age_gender_race_time.jpg[.chip.jpg]``, or (path, reason). See SCHEMA for codes."""
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


SOURCES = {
    source.name: source
    for source in (
        Source("fer2013", "msambare/fer2013", "Database Contents License", list_fer2013),
        Source("utkface", "jangedoo/utkface-new", "non-commercial research only", list_utkface),
    )
}


def fetch(name: str) -> Path:
    """Download a dataset from Kaggle, or find it where an earlier call left it; returns its folder.

    Raises:
        InputError: Kaggle did not deliver it.
    """
    import kagglehub
    from kagglehub import exceptions as kaggle

    handle = source_named(name).handle
    try:
        return Path(kagglehub.dataset_download(handle))
    # HTTP errors and timeouts are OSErrors; the rest of kagglehub's own have no common base.
    except (OSError, ValueError, kaggle.BackendError, kaggle.CredentialError, kaggle.DataCorruptionError,
            kaggle.NotFoundError, kaggle.UnauthenticatedError) as error:  # fmt: skip
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(
            f"Kaggle did not deliver {handle} ({why[:120]}); run this step again to resume, or download it by hand and "
            "name its folder in dataset_paths.json."
        ) from error


def fetch_all(
    kind: str, names: list[str] | None, folder: Path, *, drawn: int = SAMPLE_FACES, progress: Progress = silent
) -> tuple[dict[str, Path], list[str]]:
    """Bring datasets to this machine: from Kaggle, or drawn.

    Args:
        kind: ``kaggle`` or ``sample``.
        names: which datasets; None means all.
        folder: where sample faces are written, and where ``dataset_paths.json`` may name folders that serve when a
            download fails; downloads stay where kagglehub keeps them.
        drawn: how many sample faces.
        progress: for drawing; kagglehub shows its own bars.

    Returns:
        Dataset -> folder, and a sentence for each dataset that is missing.

    Raises:
        InputError: not one dataset arrived.
    """
    names = [source_named(name).name for name in names or SOURCES]
    if kind == "sample":
        folders = write_sample_faces(folder / "sample_faces", drawn, progress=progress)
        return {name: folders[name] for name in names}, []
    known = _known_folders(folder / PATHS_FILE)
    folders, problems = {}, []
    for name in names:
        try:
            folders[name] = fetch(name)
        except InputError as error:
            problems.append(str(error))
            # Named by an earlier call or by hand; drawn faces never stand in for real ones.
            if name in known and not is_drawn(known[name]):
                folders[name] = known[name]
                problems[-1] += f" Until then {known[name]} is used."
    if not folders:
        raise InputError(" ".join(problems))
    return folders, problems


def _known_folders(path: Path) -> dict[str, Path]:
    """What a paths file names; nothing where it is missing or no longer right."""
    try:
        return load_paths(path)
    except InputError:
        return {}


def source_named(name: str) -> Source:
    """The source of that name, or an InputError that lists the known ones."""
    if name not in SOURCES:
        raise InputError(f"There is no dataset {name!r}; choose from: {', '.join(SOURCES)}.")
    return SOURCES[name]


def load_paths(path: Path) -> dict[str, Path]:
    """Read ``dataset_paths.json``: an object ``{dataset: folder}``; folders may be relative to the file.

    Raises:
        InputError: the file is missing or wrong, names an unknown dataset, or a folder is missing or empty.
    """
    found = {}
    for name, folder in read_json(path, "an object {dataset: folder}").items():
        source_named(name)
        if not isinstance(folder, str):
            raise InputError(f"{path}: the folder of {name!r} is {folder!r}, but a path in quotes was expected.")
        place = Path(path).parent / Path(folder).expanduser()
        if not place.is_dir():
            raise InputError(f"{path}: the folder of {name!r}, {place}, does not exist; correct it or download again.")
        if not any(place.iterdir()):
            raise InputError(f"{path}: the folder of {name!r}, {place}, is empty; correct it or download again.")
        found[name] = place
    if not found:
        raise InputError(f'{path} names no dataset; expected for example {{"fer2013": "/path/to/fer2013"}}.')
    return found


def save_paths(path: Path, folders: dict[str, Path]) -> None:
    """Write ``dataset_paths.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps({name: str(folder) for name, folder in folders.items()}, indent=2) + "\n")


def fingerprint(folders: dict[str, Path]) -> dict[str, dict]:
    """Per dataset its handle, folder, whether it is drawn, and a digest over the names and sizes of its files.

    Tells whether a packed store still matches the folders, without opening an image.
    """
    found = {}
    for name, folder in folders.items():
        digest = hashlib.sha256()
        for item in source_named(name).list_files(folder):
            path, reason = item if isinstance(item, tuple) else (item.path, "")
            digest.update(f"{path.relative_to(folder)}|{path.stat().st_size}|{reason}\n".encode())
        found[name] = {
            "handle": SOURCES[name].handle,
            "folder": str(folder),
            "drawn": is_drawn(folder),
            "listing": digest.hexdigest(),
        }
    return found


def read_source(name: str, folder: Path, progress: Progress = silent) -> Read:
    """Read one dataset's folder into the table of faces.

    Raises:
        InputError: the folder has not this dataset's layout, or not one of its images can be used.
    """
    source = source_named(name)
    listed = list(source.list_files(Path(folder)))
    rows, rejects = [], []
    # Threads, since decoding and hashing both let go of the interpreter's lock. Pillow warns of large pictures and odd
    # EXIF blocks; both are judged by read_face, not shown to the user.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (item, result) in enumerate(zip(listed, pool.map(_open, listed), strict=True), start=1):
            path = item[0] if isinstance(item, tuple) else item.path
            relative = path.relative_to(folder).as_posix()
            if isinstance(result, str):
                rejects.append((relative, result))
            else:
                rows.append((result.encoded, name, item.split, item.emotion, item.age, item.gender, item.race,
                             result.sha, relative))  # fmt: skip
            if done % 256 == 0 or done == len(listed):
                progress(done, len(listed))
    if not rows:
        raise InputError(f"{folder} holds no usable image of {name}: {len(rejects)} files, all rejected.")
    columns = [pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    return Read(source, pa.Table.from_arrays(columns, schema=SCHEMA), rejects)


def _open(item: Entry | tuple[Path, str]):
    """The face in an entry's file, or why it was rejected."""
    if isinstance(item, tuple):
        return item[1]
    try:
        return read_face(item.path.read_bytes())
    except RejectedImageError as error:
        return str(error)
    except OSError as error:
        return f"file cannot be opened ({error.strerror})"


def _image_file(path: Path) -> tuple[Path, str] | None:
    """(path, reason) of something that is not an image file by its name."""
    if path.is_dir():
        return path, "a folder among the images"
    if path.suffix.lower() not in _EXTENSIONS:
        return path, f"not {', '.join(_EXTENSIONS)}"
    return None


def _sorted(folder: Path) -> Iterable[Path]:
    """What lies in a folder, in one order on every file system."""
    return sorted(folder.iterdir(), key=lambda path: path.name)


def _find(folder: Path, fits: Callable[[Path], bool]) -> Path | None:
    """The folder, or one at most two levels below it, whose content fits: archives nest differently."""
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist; correct the path or download again.")
    level = [folder]
    for _ in range(3):
        for place in level:
            if fits(place):
                return place
        level = [below for place in level for below in _sorted(place) if below.is_dir()]
    return None


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_file() for path in folder.iterdir())


def _contents(folder: Path) -> str:
    """The first few names in a folder, for a message."""
    names = [path.name for path in _sorted(folder)]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"
