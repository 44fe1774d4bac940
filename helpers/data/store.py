"""The packed store: all faces of a run in a few Arrow files, memory-mapped, and a manifest that says what they are."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from helpers.config import PackConfig
from helpers.data.audit import LABEL_COLUMNS, audit, leave_out
from helpers.data.images import decode, read_face
from helpers.data.layouts.files import read_rows
from helpers.data.sources import SCHEMA, fingerprint, list_all, read_source
from helpers.data.twins import near_pairs, twin_groups
from helpers.files import InputError, only_writer, read_record, remove, run_first, to_json, user_path, whole, write_json
from helpers.session.progress import silent
from helpers.tasks import LABELS, TASKS, check_classes, label_classes

FORMAT = 6
"""Raised when what is written, or how rows are split, changes: an older store is then packed again."""

_STAMP = ".checked.json"
"""The file beside a store's others that tells which of them were read and found whole on this machine."""

_COLOUR = 4.0
"""From how far apart the channels are, of 255 and on average, a face has colour; what JPEG adds to grey is less."""

_MEND = "pack the datasets again (notebook 02), or move the folder away so that its copy on Drive comes back"

_FILE_BYTES = 480_000_000  # a file on Drive is best at most 512 MB; the rest is room for the other columns
_BATCH_ROWS = 1024


def pack(
    folders: dict[str, Path], folder: Path, knobs: PackConfig | None = None, progress=lambda name: silent
) -> FaceStore:
    """Read the datasets, audit and split them, and write the store; or open it where it already holds just them.

    The store appears under its name only when it is complete; a kill at any moment leaves the old one or none.

    Args:
        folders: dataset -> folder, as :func:`helpers.data.sources.load_paths` gives it.
        folder: where the store goes.
        knobs: how the datasets are read; None means as the store that is there, or by the defaults.
        progress: called with a dataset's name, gives the callback for reading it.

    Raises:
        InputError: a folder has not its dataset's layout or holds no usable image, the store that is there holds a
            dataset that is not among ``folders``, or the disk is full.
    """
    if not folders:
        raise InputError("There is no dataset to pack; name one, or a CSV file of your own faces.")
    busy = f"The store {folder} is being packed by another session on this machine; wait for it, or stop it first."
    with only_writer(folder.with_name(f".{folder.name}.lock"), busy) as locked:
        if not folder.exists():  # a kill may have come between the two steps of an exchange
            with suppress(OSError):
                _old(folder).rename(folder)
        _pack(folders, folder, knobs or packed_knobs(folder), progress, locked)
    return FaceStore.open(folder)


def _pack(folders: dict[str, Path], folder: Path, knobs: PackConfig, progress: Callable, locked: bool) -> None:
    listed = {name: list_all(name, place, knobs) for name, place in folders.items()}
    sources = {name: fingerprint(name, place, listed[name]) for name, place in folders.items()}
    asked, doubted = {"classes": label_classes(), "sources": sources, "knobs": asdict(knobs)}, []
    if knobs.leave_out:
        path = user_path(knobs.leave_out)
        doubted = list(read_rows(path, ("sha", "task")))
        asked["left_out"] = {"sha256": _sha256(path)}
    there = _manifest(folder)
    if all(there.get(name) == value for name, value in {"format": FORMAT, **asked}.items()):
        with suppress(InputError):  # where a file of it is missing or damaged, it is packed anew
            FaceStore.open(folder)
            return
    if lost := [name for name in there.get("sources", {}) if name not in sources]:
        raise InputError(
            f"The store {folder} also holds {', '.join(lost)}, which is not among the datasets now; bring it back, "
            "choose another name for the store, or delete that folder."
        )
    reads = [read_source(name, place, knobs, progress(name), listed[name]) for name, place in folders.items()]
    table = pa.concat_tables([read.table for read in reads])
    faces = table.drop_columns("image").to_pandas()
    outlines = np.concatenate([read.outlines for read in reads])
    twins = twin_groups(faces["sha"].to_numpy(), outlines, np.concatenate([read.thumbnails for read in reads]))
    kept, report = audit(leave_out(faces, doubted), twins, near_pairs(twins, outlines))
    for read in reads:
        report[read.dataset] |= read.left_out()
    if kept.empty:
        raise InputError(f"Not one face of {', '.join(folders)} is left: the labels of all contradict each other.")
    if not (kept["split"] == "train").any() and any("train" in found["emptied"] for found in report.values()):
        raise InputError(
            f"No face is left to train on: of {len(faces)}, all that were meant for training are copies of faces in "
            "the validation or test split (frames that differ by noise alone are copies); add different pictures."
        )
    sides, counts = np.unique(np.concatenate([read.sides for read in reads])[kept.index], return_counts=True)
    rows = pd.util.hash_pandas_object(kept[["sha", "split", *LABEL_COLUMNS]], index=False).to_numpy()
    identity = hashlib.sha256(rows.tobytes()).hexdigest()[:16]
    manifest = {"format": FORMAT, "rows": len(kept), "identity": identity, **asked}
    manifest["sides"] = dict(zip(sides.tolist(), counts.tolist(), strict=True))
    table = _with_labels(table.take(pa.array(kept.index)), kept)
    with whole(folder, locked) as partial:
        partial.mkdir()
        manifest |= {"files": (files := write_files(table, partial)), "audit": report}
        (partial / "manifest.json").write_text(to_json(manifest, indent=1, checksum=True))
        write_json(partial / _STAMP, _stamp(partial, files))  # they were read to take their SHA-256
        _swap_in(partial, folder)


