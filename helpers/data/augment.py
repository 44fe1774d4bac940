"""The augmentation techniques in five groups, each with one strength: albumentations transforms, and four warps.

All calls of albumentations stand here. A technique works on a face of any size: what it does is a share of the face, so
a face of 48 pixels and one of 200 look equally changed.
"""

import difflib
import math
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would otherwise ask the network for a newer version

import albumentations as A
import cv2
import numpy as np
import torch

from helpers.data.geometry import draw_warps, warp
from helpers.files import InputError

_MIRROR = cv2.BORDER_REFLECT_101  # what a warp pulls in from outside looks like more of the picture


@dataclass(frozen=True)
class Technique:
    """One transform.

    Attributes:
        group: geometric, colour, noise, blur or cutout.
        probability: how often training applies it.
        limit: its strongest amount at strength 1, in its own unit; the amount grows with the strength.
        unit: text with a place for the amount.
        build: (amount, probability, longer side of the face in pixels) -> the transform; None for those that
            :mod:`helpers.data.geometry` applies to a whole batch where the network runs.
    """

    group: str
    probability: float
    limit: float
    unit: str
    build: Callable[[float, float, int], A.BasicTransform] | None

    def amount(self, strength: float) -> str:
        """What the technique does at most at a strength, in words."""
        return self.unit.format(self.limit * strength)


def _odd(size: float) -> int:
    """The nearest odd number of pixels from 3 on: what a blur's window can have."""
    return max(3, 2 * round((size - 1) / 2) + 1)


def _elastic(a: float, p: float, side: int) -> A.BasicTransform:
    """Displacements with a standard deviation of ``a`` faces that change over a twelfth of the face.

    Uniform noise has a standard deviation of 1/sqrt(3), a Gaussian window of sigma pixels divides it by
    2 sqrt(pi) sigma, and alpha multiplies what is left.
    """
    sigma = side / 12
    alpha = a * side * math.sqrt(3) * 2 * math.sqrt(math.pi) * sigma
    return A.ElasticTransform(alpha, sigma, noise_distribution="uniform", border_mode=_MIRROR, p=p)


def _downscale(a: float, p: float, side: int) -> A.BasicTransform:
    """As coarse as a face of 48 pixels or less, which is what FER2013's faces are and what far cameras see."""
    whole = min(48, side) / side
    ways = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
    return A.Downscale((whole * (1 - a), whole * (1 - a / 2)), ways, p=p)


def _sharpen(a: float, p: float, side: int) -> A.BasicTransform:
    """Unsharp masking: what a window of a fortieth of the face smooths away is added once more.

    Not albumentations' Sharpen: its kernel has a fixed number of pixels, and its Gaussian way wraps around below zero.
    """
    sigma, window = side / 40, _odd(side / 8)
    return A.UnsharpMask((window, window), (sigma, sigma), alpha=(a / 2, a), threshold=0, p=p)


class _Erasing(A.Erasing):
    """albumentations' own fails for want of a seed on a face so long that no hole fits in; this leaves it whole."""

    def get_params_dependent_on_data(self, params, data):
        return {"seed": 0} | super().get_params_dependent_on_data(params, data)


