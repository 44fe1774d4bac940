"""What every layout is made of: the jobs of drawing its faces, the labels drawn for them, and a pick among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from helpers.tasks import EMOTIONS


@dataclass(frozen=True)
class Job:
    """One face to draw: where to, from which labels and how. ``dataset`` and ``number`` make its random draws its own.

    ``path`` lies inside the build folder, ``size`` is in pixels a side and ``quality`` is the JPEG's, 0 to 100.
    """

    path: str
    dataset: int
    number: int
    emotion: int
    age: int
    gender: int
    size: int
    grey: bool
    quality: int


class Layout(Protocol):
    """A dataset's folder, made from its place inside the build folder, the number of faces and the seed."""

    jobs: list[Job]

    def set_traps(self) -> None:
        """Add what is wrong in the real dataset, once the jobs are drawn."""


def draw_labels(rng: np.random.Generator, shares: Iterable[float], faces: int) -> list[tuple[int, int, int]]:
    """Draw class, age and gender of each face.

    The classes come in about the given shares and shuffled, but the last faces show each class once: they are where a
    layout has its training images, so that even a small set holds every class there.
    """
    shares = np.array(list(shares))
    edges = np.rint(np.cumsum(shares) / shares.sum() * (faces - len(shares)))
    shuffled = rng.permutation(np.searchsorted(edges, np.arange(faces - len(shares)), side="right"))
    classes = np.concatenate([shuffled, rng.permutation(len(shares))])
    ages, genders = draw_ages(rng, faces), rng.integers(0, 2, faces)
    return list(zip(classes.tolist(), ages.tolist(), genders.tolist(), strict=True))


def draw_ages(rng: np.random.Generator, faces: int) -> np.ndarray:
    """Ages in years spread like UTKFace's: a peak of babies, most between 20 and 40, a tail to 95."""
    kinds = rng.choice(4, faces, p=(0.12, 0.11, 0.47, 0.3))
    baby, child = rng.integers(0, 4, faces), rng.integers(4, 18, faces)
    grown, late = rng.normal(29, 6, faces), 38 + rng.exponential(18, faces)
    ages = np.choose(kinds, (baby, child, np.clip(grown, 18, 45), late))
    return np.clip(ages, 0, 95).astype(int)


def shuffle_jobs(rng: np.random.Generator, jobs: list[Job], last: int) -> list[Job]:
    """Jobs in random order for the traps, the ``last`` of them behind the others.

    They show each class once (see :func:`draw_labels`): a set that has faces to spare keeps those out of its traps.
    """
    order = [*rng.permutation(len(jobs) - last), *(len(jobs) - last + rng.permutation(last))]
    return [jobs[index] for index in order]


def other_emotion(rng: np.random.Generator, emotion: int) -> int:
    """Draw an emotion that is not the given one."""
    return (emotion + int(rng.integers(1, len(EMOTIONS)))) % len(EMOTIONS)


def cut_short(path: Path) -> bytes:
    """The first part of a file, as a broken download leaves it."""
    whole = path.read_bytes()
    return whole[: len(whole) * 6 // 10]
