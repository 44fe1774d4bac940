"""The augmentation techniques: albumentations transforms in five groups, each with one strength.

All calls of albumentations stand here. A technique works on a face of any size: its strengths are shares of the face.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would otherwise ask the network for a newer version

import albumentations as A
import cv2
import numpy as np


@dataclass(frozen=True)
class Technique:
    """One transform: ``build(strength, probability)`` makes it; strength 1 is the default, 0 would do nothing."""

    group: str
    probability: float
    build: Callable[[float, float], A.BasicTransform]


def _affine(strength: float, probability: float) -> A.BasicTransform:
    shift, scale = 0.08 * strength, 0.12 * strength
    return A.Affine(
        rotate=(-15 * strength, 15 * strength),
        scale=(1 - scale, 1 + scale),
        translate_percent=(-shift, shift),
        border_mode=cv2.BORDER_REFLECT_101,
        p=probability,
    )


def _colour(strength: float, probability: float) -> A.BasicTransform:
    hue, saturation, value = (round(limit * strength) for limit in (8, 25, 15))
    return A.HueSaturationValue(hue, saturation, value, p=probability)


def _holes(strength: float, probability: float) -> A.BasicTransform:
    side = (0.06 * strength, 0.14 * strength)
    return A.CoarseDropout(
        num_holes_range=(1, 8), hole_height_range=side, hole_width_range=side, fill="random_uniform", p=probability
    )


TECHNIQUES = {
    "flip": Technique("geometric", 0.5, lambda s, p: A.HorizontalFlip(p=p)),
    "rotate, scale, shift": Technique("geometric", 0.6, _affine),
    "perspective": Technique("geometric", 0.2, lambda s, p: A.Perspective((0.02 * s, 0.07 * s), p=p)),
    "brightness, contrast": Technique("colour", 0.3, lambda s, p: A.RandomBrightnessContrast(0.25 * s, 0.25 * s, p=p)),
    "hue, saturation": Technique("colour", 0.2, _colour),
    "gamma": Technique("colour", 0.2, lambda s, p: A.RandomGamma((100 - 25 * s, 100 + 30 * s), p=p)),
    "CLAHE": Technique("colour", 0.1, lambda s, p: A.CLAHE((1, 1 + 2 * s), (4, 4), p=p)),
    "Gaussian noise": Technique("noise", 0.1, lambda s, p: A.GaussNoise(std_range=(0.01 * s, 0.06 * s), p=p)),
    "ISO noise": Technique("noise", 0.1, lambda s, p: A.ISONoise((0.01, 0.01 + 0.04 * s), (0.1, 0.1 + 0.3 * s), p=p)),
    "Gaussian blur": Technique("blur", 0.1, lambda s, p: A.GaussianBlur(0, (0.3, 0.3 + 0.7 * s), p=p)),
    "motion blur": Technique("blur", 0.1, lambda s, p: A.MotionBlur((3, 3 + 2 * round(s)), p=p)),
    "coarse dropout": Technique("cutout", 0.3, _holes),
}
"""Name -> technique, in the order in which they are applied."""


class Augmenter:
    """All techniques one after another, each by its probability; draws follow :meth:`reseed` alone.

    Args:
        strength: scales every technique's strength; 0 leaves the faces as they are.
    """

    def __init__(self, strength: float):
        steps = [technique.build(strength, technique.probability) for technique in TECHNIQUES.values()]
        self._compose = A.Compose(steps if strength > 0 else [])

    def reseed(self, seed: int) -> None:
        """Make all later draws a function of ``seed``; once per batch, since it costs 0.4 ms."""
        self._compose.set_random_seed(seed)

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """A face, uint8 RGB (H, W, 3), as a new array of the same shape."""
        return self._compose(image=face)["image"]


def show_technique(name: str, face: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """``face`` with one technique surely applied at ``strength``."""
    one = A.Compose([TECHNIQUES[name].build(strength, 1.0)])
    one.set_random_seed(seed)
    return one(image=face)["image"]


def preview_techniques(faces: list[np.ndarray], strength: float = 1.0, seed: int = 0):
    """Each face as it is and with each technique surely applied; returns the images and a caption for each."""
    images, titles = [], []
    for face in faces:
        images += [face, *(show_technique(name, face, strength, seed) for name in TECHNIQUES)]
        titles += ["original", *TECHNIQUES]
    return images, titles
