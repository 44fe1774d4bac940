"""The layout of AffectNet's subset on Kaggle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from drawn_faces.layouts.job import Job, cut_short, draw_labels, shuffle_jobs
from drawn_faces.layouts.rafdb import CLASSES
from helpers.tasks import EMOTIONS

_SHARES = {"anger": 0.11, "contempt": 0.06, "disgust": 0.09, "fear": 0.11}
_SHARES |= {"happy": 0.18, "neutral": 0.19, "sad": 0.11, "surprise": 0.15}
_SHOWN = {"anger": "angry", "contempt": "neutral"}
"""What is drawn for the words that are not among ``EMOTIONS``."""

_WRONG_SHARE = 0.15


class AffectNet:
    """AffectNet as ``noamsegal/affectnet-training-data`` has it: 96x96 colour, folders and a CSV that often disagree.

    Images are ``<word>/image<number>.jpg`` and have no split; rows stand in ``labels.csv``.
    """

    def __init__(self, folder: Path, faces: int, seed: int):
        self.folder = folder
        self.rng = rng = np.random.default_rng((seed, 3))
        self.numbers = {word: self._count() for word in _SHARES}
        self.rows: dict[str, str] = {}  # the CSV's label of each path
        self.jobs = []
        for i, (place, age, gender) in enumerate(draw_labels(rng, _SHARES.values(), faces)):
            word = list(_SHARES)[place]
            emotion = EMOTIONS.index(_SHOWN.get(word, word))
            self.jobs.append(Job(self._enter(word), 3, i, emotion, age, gender, size=96, grey=False, quality=90))

    def _count(self) -> Iterator[int]:
        """Rising numbers with gaps so small that every two folders soon have one in common."""
        number = 0
        while True:
            number += int(self.rng.integers(1, 4))
            yield number

    def _enter(self, word: str) -> str:
        """A fresh path inside the build folder, and its row."""
        path = f"{self.folder.name}/{word}/image{next(self.numbers[word]):07}.jpg"
        self.rows[path] = word
        return path

    def set_traps(self) -> None:
        """Spoil rows, cut one file short, and repeat a test image of RAF-DB, whose own traps are to be set before."""
        build = self.folder.parent
        jobs = shuffle_jobs(self.rng, self.jobs, len(_SHARES))
        contempt = next(job for job in jobs if _word(job) == "contempt")
        emotion, unlisted, whole = [job for job in jobs if _word(job) != "contempt"][:3]
        self.rows[emotion.path] = "contempt"
        self.rows[contempt.path] = self._other_word("contempt")
        rest = [job for job in jobs if job not in (contempt, emotion, unlisted)]
        for job in rest[: max(3, round(len(jobs) * _WRONG_SHARE)) - 2]:
            self.rows[job.path] = self._other_word(_word(job))
        del self.rows[unlisted.path]
        self._enter(_word(unlisted))  # a row without a file
        (build / self._enter(_word(whole))).write_bytes(cut_short(build / whole.path))
        self._repeat_rafdb(self.folder.parent / "rafdb" / "DATASET")
        self._write_rows()

    def _other_word(self, word: str) -> str:
        return str(self.rng.choice([other for other in _SHARES if other != word]))

    def _repeat_rafdb(self, rafdb: Path) -> None:
        """Copy one test image, but none that stands in RAF-DB's training folders too."""
        trained = {path.read_bytes() for path in rafdb.glob("train/*/*.jpg")}
        clean = [path for path in sorted(rafdb.glob("test/*/*.jpg")) if path.read_bytes() not in trained]
        image = clean[int(self.rng.integers(len(clean)))]
        shown = CLASSES[int(image.parent.name) - 1]
        word = "anger" if shown == "angry" else shown
        shutil.copyfile(image, self.folder.parent / self._enter(word))

    def _write_rows(self) -> None:
        lines = [",pth,label,relFCs"]
        for i, (path, word) in enumerate(sorted(self.rows.items())):
            lines.append(f"{i},{path.removeprefix(f'{self.folder.name}/')},{word},{self.rng.uniform(0.3, 1):.6f}")
        (self.folder / "labels.csv").write_text("\n".join(lines) + "\n")


def _word(job: Job) -> str:
    """The class folder of a job."""
    return Path(job.path).parent.name
