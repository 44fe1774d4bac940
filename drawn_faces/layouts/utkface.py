"""The layout of UTKFace."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np

from drawn_faces.layouts.job import Job, cut_short, draw_ages
from helpers.tasks import EMOTIONS, RACES

MALFORMED = {
    "61_1_20170109142408075.jpg.chip.jpg": (61, 1),
    "61_3_20170109150557335.jpg.chip.jpg": (61, 1),
    "39_1_20170116174525125.jpg.chip.jpg": (39, 1),
    "53__0_20170116184028385.jpg.chip.jpg": (53, 0),
    "24_0_1_20170116220224657 .jpg.chip.jpg": (24, 0),
}
"""UTKFace's names without a race or a gender, and a good one with a space; what is drawn in each: age, gender."""


class UtkFace:
    """UTKFace as ``jangedoo/utkface-new`` has it: 200x200 colour, labels in the name, and folders that repeat."""

    def __init__(self, folder: Path, faces: int, seed: int):
        self.folder = folder
        self.rng = rng = np.random.default_rng((seed, 1))
        self.stamps = self._tell_time()
        ages, genders = draw_ages(rng, faces).tolist(), rng.integers(0, 2, faces).tolist()
        emotions = rng.integers(0, len(EMOTIONS), faces + len(MALFORMED)).tolist()
        labels = list(zip(ages, genders, strict=True))
        names = [self._name(age, gender, int(rng.integers(len(RACES)))) for age, gender in labels]
        self.jobs = [
            Job(f"{folder.name}/UTKFace/{name}", 1, i, emotions[i], *label, size=200, grey=False, quality=90)
            for i, (name, label) in enumerate([*zip(names, labels, strict=True), *MALFORMED.items()])
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
        good = [Path(job.path).name for job in self.jobs if Path(job.path).name not in MALFORMED]
        pairs = max(2, round(0.004 * len(good)))
        some = self.rng.permutation(len(good)).tolist()
        for place, index in enumerate(islice(some, pairs)):
            age, gender, race = (int(part) for part in good[index].split("_")[:3])
            gap = 2 if place == 0 else 20
            other = self._name(age + gap if age <= 70 else age - gap, gender, race)
            shutil.copyfile(images / good[index], images / other)
        (images / self._name(30, 0, 0)).write_bytes(cut_short(images / good[some[pairs]]))
        repeated = [good[index] for index in some[: max(3, len(good) // 20)]]
        for nested in ("crop_part1", "utkface_aligned_cropped/UTKFace", "utkface_aligned_cropped/crop_part1"):
            (self.folder / nested).mkdir(parents=True)
            for name in repeated:
                shutil.copyfile(images / name, self.folder / nested / name)