TECHNIQUES = {
    "flip": Technique("geometric", 0.5, 0, "left to right", None),
    "rotate": Technique("geometric", 0.3, 15, "up to {:.0f}°", None),
    "scale": Technique("geometric", 0.3, 0.12, "± {:.0%}", None),
    "shift": Technique("geometric", 0.3, 0.1, "by {:.0%}", None),
    "perspective": Technique("geometric", 0.1, 0.08, "corners {:.0%}",
        lambda a, p, side: A.Perspective((a / 4, a), border_mode=_MIRROR, p=p)),
    "elastic": Technique("geometric", 0.05, 0.015, "by {:.1%}", _elastic),
    "grid distortion": Technique("geometric", 0.05, 0.25, "cells ± {:.0%}",
        lambda a, p, side: A.GridDistortion(5, (-a, a), border_mode=_MIRROR, p=p)),
    "optical distortion": Technique("geometric", 0.05, 0.2, "bent ± {:.2f}",
        lambda a, p, side: A.OpticalDistortion((-a, a), border_mode=_MIRROR, p=p)),
    "brightness": Technique("colour", 0.2, 0.25, "± {:.0%}",
        lambda a, p, side: A.RandomBrightnessContrast((-a, a), (0, 0), p=p)),
    "contrast": Technique("colour", 0.2, 0.3, "± {:.0%}",
        lambda a, p, side: A.RandomBrightnessContrast((0, 0), (-a, a), p=p)),
    # OpenCV counts the circle of hues in 180 steps
    "hue": Technique("colour", 0.1, 10, "± {:.0f}°",
        lambda a, p, side: A.HueSaturationValue((-a / 2, a / 2), (0, 0), (0, 0), p=p)),
    "saturation": Technique("colour", 0.1, 0.15, "± {:.0%}",
        lambda a, p, side: A.HueSaturationValue((0, 0), (-255 * a, 255 * a), (0, 0), p=p)),
    "gamma": Technique("colour", 0.1, 0.3, "1 ± {:.1f}",
        lambda a, p, side: A.RandomGamma((100 - 100 * a, 100 + 100 * a), p=p)),
    "CLAHE": Technique("colour", 0.05, 2, "clip 1 + {:.1f}", lambda a, p, side: A.CLAHE((1, 1 + a), (4, 4), p=p)),
    "tone curve": Technique("colour", 0.05, 0.2, "bent {:.0%}", lambda a, p, side: A.RandomToneCurve(a, p=p)),
    "grey": Technique("colour", 0.05, 0, "no colour", lambda a, p, side: A.ToGray(p=p)),
    "Gaussian noise": Technique("noise", 0.07, 0.06, "sd {:.0%}",
        lambda a, p, side: A.GaussNoise(std_range=(a / 6, a), p=p)),
    "ISO noise": Technique("noise", 0.05, 0.25, "grain {:.0%}",
        lambda a, p, side: A.ISONoise((a / 40, a / 8), (a / 4, a), p=p)),
    "multiplicative noise": Technique("noise", 0.05, 0.2, "× 1 ± {:.0%}",
        lambda a, p, side: A.MultiplicativeNoise((1 - a, 1 + a), per_channel=True, elementwise=True, p=p)),
    "JPEG": Technique("noise", 0.05, 40, "quality 90 - {:.0f}",
        lambda a, p, side: A.ImageCompression("jpeg", (round(90 - a), 90), p=p)),
    "motion blur": Technique("blur", 0.05, 0.07, "over {:.0%}",
        lambda a, p, side: A.MotionBlur((3, _odd(a * side)), p=p)),
    "Gaussian blur": Technique("blur", 0.05, 0.02, "sd {:.1%}",
        lambda a, p, side: A.GaussianBlur(0, (a * side / 3, a * side), p=p)),
    "median blur": Technique("blur", 0.05, 0.06, "over {:.0%}",
        lambda a, p, side: A.MedianBlur((3, _odd(a * side)), p=p)),
    "downscale": Technique("blur", 0.05, 0.4, "to 48 px - {:.0%}", _downscale),
    "sharpen": Technique("blur", 0.05, 0.5, "by {:.0%}", _sharpen),
    # how many holes, how high and how wide
    "coarse dropout": Technique("cutout", 0.25, 0.14, "1 to 8 of {:.0%}",
        lambda a, p, side: A.CoarseDropout((1, 8), (a / 2, a), (a / 2, a), fill="random_uniform", p=p)),
    "erasing": Technique("cutout", 0.1, 0.15, "{:.0%} of it",
        lambda a, p, side: _Erasing((a / 5, a), fill="random_uniform", p=p)),
}  # fmt: skip
"""Name -> technique, in the order in which they are applied. Probabilities sum up to about three besides the flip."""


GROUPS = tuple(dict.fromkeys(technique.group for technique in TECHNIQUES.values()))
"""The groups of techniques, in order."""


def techniques(leave_out: str = "") -> dict[str, Technique]:
    """The techniques without those that ``leave_out`` names, separated by commas, in capitals or not.

    Raises:
        InputError: there is no technique of such a name.
    """
    known = {name.lower(): name for name in TECHNIQUES}
    names = [name.strip() for name in leave_out.split(",") if name.strip()]
    for name in names:
        if name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f"did you mean {known[near[0]]!r}?" if near else f"there are {', '.join(TECHNIQUES)}."
            raise InputError(f"The field 'augment_without' names a technique {name!r} that does not exist; {hint}")
    left_out = {known[name.lower()] for name in names}
    return {name: technique for name, technique in TECHNIQUES.items() if name not in left_out}


