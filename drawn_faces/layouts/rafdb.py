"""The layout of RAF-DB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from drawn_faces.layouts.job import Job, cut_short, draw_labels, other_emotion, shuffle_jobs
from helpers.tasks import EMOTIONS

_SHARES = {"surprise": 0.11, "fear": 0.03, "disgust": 0.06, "happy": 0.38, "sad": 0.16, "angry": 0.06, "neutral": 0.2}

CLASSES = tuple(_SHARES)
"""RAF-DB's classes, which it counts from 1, in the words of ``EMOTIONS``."""

_TEST_SHARE, _LEAKED_SHARE, _CONFLICT_SHARE = 0.2, 0.03, 0.006
_DIGITS = {"train": 5, "test": 4}


class RafDb:
    """RAF-DB as ``shuvoalok/raf-db-dataset`` has it: 100x100 colour, and every label twice, in a folder and a CSV.

    Images are ``DATASET/train|test/<class>/<split>_<number>_aligned.jpg``, rows stand in ``<split>_labels.csv``.
    """

    def __init__(self, folder: Path, faces: int, seed: int):
        self.folder = folder
        self.rng = rng = np.random.default_rng((seed, 2))
        self.numbers: dict[str, Iterator[int]] = {
            split: iter((1 + rng.permutation(2 * faces + 100)).tolist()) for split in _DIGITS
        }
        self.rows: dict[str, int] = {}  # the CSV's label of each path
        tested = round(faces * _TEST_SHARE)
        self.jobs = []
        for i, (place, age, gender) in enumerate(draw_labels(rng, _SHARES.values(), faces)):
            emotion = EMOTIONS.index(CLASSES[place])
            path = self._enter("test" if i < tested else "train", emotion)
            self.jobs.append(Job(path, 2, i, emotion, age, gender, size=100, grey=False, quality=95))

    def _enter(self, split: str, emotion: int) -> str:
        """A fresh path inside the build folder, and its row."""
        label, number = CLASSES.index(EMOTIONS[emotion]) + 1, next(self.numbers[split])
        name = f"{split}_{number:0{_DIGITS[split]}}_aligned.jpg"
        path = f"{self.folder.name}/DATASET/{split}/{label}/{name}"
        self.rows[path] = label
        return path

    def _copy(self, job: Job, split: str, emotion: int) -> None:
        build = self.folder.parent
        shutil.copyfile(build / job.path, build / self._enter(split, emotion))

    def set_traps(self) -> None:
        """Copy training images into the test split and under other emotions, spoil rows, and cut one file short."""
        for split in _DIGITS:
            for label in range(1, len(CLASSES) + 1):  # a small set may have drawn no test image of one
                (self.folder / "DATASET" / split / str(label)).mkdir(parents=True, exist_ok=True)
        build = self.folder.parent
        leaked = max(2, round(len(self.jobs) * _TEST_SHARE * _LEAKED_SHARE))
        conflicts = max(2, round(len(self.jobs) * _CONFLICT_SHARE))
        trained = shuffle_jobs(self.rng, [job for job in self.jobs if "/train/" in job.path], len(CLASSES))
        for job in trained[:leaked]:
            self._copy(job, "test", job.emotion)
        for job in trained[leaked : leaked + conflicts]:
            self._copy(job, "train", other_emotion(self.rng, job.emotion))
        first, second, unlisted = trained[leaked + conflicts :][:3]
        for job in (first, second):
            self.rows[job.path] = CLASSES.index(EMOTIONS[other_emotion(self.rng, job.emotion)]) + 1
        del self.rows[unlisted.path]
        self._enter("train", unlisted.emotion)  # a row without a file
        whole = trained[-1]
        (build / self._enter("train", whole.emotion)).write_bytes(cut_short(build / whole.path))
        self._write_rows()

    def _write_rows(self) -> None:
        for split in _DIGITS:
            rows = {Path(path).name: label for path, label in self.rows.items() if f"/{split}/" in path}
            lines = ["image,label", *(f"{name},{label}" for name, label in sorted(rows.items()))]
            (self.folder / f"{split}_labels.csv").write_text("\n".join(lines) + "\n")
