"""The layout of FER2013."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from drawn_faces.layouts.job import Job, cut_short, draw_labels, other_emotion, shuffle_jobs
from helpers.tasks import EMOTIONS

_SHARES = {"angry": 0.14, "disgust": 0.07, "fear": 0.14, "happy": 0.21, "neutral": 0.17, "sad": 0.16, "surprise": 0.11}
_TEST_SHARE, _LEAKED_SHARE, _CONFLICT_SHARE = 0.2, 0.03, 0.006


class Fer2013:
    """FER2013 as ``msambare/fer2013`` has it: 48x48 grey, ``train|test/<emotion>/<Usage>_<number>.jpg``."""

    def __init__(self, folder: Path, faces: int, seed: int):
        self.folder = folder
        self.rng = rng = np.random.default_rng((seed, 0))
        self.numbers: Iterator[int] = iter((10_000_000 + rng.permutation(4 * faces + 100)).tolist())
        labels = draw_labels(rng, (_SHARES[name] for name in EMOTIONS), faces)
        tested = round(faces * _TEST_SHARE)
        # what leaks is copied later, not drawn, so that the number of test files stays as wanted
        self.leaked = max(1, round(tested * _LEAKED_SHARE))
        self.jobs = [
            Job(self._name("test" if i < tested else "train", face[0]), 0, i, *face, size=48, grey=True, quality=95)
            for i, face in enumerate(labels)
            if i >= self.leaked
        ]

    def _name(self, split: str, emotion: int) -> str:
        """A fresh path inside the build folder."""
        usage = "Training" if split == "train" else self.rng.choice(("PublicTest", "PrivateTest"))
        return f"{self.folder.name}/{split}/{EMOTIONS[emotion]}/{usage}_{next(self.numbers)}.jpg"

    def _copy(self, job: Job, split: str, emotion: int) -> None:
        build = self.folder.parent
        shutil.copyfile(build / job.path, build / self._name(split, emotion))

    def set_traps(self) -> None:
        """Copy training images into the test split and under other emotions, and leave files that are no images."""
        for split in ("train", "test"):
            for emotion in EMOTIONS:  # a small set may have drawn no test image of one
                (self.folder / split / emotion).mkdir(parents=True, exist_ok=True)
        build = self.folder.parent
        conflicts = max(2, round(len(self.jobs) * _CONFLICT_SHARE))
        trained = shuffle_jobs(self.rng, [job for job in self.jobs if "/train/" in job.path], len(EMOTIONS))
        for job in trained[: self.leaked]:
            self._copy(job, "test", job.emotion)
        for job in trained[self.leaked : self.leaked + conflicts]:
            self._copy(job, "train", other_emotion(self.rng, job.emotion))
        happy, sad, neutral = (EMOTIONS.index(name) for name in ("happy", "sad", "neutral"))
        (build / self._name("train", happy)).write_bytes(cut_short(build / trained[-1].path))
        (build / self._name("train", sad)).write_bytes(b"")
        (build / self._name("train", neutral)).write_text("This is not an image.\n")
        (self.folder / "train" / "happy" / "Thumbs.db").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504))