class Augmenter:
    """The techniques by their probabilities; draws follow :meth:`reseed` alone.

    What is applied is drawn here and only that is called: albumentations' own Compose looks at the face again after
    each transform, which costs as much as the transforms themselves.

    Args:
        strength: scales every technique's amount; 0 leaves the faces as they are.
        leave_out: names of techniques that are not used, separated by commas.

    Raises:
        InputError: there is no technique of such a name.
    """

    def __init__(self, strength: float, leave_out: str = ""):
        self.strength = strength
        used = techniques(leave_out) if strength > 0 else {}
        self._warps = {name: (t.probability, t.limit * strength) for name, t in used.items() if t.build is None}
        # Names, since the techniques' own functions cannot travel to loader processes that do not fork.
        self._names = [name for name, technique in used.items() if technique.build is not None]
        self._probabilities = np.array([TECHNIQUES[name].probability for name in self._names])
        self._random, self._numpy_random = random.Random(0), np.random.Generator(np.random.PCG64(0))

    def prepare(self, sides: Iterable[int]) -> None:
        """Build the transforms for faces of these sizes now: processes that fork from this one need not."""
        for side in sides:
            for name in self._names:
                _build(name, self.strength, _rounded(side))

    def reseed(self, seed: int) -> None:
        """Make all later draws a function of ``seed``."""
        self._random.seed(seed)
        self._numpy_random.bit_generator.state = np.random.PCG64(seed).state

    def warps(self, count: int) -> np.ndarray:
        """Draw the warps of a batch, float32 (count, 2, 3), for :func:`helpers.data.geometry.warp`."""
        return draw_warps(self._numpy_random, count, **self._warps)

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """Everything but the warps: a face, uint8 RGB (H, W, 3), as another of the same shape."""
        side = _rounded(max(face.shape[:2]))
        for number in np.flatnonzero(self._numpy_random.random(len(self._names)) < self._probabilities):
            transform = _build(self._names[number], self.strength, side)
            transform.set_random_state(self._numpy_random, self._random)
            face = transform(image=face)["image"]
        return face

    def whole(self, face: np.ndarray) -> np.ndarray:
        """A face as the network sees it, the warps included, to be looked at; square, of its longer side."""
        return _warped(self(face), self.warps(1))


def _rounded(side: int) -> int:
    """Sizes within a few pixels share their transforms, which cost a millisecond each to build."""
    return max(16, 8 * round(side / 8))


@cache
def _build(name: str, strength: float, side: int) -> A.BasicTransform:
    """The transform of a technique, surely applied, for faces of a size."""
    technique = TECHNIQUES[name]
    assert technique.build, "a warp is no transform"
    return technique.build(technique.limit * strength, 1.0, side)


def show_technique(name: str, face: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """``face`` with one technique surely applied at ``strength``; at 0 as it is."""
    technique, amount = TECHNIQUES[name], TECHNIQUES[name].limit * strength
    if strength == 0:
        return face.copy()
    if technique.build is None:
        return _warped(face, draw_warps(np.random.default_rng(seed), 1, **{name: (1.0, amount)}))
    transform = technique.build(amount, 1.0, max(face.shape[:2]))
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return transform(image=face)["image"]


def _warped(face: np.ndarray, warps: np.ndarray) -> np.ndarray:
    pixels = warp(torch.from_numpy(face)[None], torch.from_numpy(warps), max(face.shape[:2]))
    return pixels[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def features_kept(face: np.ndarray, changed: np.ndarray, group: str) -> float:
    """How much of what makes a face readable is left, about 1 (all) to 0: a correlation at 48 pixels.

    Warps are compared in their coarse shades, mirrored or not; everything else in features of the size of eyes and
    mouth (between 1 and 4 pixels), since noise and colour do not hide those, but blur and covers do.
    """
    greys = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (face, changed))
    pair = [cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32) for grey in greys]
    coarse = [cv2.GaussianBlur(picture, (0, 0), 4) for picture in pair]
    if group == "geometric":
        return max(_correlation(coarse[0], coarse[1]), _correlation(coarse[0][:, ::-1], coarse[1]))
    first, second = (cv2.GaussianBlur(p, (0, 0), 1) - c for p, c in zip(pair, coarse, strict=True))
    return _correlation(first, second)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-6))


TOO_STRONG = 0.7
"""Features kept below which a technique goes too far for a face. At strength 1 one draw in twenty comes near it."""


def preview_techniques(
    faces: list[np.ndarray], names: Iterable[str], strength: float = 1.0, seed: int = 0
) -> tuple[list[np.ndarray], list[str], list[bool]]:
    """Each named technique surely applied to the same faces: one row of images per face, the original first.

    Returns:
        The images; for each a caption, the technique's name and its strongest amount at this strength; and whether it
        went too far for this face.
    """
    images, captions, marks = list[np.ndarray](), list[str](), list[bool]()
    for face in faces:
        images, captions, marks = [*images, face], [*captions, "original"], [*marks, False]
        for name in names:
            images.append(show_technique(name, face, strength, seed))
            captions.append(f"{name}\n{TECHNIQUES[name].amount(strength)}")
            marks.append(features_kept(face, images[-1], TECHNIQUES[name].group) < TOO_STRONG)
    return images, captions, marks
