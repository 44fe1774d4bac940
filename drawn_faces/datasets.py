"""Writes drawn faces in the folder layouts of Kaggle's FER2013 and UTKFace, with the traps of the real ones.

A loader that survives these two folders survives the downloads: images that stand twice, in both splits or under two
emotions, files that are no images, nested second copies of a folder and names that do not parse.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from drawn_faces.face import draw_face
from helpers.config import EMOTIONS, RACES, SAMPLE_FACES, InputError
from helpers.session.progress import Progress, silent

_VERSION = 1
"""Raised when the drawing or a layout changes, so that finished sets are written anew."""

_DATASETS = ("fer2013", "utkface")
_RECORD = "sample_faces.json"
_EMOTION_SHARES = {"angry": 0.14, "disgust": 0.07, "fear": 0.14, "happy": 0.21, "neutral": 0.17, "sad": 0.16}
_EMOTION_SHARES["surprise"] = 0.11
_TEST_SHARE, _LEAKED_SHARE, _CONFLICT_SHARE = 0.2, 0.03, 0.006
_MALFORMED = {
    "61_1_20170109142408075.jpg.chip.jpg": (61, 1),
    "61_3_20170109150557335.jpg.chip.jpg": (61, 1),
    "39_1_20170116174525125.jpg.chip.jpg": (39, 1),
    "53__0_20170116184028385.jpg.chip.jpg": (53, 0),
    "24_0_1_20170116220224657 .jpg.chip.jpg": (24, 0),
}
"""UTKFace's names without a race or a gender, and a good one with a space; what is drawn in each: age, gender."""


@dataclass(frozen=True)
class _Job:
    """One face to draw: where to, and from which labels. ``number`` makes its random draws its own."""

    path: str
    dataset: int
    number: int
    emotion: int
    age: int
    gender: int


def write_sample_faces(
    root: Path,
    faces: int = SAMPLE_FACES,
    seed: int = 0,
    progress: Progress = silent,
    workers: int | None = None,
) -> dict[str, Path]:
    """Write the sample datasets, unless the same ones stand there already.

    Args:
        root: folder for ``fer2013`` and ``utkface``; made when missing.
        faces: how many to draw, at least 30: two thirds for FER2013, the rest for UTKFace; copies come on top.
        seed: the same seed gives the same files, whatever the number of processes.
        progress: called now and then with the faces drawn and their total.
        workers: drawing processes; by default one per core, and none for fewer than 500 faces.

    Returns:
        The two dataset folders by name.

    Raises:
        InputError: too few faces, or ``root`` holds a dataset that this function did not write.
    """
    root = Path(root)
    if faces < 30:
        raise InputError(f"Sample data needs at least 30 faces to hold every emotion and trap, not {faces}.")
    wanted = {"faces": faces, "seed": seed, "version": _VERSION}
    folders = {name: root / name for name in _DATASETS}
    if _is_finished(root, wanted):
        return folders
    root.mkdir(parents=True, exist_ok=True)
    build = Path(tempfile.mkdtemp(prefix=".sample_faces-", dir=root))
    try:
        fer = _Fer2013(build / "fer2013", faces * 2 // 3, seed)
        utk = _UtkFace(build / "utkface", faces - faces * 2 // 3, seed)
        if workers is None:
            workers = (os.cpu_count() or 1) if faces >= 500 else 1
        _draw_all([*fer.jobs, *utk.jobs], build, seed, workers, progress)
        fer.set_traps()
        utk.set_traps()
        _publish(build, root, wanted)
    finally:
        shutil.rmtree(build, ignore_errors=True)
    return folders


def is_drawn(folder: Path) -> bool:
    """Whether a folder holds, or lies in, what :func:`write_sample_faces` wrote."""
    folder = Path(folder).absolute()
    return any((place / _RECORD).exists() for place in (folder, *folder.parents))


def _is_finished(root: Path, wanted: dict) -> bool:
    """Whether ``root`` holds this very set.

    Raises:
        InputError: a dataset folder is there without our record: it may be the real one and is not ours to replace.
    """
    record, standing = root / _RECORD, [name for name in _DATASETS if (root / name).exists()]
    if record.exists():
        return json.loads(record.read_text()) == {**wanted, "finished": True} and len(standing) == len(_DATASETS)
    if standing:
        raise InputError(f"{root / standing[0]} was not made by the sample data; choose another folder for it.")
    return False


def _publish(build: Path, root: Path, wanted: dict) -> None:
    """Move the built folders into place; only the record written last makes them a finished set."""
    _write_record(root, {**wanted, "finished": False})  # from here on the folders are known to be ours
    for name in _DATASETS:
        if (root / name).exists():
            shutil.rmtree(root / name)
        (build / name).rename(root / name)
    _write_record(root, {**wanted, "finished": True})


def _write_record(root: Path, record: dict) -> None:
    part = root / f"{_RECORD}.part"
    part.write_text(json.dumps(record) + "\n")
    part.replace(root / _RECORD)


def _draw_all(jobs: list[_Job], build: Path, seed: int, workers: int, progress) -> None:
    """Draw every face into ``build``, in this process or in a pool."""
    classes = {build / "fer2013" / split / emotion for split in ("train", "test") for emotion in EMOTIONS}
    for folder in classes | {(build / job.path).parent for job in jobs}:
        folder.mkdir(parents=True)
    chunks = [(str(build), seed, jobs[start : start + 50]) for start in range(0, len(jobs), 50)]
    if workers <= 1:
        _report(map(_draw_chunk, chunks), len(jobs), progress)
        return
    # spawn: a fork of a process in which torch or a notebook has threads running may hang
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        _report(pool.map(_draw_chunk, chunks), len(jobs), progress)


def _report(drawn: Iterable[int], total: int, progress) -> None:
    done = 0
    for count in drawn:
        done += count
        progress(done, total)


def _draw_chunk(chunk: tuple[str, int, list[_Job]]) -> int:
    """Draw and store a few faces; returns how many."""
    build, seed, jobs = chunk
    for job in jobs:
        Path(build, job.path).write_bytes(_encode(job, seed))
    return len(jobs)


def _encode(job: _Job, seed: int) -> bytes:
    rng = np.random.default_rng((seed, job.dataset, job.number))
    grey = job.dataset == 0
    image = draw_face(rng, job.emotion, job.age, job.gender, size=48 if grey else 200, grey=grey)
    image = image if grey else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 95 if grey else 90))[1].tobytes()


