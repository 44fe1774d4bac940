"""Who a drawn face shows and what it feels: looks by age and gender, and the muscles of the seven emotions.

Lengths are in the face units of ``drawn_faces.pen``.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

_SKINS = ((255, 228, 205), (246, 204, 168), (228, 178, 134), (203, 146, 101), (158, 103, 68), (110, 70, 48))
_HAIRS = ((28, 24, 26), (58, 38, 28), (104, 66, 38), (142, 74, 40), (190, 138, 74), (226, 190, 120))
_IRISES = ((70, 44, 28), (104, 70, 36), (74, 110, 66), (66, 120, 160), (110, 130, 140))


@dataclass(frozen=True)
class Expression:
    """What the muscles do; the defaults are a face at rest. Upwards and outwards count as positive."""

    brow_in: float = 0.0
    brow_out: float = 0.0
    brow_arch: float = 0.06
    brow_gather: float = 0.0
    lid_upper: float = 1.0
    lid_lower: float = 1.0
    lid_tilt: float = 0.0
    mouth_width: float = 0.36
    mouth_corner: float = 0.0
    mouth_up: float = 0.0
    mouth_down: float = 0.0
    mouth_box: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    skew: float = 0.0
    sneer: float = 0.0
    cheek: float = 0.0
    fold: float = 0.0
    frown: float = 0.0
    tear: float = 0.0


_angry = {"brow_in": -0.19, "brow_out": 0.09, "brow_arch": 0.02, "brow_gather": 0.08, "lid_tilt": 0.55, "frown": 1.0}
_disgust = {"brow_in": -0.08, "brow_out": -0.02, "lid_upper": 0.62, "lid_lower": 0.1, "sneer": 1.0, "fold": 1.0}
_fear = {"brow_in": 0.2, "brow_out": -0.02, "brow_arch": 0.0, "brow_gather": 0.1, "lid_upper": 1.4, "lid_lower": 1.15}
_happy = {"brow_in": 0.04, "brow_out": 0.05, "brow_arch": 0.1, "lid_upper": 0.95, "lid_lower": 0.05, "cheek": 1.0}
_sad = {"brow_in": 0.15, "brow_out": -0.15, "brow_arch": 0.0, "lid_upper": 0.72, "lid_tilt": -0.55, "frown": 0.3}
_surprise = {"brow_in": 0.22, "brow_out": 0.22, "brow_arch": 0.15, "lid_upper": 1.45, "lid_lower": 1.2}

_FULL = {
    "angry": (
        dict(_angry, mouth_width=0.4, mouth_corner=-0.05, mouth_up=0.08, mouth_down=0.1, mouth_box=1.0, teeth=1.0),
        dict(_angry, mouth_width=0.31, mouth_corner=-0.08, lid_upper=0.85, lid_lower=0.6),
    ),
    "disgust": (
        dict(_disgust, mouth_corner=-0.1, mouth_up=0.1, mouth_down=0.02, teeth=0.8, skew=1.0),
        dict(_disgust, mouth_corner=-0.08, mouth_up=0.02, mouth_down=0.14, tongue=1.0, skew=0.6),
    ),
    "fear": (
        dict(_fear, mouth_width=0.5, mouth_corner=-0.06, mouth_up=0.04, mouth_down=0.15, mouth_box=0.8, teeth=0.35),
        dict(_fear, mouth_width=0.48, mouth_corner=-0.1, mouth_up=0.05, mouth_down=0.07, mouth_box=0.9, teeth=1.0),
    ),
    "happy": (
        dict(_happy, mouth_width=0.5, mouth_corner=0.17, mouth_up=-0.04, mouth_down=0.24, teeth=0.55, fold=0.5),
        dict(_happy, mouth_width=0.5, mouth_corner=0.2, fold=0.4),
    ),
    "neutral": ({},),
    "sad": (
        dict(_sad, mouth_width=0.32, mouth_corner=-0.17, tear=1.0),
        dict(_sad, mouth_width=0.34, mouth_corner=-0.17, mouth_up=0.0, mouth_down=0.05),
    ),
    "surprise": (
        dict(_surprise, mouth_width=0.2, mouth_up=0.12, mouth_down=0.24, mouth_box=0.6, teeth=0.15),
        dict(_surprise, mouth_width=0.25, mouth_up=0.08, mouth_down=0.16, mouth_box=0.5),
    ),
}
"""Every emotion at full strength, in one or more ways of showing it."""


_WANDER = {"brow_in": 0.025, "brow_out": 0.025, "brow_arch": 0.02, "brow_gather": 0.015, "lid_upper": 0.06}
_WANDER |= {"lid_lower": 0.1, "lid_tilt": 0.1, "mouth_width": 0.025, "mouth_corner": 0.02, "mouth_box": 0.06}
_WANDER |= {"skew": 0.1, "cheek": 0.1, "fold": 0.1, "frown": 0.1}
"""Standard deviations with which muscles differ from face to face within an emotion."""


@dataclass(frozen=True)
class Person:
    """Who is drawn. ``child`` falls from 1 at birth to 0 at 16; ``old`` rises from 0 at 18 to 1 at 88."""

    age: float
    female: bool
    child: float
    old: float
    skin: np.ndarray
    hair: np.ndarray
    cloth: np.ndarray
    iris: np.ndarray
    jaw: float
    width: float
    top: float
    chin: float
    eye_y: float
    eye_gap: float
    eye_size: float
    mouth_y: float
    hairline: float
    style: str

    @property
    def line(self) -> np.ndarray:
        """Colour of drawn lines on the skin."""
        return self.skin * (0.5, 0.42, 0.4)

    @property
    def brow_colour(self) -> np.ndarray:
        return np.minimum(self.hair * 0.72 + 4, self.skin * 0.72)


def draw_person(rng: np.random.Generator, age: float, female: bool) -> Person:
    """Draw random looks that fit an age in years and a gender."""
    child = max(0.0, 1.0 - age / 16.0)
    old = min(1.05, max(0.0, (age - 18.0) / 70.0 + rng.normal(0, 0.02)))
    skin = _between(_SKINS, rng.random()) * rng.uniform(0.94, 1.06) + rng.normal(0, 3, 3)
    skin = skin * (1 - 0.06 * old) + np.array([250, 170, 160]) * 0.06 * child
    hair = _between(_HAIRS, rng.random() ** 1.3)
    grey = np.clip((age - 32) / 36 + rng.normal(0, 0.07), 0, 1)
    hair = hair * (1 - grey) + np.array([214, 214, 218]) * grey
    style = _hair_style(rng, age, female)
    soft = 1 - child
    return Person(
        age=age,
        female=female,
        child=child,
        old=old,
        skin=np.clip(skin, 30, 255),
        hair=hair,
        cloth=rng.uniform(40, 225, 3),
        iris=_between(_IRISES, rng.random()),
        jaw=(2.0 if female else 2.0 + 0.75 * min(1.0, soft * 1.2)) + rng.normal(0, 0.08),
        width=(0.95 if female else 1.0) + 0.06 * child + rng.normal(0, 0.025),
        top=-1.28 - 0.06 * child,
        chin=1.3 - 0.27 * child + (0.0 if female else 0.06 * soft) + 0.03 * old + rng.normal(0, 0.03),
        eye_y=0.0 + 0.23 * child + rng.normal(0, 0.02),
        eye_gap=0.42 + 0.02 * child + rng.normal(0, 0.012),
        eye_size=0.205 * (1 + 0.38 * child + (0.1 if female else 0.0) - 0.14 * old) * rng.uniform(0.95, 1.05),
        mouth_y=0.76 - 0.07 * child + rng.normal(0, 0.015),
        hairline=-0.78 - 0.12 * child - (0.1 if female else 0.42) * old + rng.normal(0, 0.03),
        style=style,
    )


def _hair_style(rng: np.random.Generator, age: float, female: bool) -> str:
    """Draw ``fluff``, ``short``, ``bald``, ``long``, ``bob``, ``bun`` or ``crop`` with odds by age and gender."""
    draw = rng.random()
    if age < 1.5:
        return "fluff"
    if not female:
        return "bald" if draw < np.clip((age - 28) / 75, 0, 0.6) else "long" if draw > 0.96 else "short"
    long_share = np.clip(0.72 - age / 160, 0.2, 0.7)
    return "long" if draw < long_share else "bob" if draw < 0.72 else "bun" if draw < 0.9 else "crop"


def draw_expression(rng: np.random.Generator, emotion: str) -> Expression:
    """Mix rest and a full expression, so that a face may show it faintly, and let every muscle wander a little."""
    ways = _FULL[emotion]
    rest = np.array(astuple(Expression()))
    full = np.array(astuple(Expression(**ways[int(rng.integers(len(ways)))])))
    wander = np.array([_WANDER.get(name, 0.0) for name in Expression.__dataclass_fields__])
    values = rest + rng.uniform(0.75, 1.15) * (full - rest) + wander * rng.standard_normal(len(rest))
    names = list(Expression.__dataclass_fields__)
    values[names.index("skew")] *= rng.choice((-1.0, 1.0))  # a mirrored face shows the same emotion
    return Expression(**dict(zip(names, values.tolist(), strict=True)))


def _between(palette: tuple, where: float) -> np.ndarray:
    """Colour at ``where`` (0 to 1) along a palette."""
    place = where * (len(palette) - 1)
    first = min(int(place), len(palette) - 2)
    share = place - first
    return np.array(palette[first], float) * (1 - share) + np.array(palette[first + 1], float) * share
