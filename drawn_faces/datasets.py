"""Writes drawn faces in the folder layouts of four Kaggle datasets, with the traps of the real ones.

A loader that survives these folders survives the downloads: images that stand twice, in both splits, under two emotions
or in two datasets, files that are no images, nested second copies of a folder, names that do not parse, and labels that
stand in a folder and in a CSV file and disagree.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from multiprocessing import get_context, resource_tracker
from pathlib import Path

import cv2
import numpy as np

from drawn_faces.face import draw_face
from drawn_faces.layouts.affectnet import AffectNet
from drawn_faces.layouts.fer2013 import Fer2013
from drawn_faces.layouts.job import Job, Layout
from drawn_faces.layouts.rafdb import RafDb
from drawn_faces.layouts.utkface import UtkFace
from helpers.config import SAMPLE_FACES
from helpers.data.sources import DRAWN_RECORD
from helpers.files import InputError, only_writer, read_record, whole, write_json
from helpers.session.progress import Progress, silent
from helpers.tasks import EMOTIONS, GENDERS

_VERSION = 2
"""Raised when the drawing or a layout changes, so that finished sets are written anew."""

_LAYOUTS: dict[str, Callable[[Path, int, int], Layout]] = {
    "fer2013": Fer2013,
    "utkface": UtkFace,
    "rafdb": RafDb,
    "affectnet": AffectNet,
}
_DATASETS = tuple(_LAYOUTS)
_FEWEST = 60
"""Faces with which the smallest dataset still holds every emotion and trap."""


def write_sample_faces(
    root: Path, faces: int = SAMPLE_FACES, seed: int = 0, progress: Progress = silent, workers: int | None = None
) -> dict[str, Path]:
    """Write the sample datasets, unless the same ones stand there already.

    Args:
        root: folder for the datasets; made when missing.
        faces: how many to draw, at least 60: a third each for FER2013 and UTKFace, a sixth each for RAF-DB and
            AffectNet; copies come on top.
        seed: the same seed gives the same files, whatever the number of processes.
        progress: called now and then with the faces drawn and their total.
        workers: drawing processes; by default one per core, and none for fewer than 500 faces.

    Returns:
        The dataset folders by name, each as Kaggle has it: ``fer2013`` (``msambare/fer2013``), ``utkface``
        (``jangedoo/utkface-new``), ``rafdb`` (``shuvoalok/raf-db-dataset``) and ``affectnet``
        (``noamsegal/affectnet-training-data``).

    Raises:
        InputError: too few faces, or ``root`` holds a dataset that this function did not write.
    """
    root = Path(root)
    if faces < _FEWEST:
        raise InputError(f"Sample data needs at least {_FEWEST} faces to hold every emotion and trap, not {faces}.")
    wanted = {"faces": faces, "seed": seed, "version": _VERSION, "datasets": list(_DATASETS)}
    folders = {name: root / name for name in _DATASETS}
    if _is_finished(root, wanted):
        return folders
    busy = f"Sample faces are being drawn in {root} by another session on this machine; wait for it, or stop it first."
    with only_writer(root / ".drawing.lock", busy) as locked, whole(root / "faces", locked) as build:
        build.mkdir()
        layouts = _lay_out(build, faces, seed)
        if workers is None:
            workers = (os.cpu_count() or 1) if faces >= 500 else 1
        _draw_all([job for layout in layouts for job in layout.jobs], build, seed, workers, progress)
        for layout in layouts:  # in this order: AffectNet repeats a test image of the finished RAF-DB
            layout.set_traps()
        _publish(build, root, wanted)
    return folders


def write_own_faces(folder: Path, people: Iterable[tuple[int, float, int]], seed: int = 0, size: int = 128) -> Path:
    """Write drawn faces as a user's own: pictures and a CSV file that names them with their labels.

    Args:
        people: emotion, age and gender of each, as :func:`helpers.tasks` codes them.

    Returns:
        The CSV file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file,emotion,age,gender"]
    for number, (emotion, age, gender) in enumerate(people):
        image = draw_face(np.random.default_rng((seed, number)), emotion, age, gender, size)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        lines.append(f"{number}.png,{EMOTIONS[emotion]},{age:g},{GENDERS[gender]}")
    _write_record(folder, {"faces": len(lines) - 1, "seed": seed, "finished": True})
    table = folder / "faces.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def _is_finished(root: Path, wanted: dict) -> bool:
    """Whether ``root`` holds this very set.

    Raises:
        InputError: a dataset folder is there without our record: it may be the real one and is not ours to replace.
    """
    record, standing = root / DRAWN_RECORD, [name for name in _DATASETS if (root / name).exists()]
    mend = f"delete it with the folders beside it that hold drawn faces ({', '.join(_DATASETS)}), or draw elsewhere"
    found = read_record(record, "the record of drawn faces", mend) if record.exists() else {"datasets": []}
    foreign = [name for name in standing if name not in found["datasets"]]
    if foreign:
        raise InputError(f"{root / foreign[0]} was not made by the sample data; choose another folder for it.")
    return found == {**wanted, "finished": True} and len(standing) == len(_DATASETS)