def _draw_ages(rng: np.random.Generator, count: int) -> np.ndarray:
    """Ages in years spread like UTKFace's: a peak of babies, most between 20 and 40, a tail to 95."""
    kinds = rng.choice(4, count, p=(0.12, 0.11, 0.47, 0.3))
    baby, child = rng.integers(0, 4, count), rng.integers(4, 18, count)
    grown, late = rng.normal(29, 6, count), 38 + rng.exponential(18, count)
    ages = np.choose(kinds, (baby, child, np.clip(grown, 18, 45), late))
    return np.clip(ages, 0, 95).astype(int)


class _Fer2013:
    """FER2013 as ``msambare/fer2013`` has it: 48x48 grey, ``train|test/<emotion>/<Usage>_<number>.jpg``."""

    def __init__(self, folder: Path, faces: int, seed: int):
        self.folder = folder
        self.rng = rng = np.random.default_rng((seed, 0))
        self.numbers: Iterator[int] = iter((10_000_000 + rng.permutation(4 * faces + 100)).tolist())
        shares = np.array([_EMOTION_SHARES[name] for name in EMOTIONS])
        edges = np.rint(np.cumsum(shares) / shares.sum() * faces)
        emotions = rng.permutation(np.searchsorted(edges, np.arange(faces), side="right"))
        ages, genders = _draw_ages(rng, faces), rng.integers(0, 2, faces)
        tested = round(faces * _TEST_SHARE)
        # what leaks is copied later, not drawn, so that the number of test files stays as wanted
        self.leaked = max(1, round(tested * _LEAKED_SHARE))
        self.jobs = [
            _Job(self._name("test" if i < tested else "train", int(emotions[i])), 0, i, *labels)
            for i, labels in enumerate(zip(emotions.tolist(), ages.tolist(), genders.tolist(), strict=True))
            if i >= self.leaked
        ]

    def _name(self, split: str, emotion: int) -> str:
        """A fresh path inside the build folder."""
        usage = "Training" if split == "train" else self.rng.choice(("PublicTest", "PrivateTest"))
        return f"{self.folder.name}/{split}/{EMOTIONS[emotion]}/{usage}_{next(self.numbers)}.jpg"

    def _copy(self, job: _Job, split: str, emotion: int) -> None:
        build = self.folder.parent
        shutil.copyfile(build / job.path, build / self._name(split, emotion))

    def set_traps(self) -> None:
        """Copy training images into the test split and under other emotions, and leave files that are no images."""
        build = self.folder.parent
        conflicts = max(2, round(len(self.jobs) * _CONFLICT_SHARE))
        trained = [job for job in self.jobs if "/train/" in job.path]
        picked = self.rng.choice(len(trained), self.leaked + conflicts, replace=False).tolist()
        for index in picked[: self.leaked]:
            self._copy(trained[index], "test", trained[index].emotion)
        for index in picked[self.leaked :]:
            wrong = (trained[index].emotion + int(self.rng.integers(1, len(EMOTIONS)))) % len(EMOTIONS)
            self._copy(trained[index], "train", wrong)
        happy, sad, neutral = (EMOTIONS.index(name) for name in ("happy", "sad", "neutral"))
        whole = (build / trained[0].path).read_bytes()
        (build / self._name("train", happy)).write_bytes(whole[: len(whole) * 6 // 10])
        (build / self._name("train", sad)).write_bytes(b"")
        (build / self._name("train", neutral)).write_text("This is not an image.\n")
        (self.folder / "train" / "happy" / "Thumbs.db").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))