def packed_knobs(folder: Path) -> PackConfig:
    """The knobs with which the store in ``folder`` was packed; the defaults where there is none of this version."""
    there = _manifest(folder)
    known = there["knobs"] if there.get("format") == FORMAT else {}
    return PackConfig(**{knob.name: known[knob.name] for knob in fields(PackConfig) if knob.name in known})


def _manifest(folder: Path) -> dict:
    """The manifest of the store in ``folder``, of whatever version; empty where there is none."""
    return _read_manifest(folder) if (folder / "manifest.json").exists() else {}


def _read_manifest(folder: Path) -> dict:
    mend = "move the folder away, so that its copy on Drive comes back, or delete this file and pack the faces again"
    if not (path := folder / "manifest.json").exists():
        raise run_first("02", f"there is no packed store of faces in {folder}")
    return read_record(path, "a packed store", mend, FORMAT)


@dataclass(frozen=True)
class FaceStore:
    """An opened store. Everything stays in the memory-mapped files until it is asked for.

    Attributes:
        folder: where it lies.
        manifest: what was packed; ``manifest["audit"]`` per dataset.
        table: the table of faces, row 0..n-1.
    """

    folder: Path
    manifest: dict
    table: pa.Table

    @classmethod
    def open(cls, folder: Path) -> FaceStore:
        """Open a packed store; the folders it was made from are not needed.

        Raises:
            InputError: there is no store, or one of its files is missing or damaged.
        """
        manifest = _read_manifest(folder)
        if manifest.get("format") != FORMAT:
            raise InputError(f"The store {folder} was packed by another version of this project; pack it again.")
        check_classes(manifest["classes"], f"The store {folder}")
        _check_files(folder, manifest["files"])
        files = [pa.ipc.open_file(pa.memory_map(str(folder / name))).read_all() for name in manifest["files"]]
        table = pa.concat_tables([SCHEMA.empty_table(), *files], promote_options="default")
        if len(table) != manifest["rows"]:
            raise InputError(f"The files of {folder} hold {len(table)} rows, not {manifest['rows']}; {_MEND}.")
        return cls(folder, manifest, table)

    def __len__(self) -> int:
        return self.table.num_rows

    def __reduce__(self):
        """Workers that do not fork open the files again: a memory map cannot be sent."""
        return FaceStore.open, (self.folder,)

    @cached_property
    def faces(self) -> pd.DataFrame:
        """The table of faces without its images, index 0..n-1; costs memory for each row."""
        return self.table.drop_columns("image").to_pandas()

    def image(self, row: int) -> np.ndarray:
        """Pixels of a row, uint8 RGB of shape (H, W, 3)."""
        return decode(self.table["image"][int(row)].as_buffer())

    def labels(self, task: str) -> np.ndarray:
        """Labels in the task's form, see :mod:`helpers.tasks`: classes int8 (N,), ages float32 (N, 2)."""
        return LABELS[task].read(self.table)

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, int64."""
        return np.flatnonzero(pc.equal(self.table.column("split"), split).to_numpy())

    def known(self, task: str) -> np.ndarray:
        """Which rows carry the task's label, bool (N,)."""
        return LABELS[task].known(self.labels(task))

    def fixed_sample(self, split: str, size: int) -> np.ndarray:
        """For each task ``size`` rows of the split that carry its label (or all), chosen by the pixels' hash alone."""
        order = self._by_hash(split)
        return np.unique(np.concatenate([order[self.known(task)[order]][:size] for task in TASKS]))

    def examples(self, split: str, size: int) -> np.ndarray:
        """``size`` rows of every dataset in the split, chosen by the pixels' hash alone."""
        order = self._by_hash(split)
        datasets = self.table.column("dataset").take(order).to_numpy()
        return np.concatenate([order[datasets == name][:size] for name in self.manifest["sources"]])

    def learned_in_grey(self, size: int = 200) -> dict[str, int]:
        """Tasks whose training faces are all grey, and the longer side of the largest of these in pixels.

        A network that has learned a task from such faces alone is lost where it meets colour. Read are ``size`` faces
        for each task, those that carry its label or, where none does, any.
        """
        found, rows = {}, self.fixed_sample("train", size)
        for task in TASKS:
            labelled = rows[self.known(task)[rows]]
            faces = [self.image(row) for row in (labelled if len(labelled) else rows)]
            if faces and all(np.ptp(face, axis=2).mean() < _COLOUR for face in faces):
                found[task] = max(max(face.shape[:2]) for face in faces)
        return found

    def _by_hash(self, split: str) -> np.ndarray:
        """Rows of a split in the order of their hashes, whose first digits are left out: the split follows those."""
        rows = self.rows(split)
        digits = pc.utf8_slice_codeunits(self.table.column("sha").take(rows), 8, 24)
        return rows[pc.array_sort_indices(digits.combine_chunks()).to_numpy()]

    @property
    def sides(self) -> list[int]:
        """The faces' longer sides in pixels, each size once."""
        return [int(side) for side in self.manifest["sides"]]

    @property
    def drawn(self) -> bool:
        """Whether any of the faces are drawn; what is measured on them never passes a criterion."""
        return any(source["drawn"] for source in self.manifest["sources"].values())

    @property
    def identity(self) -> str:
        """A short hash of the rows in their order; the same data packed elsewhere has the same."""
        return self.manifest["identity"]


