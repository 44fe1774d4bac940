"""Copies and look-alikes: which copies are found, which exchanged mouths or eyes pass for copies, and what it costs.

Faces of the store are saved again, resized or cropped, and get the mouth or the eyes of another face. The limits in
helpers/data/twins.py were chosen on one half of the faces (`--half tuning`); what is reported is from the other.
"""

from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from PIL import Image

from benchmarks.common import finish, opened, parser
from helpers.data.store import FaceStore
from helpers.data.twins import likeness, twin_groups

Picture = np.ndarray
Change = Callable[[Picture, np.random.Generator], Picture]
Share = tuple[int, int]

SMOOTH = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def saved(pixels: Picture, quality: int) -> Picture:
    """Saved as JPEG and opened again."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def scaled(pixels: Picture, rng: np.random.Generator, low: float = 0.5, high: float = 2.0) -> Picture:
    """Resized by one of the filters that look at every pixel."""
    share = rng.uniform(low, high)
    size = [max(16, round(side * share)) for side in pixels.shape[1::-1]]
    how = int(rng.integers(len(SMOOTH) + 1))
    if how == len(SMOOTH):
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR)
    return np.asarray(Image.fromarray(pixels).resize(size, SMOOTH[how]))


def sampled(pixels: Picture, share: float, how: int) -> Picture:
    """Resized by looking at a pixel or four for each, whatever lies between."""
    return cv2.resize(pixels, None, fx=share, fy=share, interpolation=how)


def cropped(pixels: Picture, rng: np.random.Generator, share: float = 0.03) -> Picture:
    """Up to a share of each side cut off."""
    height, width = pixels.shape[:2]
    left, right = (int(cut * width + 0.5) for cut in rng.uniform(0, share, 2))
    top, bottom = (int(cut * height + 0.5) for cut in rng.uniform(0, share, 2))
    return np.ascontiguousarray(pixels[top : height - bottom, left : width - right])


def noisy(pixels: Picture, rng: np.random.Generator, spread: float) -> Picture:
    """With noise of its own in every pixel."""
    return np.clip(pixels + rng.normal(0, spread, pixels.shape), 0, 255).astype(np.uint8)


COPIES: dict[str, Change] = {
    "JPEG, quality 70": lambda pixels, rng: saved(pixels, 70),
    "JPEG, quality 70-95": lambda pixels, rng: saved(pixels, int(rng.integers(70, 96))),
    "scale 50-200 %": scaled,
    "scale 50 %": lambda pixels, rng: scaled(pixels, rng, 0.5, 0.5),
    "crop 0-3 % a side": cropped,
}
"""What must be found, 99 of 100."""

HARDER: dict[str, Change] = {
    "JPEG, quality 40": lambda pixels, rng: saved(pixels, 40),
    "crop, scale": lambda pixels, rng: scaled(cropped(pixels, rng), rng),
    "crop, scale, JPEG 70-95": lambda pixels, rng: saved(scaled(cropped(pixels, rng), rng), int(rng.integers(70, 96))),
    "scale 50 %, JPEG 70": lambda pixels, rng: saved(scaled(pixels, rng, 0.5, 0.5), 70),
    "scale 75-100 %, four pixels for each": lambda pixels, rng: sampled(pixels, rng.uniform(0.75, 1), cv2.INTER_LINEAR),
    "scale 50-75 %, four pixels for each": lambda pixels, rng: sampled(
        pixels, rng.uniform(0.5, 0.75), cv2.INTER_LINEAR
    ),
    "scale 50-100 %, one pixel for each": lambda pixels, rng: sampled(pixels, rng.uniform(0.5, 1), cv2.INTER_NEAREST),
    "crop 0-5 % a side": lambda pixels, rng: cropped(pixels, rng, 0.05),
    "noise of 4 levels": lambda pixels, rng: noisy(pixels, rng, 4),
    "noise of 10 levels": lambda pixels, rng: noisy(pixels, rng, 10),
    "contrast 85-115 %, clipped": lambda pixels, rng: cv2.convertScaleAbs(pixels, alpha=rng.uniform(0.85, 1.15)),
}
"""What is reported."""

PLACES = {"mouth": (0.25, 0.75, 0.64, 0.90), "eyes": (0.12, 0.88, 0.28, 0.51)}
"""Left, right, upper and lower end in a face that fills its picture."""


def exchanged(pixels: Picture, other: Picture, place: str, way: str) -> Picture:
    """The face with the mouth or the eyes of another, made as bright and rich in contrast, and blended in."""
    height, width = pixels.shape[:2]
    left, right, top, bottom = (
        round(end * side) for end, side in zip(PLACES[place], (width,) * 2 + (height,) * 2, strict=True)
    )
    here = slice(top, bottom), slice(left, right)
    given, own = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)[here], pixels[here].astype(float)
    middle = ((left + right) // 2, (top + bottom) // 2)
    if way == "cloned":
        return cv2.seamlessClone(given, pixels, np.full(given.shape[:2], 255, np.uint8), middle, cv2.NORMAL_CLONE)
    factor = np.clip(own.std() / max(given.std(), 5.0), 0.5, 1.5)
    new = pixels.astype(float)
    new[here] = (given - given.mean((0, 1))) * factor + own.mean((0, 1))
    mask = cv2.ellipse(np.zeros((height, width)), middle, ((right - left) // 2, (bottom - top) // 2), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.02 * width)[..., None]
    return np.clip(pixels * (1 - mask) + new * mask, 0, 255).round().astype(np.uint8)


def groups_of(pictures: list[Picture]) -> np.ndarray:
    """The group of each picture."""
    outlines, thumbnails = (np.stack(part) for part in zip(*map(likeness, pictures), strict=True))
    # As with hashes for names, it is chance which of two comes first.
    return twin_groups(np.random.default_rng(0).permutation(len(pictures)), outlines, thumbnails)


def chosen(store: FaceStore, most: int, half: str) -> dict[str, list[Picture]]:
    """Up to ``most`` faces of every dataset that are nobody's copy, from one half of the faces."""
    found = {}
    for name, rows in store.faces.groupby("dataset")["sha"]:
        mine = rows[[(int(sha[-1], 16) % 2 == 0) == (half == "tuning") for sha in rows]]
        pictures = [store.image(row) for row in mine.sort_values().index[: most + most // 4]]
        groups = groups_of(pictures)
        alone = np.bincount(groups)[groups] == 1
        found[str(name)] = [picture for picture, one in zip(pictures, alone, strict=True) if one][:most]
    return found


def shares(
    faces: dict[str, list[Picture]], change: Callable[[list[Picture], int, np.random.Generator], Picture]
) -> dict[str, Share]:
    """Per dataset how many changed faces are in their originals' groups, and of how many."""
    found = {}
    for name, pictures in faces.items():
        rng = np.random.default_rng(1)
        groups = groups_of(pictures + [change(pictures, number, rng) for number in range(len(pictures))])
        found[name] = int((groups[: len(pictures)] == groups[len(pictures) :]).sum()), len(pictures)
    return found


def copied(pictures: list[Picture], number: int, rng: np.random.Generator, change: Change) -> Picture:
    """A changed face."""
    return change(pictures[number], rng)


def swapped(pictures: list[Picture], number: int, rng: np.random.Generator, place: str, way: str) -> Picture:
    """A face with a part of another."""
    return exchanged(pictures[number], pictures[number - int(rng.integers(1, len(pictures)))], place, way)


def told(name: str, found: dict[str, Share]) -> None:
    """A line of the table."""
    parts = (f"{dataset} {some:5,} of {all:5,} ({some / all:7.2%})" for dataset, (some, all) in found.items())
    print(f"{name:42}" + "   ".join(parts), flush=True)


def frames(count: int = 4000) -> tuple[float, float]:
    """Seconds and MB for frames of one scene that differ by noise alone."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    outlines, thumbnails = (
        np.stack(part) for part in zip(*(likeness(noisy(scene, rng, 4)) for _ in range(count)), strict=True)
    )
    tracemalloc.start()
    start = time.perf_counter()
    assert len(set(twin_groups(np.arange(count), outlines, thumbnails).tolist())) == 1
    seconds = time.perf_counter() - start
    return seconds, tracemalloc.get_traced_memory()[1] / 1e6


def main() -> None:
    """Measure, print the table and the last line."""
    made = parser(__doc__.partition("\n")[0])
    made.add_argument("--most", type=int, default=1200, help="faces of a dataset (default: %(default)s)")
    made.add_argument("--half", choices=("tuning", "report"), default="report", help="of the faces")
    options = made.parse_args()
    with opened(options.faces) as store:
        faces = chosen(store, options.most, options.half)
        found = {}
        for name, change in (COPIES | HARDER).items():
            found[name] = shares(faces, partial(copied, change=change))
            told(name, found[name])
        wrong = {}
        for place in PLACES:
            for way in ("blended", "cloned"):
                name = f"{place} of another face, {way}"
                wrong[name] = shares(faces, partial(swapped, place=place, way=way))
                told(name, wrong[name])
        seconds, megabytes = frames()
        print(f"4,000 frames that differ by noise: {seconds:.1f} s, {megabytes:.0f} MB")
        joined, tried = np.sum([share for one in wrong.values() for share in one.values()], axis=0).tolist()
        least = min(some / all for name in COPIES for some, all in found[name].values())
        finish(store, least_found=round(least, 4), joined=joined, exchanged=tried, frames_s=round(seconds, 1))


if __name__ == "__main__":
    main()