class _UtkFace:
    """UTKFace as ``jangedoo/utkface-new`` has it: 200x200 colour, labels in the name, and folders that repeat."""

    def __init__(self, folder: Path, faces: int, seed: int):
        self.folder = folder
        self.rng = rng = np.random.default_rng((seed, 1))
        self.stamps = self._tell_time()
        ages, genders = _draw_ages(rng, faces).tolist(), rng.integers(0, 2, faces).tolist()
        emotions = rng.integers(0, len(EMOTIONS), faces + len(_MALFORMED)).tolist()
        labels = list(zip(ages, genders, strict=True))
        names = [self._name(age, gender, int(rng.integers(len(RACES)))) for age, gender in labels]
        self.jobs = [
            _Job(f"{folder.name}/UTKFace/{name}", 1, i, emotions[i], *label)
            for i, (name, label) in enumerate([*zip(names, labels, strict=True), *_MALFORMED.items()])
        ]

    def _tell_time(self) -> Iterator[str]:
        """Date and time to the millisecond in 17 digits, never the same twice."""
        now = datetime(2017, 1, 3, 9)
        while True:
            now += timedelta(milliseconds=int(self.rng.integers(1, 200_000)))
            yield now.strftime("%Y%m%d%H%M%S%f")[:17]

    def _name(self, age: int, gender: int, race: int) -> str:
        return f"{age}_{gender}_{race}_{next(self.stamps)}.jpg.chip.jpg"

    def set_traps(self) -> None:
        """Repeat faces under other ages and in other folders, and cut one file short."""
        images = self.folder / "UTKFace"
        good = [Path(job.path).name for job in self.jobs if Path(job.path).name not in _MALFORMED]
        pairs = max(2, round(0.004 * len(good)))
        some = self.rng.permutation(len(good)).tolist()
        for place, index in enumerate(islice(some, pairs)):
            age, gender, race = (int(part) for part in good[index].split("_")[:3])
            gap = 2 if place == 0 else 20
            other = self._name(age + gap if age <= 70 else age - gap, gender, race)
            shutil.copyfile(images / good[index], images / other)
        whole = (images / good[some[pairs]]).read_bytes()
        (images / self._name(30, 0, 0)).write_bytes(whole[: len(whole) // 2])
        repeated = [good[index] for index in some[: max(3, len(good) // 20)]]
        for nested in ("crop_part1", "utkface_aligned_cropped/UTKFace", "utkface_aligned_cropped/crop_part1"):
            (self.folder / nested).mkdir(parents=True)
            for name in repeated:
                shutil.copyfile(images / name, self.folder / nested / name)