def _with_labels(table: pa.Table, kept: pd.DataFrame) -> pa.Table:
    """``table`` with the split and labels that the audit settled on, and whether a test face was published twice."""
    for column in ("split", *LABEL_COLUMNS):
        number, kind = SCHEMA.get_field_index(column), SCHEMA.field(column)
        table = table.set_column(number, kind, pa.array(kept[column].to_numpy(), kind.type, from_pandas=False))
    return table.append_column(pa.field("copied", pa.bool_(), nullable=False), pa.array(kept["copied"].to_numpy()))


def write_files(table: pa.Table, folder: Path) -> dict[str, dict]:
    """Write the rows as Arrow files of bounded size; returns name -> bytes and SHA-256."""
    batches = deque(table.to_batches(max_chunksize=_BATCH_ROWS))
    files: dict[str, dict] = {}
    while batches:
        path = folder / f"faces-{len(files):03d}.arrow"
        with pa.ipc.new_file(str(path), table.schema) as writer:
            while batches and path.stat().st_size <= _FILE_BYTES:
                writer.write_batch(batches.popleft())
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    return files


def _check_files(folder: Path, files: dict[str, dict]) -> None:
    """Raise an InputError unless the files are as they were written.

    Their content is read once on each machine, and again where a file is not the one that was read then.
    """
    now = _stamp(folder, files)
    with suppress(InputError):
        if read_record(folder / _STAMP, "the files that were read", _MEND) == now:
            return
    for name, about in files.items():
        path = folder / name
        if _sha256(path) != about["sha256"]:
            raise InputError(f"{path} is damaged, since it has not the SHA-256 that its manifest tells; {_MEND}.")
    with suppress(InputError):  # on a disk that is read-only they are read each time
        write_json(folder / _STAMP, now)


def _stamp(folder: Path, files: dict[str, dict]) -> dict[str, list]:
    """What tells a file from any other that may come to lie in its place: the last change of its inode cannot be set.

    Raises:
        InputError: one is missing, or has not its size.
    """
    found = {}
    for name, about in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} does not exist; {_MEND}.")
        file = path.stat()
        if file.st_size != about["bytes"]:
            raise InputError(f"{path} is {file.st_size} bytes long, not {about['bytes']}; {_MEND}.")
        found[name] = [about["sha256"], file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino]
    return found


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _old(folder: Path) -> Path:
    """Where a store lies while another takes its place: a folder cannot replace another in one step."""
    return folder.with_name(f".{folder.name}.old")


def _swap_in(new: Path, folder: Path) -> None:
    """Put a finished folder in place of an old one, or leave that where it is."""
    old = _old(folder)
    remove(old)
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    remove(old)


def twin_pictures(store: FaceStore) -> tuple[list[np.ndarray], list[str]]:
    """The audit's examples of twins, read from the datasets' folders, as pictures and captions."""
    images, captions = [], []
    for dataset, found in store.manifest["audit"].items():
        place = Path(store.manifest["sources"][dataset]["folder"])
        for number, group in enumerate(found["examples"], start=1):
            for face in group:
                path = (place if place.is_dir() else place.parent) / face["name"]
                if path.exists():
                    images.append(decode(read_face(path.read_bytes()).encoded))
                    captions.append(f"{dataset} {number}, {face['split']}\n{describe(pd.DataFrame([face]))[0]}")
    return images, captions


def describe(faces: pd.DataFrame) -> list[str]:
    """What is known of each row of ``FaceStore.faces``, in a few words."""
    labels = [(task, found := task.read(faces), task.known(found)) for task in TASKS.values()]
    return [
        ", ".join(task.describe(found[row]) for task, found, known in labels if known[row]) or "no label"
        for row in range(len(faces))
    ]