def _lay_out(build: Path, faces: int, seed: int) -> list[Layout]:
    """The layouts in the order of ``_LAYOUTS``, a third of the faces for each of the first two and a sixth after."""
    edges = [faces * sixths // 6 for sixths in (0, 2, 4, 5, 6)]
    return [
        layout(build / name, end - start, seed)
        for (name, layout), (start, end) in zip(_LAYOUTS.items(), pairwise(edges), strict=True)
    ]


def _publish(build: Path, root: Path, wanted: dict) -> None:
    """Move the built folders into place; only the record written last makes them a finished set."""
    _write_record(root, {**wanted, "finished": False})  # from here on the folders are known to be ours
    for name in _DATASETS:
        if (root / name).exists():
            shutil.rmtree(root / name)
        (build / name).rename(root / name)
    _write_record(root, {**wanted, "finished": True})


def _write_record(root: Path, record: dict) -> None:
    write_json(root / DRAWN_RECORD, record)


def _draw_all(jobs: list[Job], build: Path, seed: int, workers: int, progress) -> None:
    """Draw every face into ``build``, in this process or in a pool."""
    for folder in {(build / job.path).parent for job in jobs}:
        folder.mkdir(parents=True)
    chunks = [(str(build), seed, jobs[start : start + 50]) for start in range(0, len(jobs), 50)]
    if workers <= 1:
        _report(map(_draw_chunk, chunks), len(jobs), progress)
        return
    # spawn: a fork of a process in which torch or a notebook has threads running may hang
    context = get_context("spawn")
    resource_tracker.ensure_running()  # which unblocks interrupts when it starts
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        with uninterrupted():
            drawn = pool.map(_draw_chunk, chunks)
        with closing(drawn):  # type: ignore[type-var]  # else an interrupt waits for all faces
            _report(drawn, len(jobs), progress)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """An interrupt waits for the end of this, and is for this process alone: those that are started inherit that it is
    blocked. In the main thread its handler waits too, since another thread may get the signal.
    """
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number)) if main else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if came:
        signal.raise_signal(signal.SIGINT)


def _report(drawn: Iterable[int], total: int, progress) -> None:
    done = 0
    for count in drawn:
        done += count
        progress(done, total)


def _draw_chunk(chunk: tuple[str, int, list[Job]]) -> int:
    """Draw and store a few faces; returns how many."""
    build, seed, jobs = chunk
    for job in jobs:
        Path(build, job.path).write_bytes(_encode(job, seed))
    return len(jobs)


def _encode(job: Job, seed: int) -> bytes:
    rng = np.random.default_rng((seed, job.dataset, job.number))
    image = draw_face(rng, job.emotion, job.age, job.gender, job.size, job.grey)
    image = image if job.grey else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, job.quality))[1].tobytes()
