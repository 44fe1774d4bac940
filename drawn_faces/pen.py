"""The canvas that faces are drawn on, the curves that parts are made of, and the camera that photographs them.

Lengths are in *face units*: the origin lies between the temples, one unit is half the width of a grown-up face,
x points to the right of the picture and y down. ``Pen`` alone knows how face units become pixels.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

_SUBPIXEL = 4
"""Fractional bits of cv2's fixed-point coordinates."""

_UNSHADED = 200
"""The byte that stands for a factor of one in a shade, which leaves room to lighten as well."""


class Pen:
    """A canvas larger than the wanted picture, and one random pose through which face units land on it."""

    def __init__(self, rng: np.random.Generator, size: int):
        side = size * max(2, -(-128 // size))  # a whole multiple, for which cv2's INTER_AREA is ten times as fast
        self.canvas = np.empty((side, side, 3), np.uint8)
        self.scale = side * rng.uniform(0.33, 0.385)
        angle = np.deg2rad(min(15.0, max(-15.0, rng.normal(0, 6))))
        squeeze, shear = rng.uniform(0.94, 1.04), rng.normal(0, 0.03)
        roll = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self.turn = np.clip(rng.normal(0, (0.07, 0.045)), -0.16, 0.16)
        centre = side * (np.array([0.5, 0.49]) + np.clip(rng.normal(0, 0.025, 2), -0.06, 0.06))
        fine = 1 << _SUBPIXEL
        self._matrix = (roll @ np.array([[squeeze, shear], [0.0, 1.0]]) * self.scale * fine).T
        self._centre = centre * fine
        self._turn = self.turn @ self._matrix

    def place(self, points: np.ndarray, flat: bool = False) -> np.ndarray:
        """Fixed-point pixels of ``(n, 2)`` face units; what is not ``flat`` moves as the head turns, by its depth."""
        placed = points @ self._matrix
        placed += self._centre
        if not flat:
            depth = 1.0 - (points * points) @ _FLATTENING
            placed += np.sqrt(np.maximum(depth, 0.0, out=depth), out=depth)[:, None] * self._turn
        return placed.astype(np.int32)

    def fill(self, points, colour, flat: bool = False) -> None:
        """Paint a polygon of ``(n, 2)`` face units in an RGB colour, 0 to 255."""
        cv2.fillPoly(self.canvas, [self.place(np.asarray(points, float), flat)], _rgb(colour), cv2.LINE_AA, _SUBPIXEL)

    def line(self, points, colour, width: float, flat: bool = False) -> None:
        """Draw an open line of ``(n, 2)`` face units; ``width`` is in face units too."""
        placed = self.place(np.asarray(points, float), flat)
        thick = max(1, round(width * self.scale))
        cv2.polylines(self.canvas, [placed], False, _rgb(colour), thick, cv2.LINE_AA, _SUBPIXEL)

    def shade(self, shapes: list, spread: float, flat: bool = False) -> None:
        """Darken or lighten softly. ``shapes`` pairs a polygon with the factor of each colour, from 0 to 1.25.

        ``spread`` is the softness in face units. Where shapes overlap, the later one counts.
        """
        placed = [self.place(points, flat) for points, _ in shapes]
        corners = np.concatenate(placed) >> _SUBPIXEL
        side, margin = len(self.canvas), int(2 * spread * self.scale) + 2
        x0, y0 = (max(0, int(low) - margin) for low in corners.min(axis=0))
        x1, y1 = (min(side, int(high) + margin) for high in corners.max(axis=0))
        if x1 - x0 < 4 or y1 - y0 < 4:
            return
        # soft shade holds no detail, so it is made at a quarter of the resolution
        small = np.full(((y1 - y0 + 3) // 4, (x1 - x0 + 3) // 4, 3), _UNSHADED, np.uint8)
        origin = np.array([x0 << _SUBPIXEL, y0 << _SUBPIXEL])
        for points, (_, factor) in zip(placed, shapes, strict=True):
            moved = (points - origin) // 4
            cv2.fillPoly(small, [moved.astype(np.int32)], _rgb(np.multiply(factor, _UNSHADED)), cv2.LINE_8, _SUBPIXEL)
        wide = max(1, round(spread * self.scale / 4)) * 2 + 1
        shade = cv2.blur(cv2.blur(small, (wide, wide)), (wide, wide))
        patch = self.canvas[y0:y1, x0:x1]
        patch[...] = cv2.multiply(patch, cv2.resize(shade, (x1 - x0, y1 - y0)), scale=1 / _UNSHADED)

    def backdrop(self, rng: np.random.Generator) -> None:
        """A gradient between four colours with a few soft blobs, anything from dark to bright."""
        corners = rng.uniform(40, 230) + rng.normal(0, 22, (2, 2, 3))
        small = cv2.resize(np.clip(corners, 0, 255).astype(np.uint8), (32, 32), interpolation=cv2.INTER_LINEAR)
        for _ in range(int(rng.integers(0, 5))):
            spot, grey = rng.integers(0, 32, 2).tolist(), rng.uniform(30, 230)
            cv2.circle(small, spot, int(rng.integers(3, 10)), _rgb(grey + rng.normal(0, 30, 3)), -1)
        wide = int(rng.choice((3, 5, 9)))
        small = cv2.blur(small, (wide, wide))
        self.canvas[...] = cv2.resize(small, self.canvas.shape[:2], interpolation=cv2.INTER_CUBIC)


_FLATTENING = np.array([1 / 1.1, 1 / 2.4])
"""Shape of the ellipsoid on which the features sit: where depth falls to 0, they no longer move with a turn."""


def _rgb(colour) -> list[float]:
    return np.minimum(np.maximum(colour, 0), 255).tolist()


@lru_cache(maxsize=64)
def _spline(knots: int, steps: int, closed: bool) -> np.ndarray:
    """Matrix that turns ``knots`` points into points of the Catmull-Rom curve through them."""
    spans = knots if closed else knots - 1
    t = np.linspace(0, spans, steps * spans, endpoint=not closed)
    first = np.minimum(t.astype(int), spans - 1)
    f = t - first
    weights = (-f + 2 * f**2 - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, -(f**2) + f**3)
    matrix = np.zeros((len(t), knots))
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        column = (first + offset) % knots if closed else np.clip(first + offset, 0, knots - 1)
        np.add.at(matrix, (np.arange(len(t)), column), weight / 2)
    return matrix


def curve(*knots, closed: bool = False, steps: int = 8) -> np.ndarray:
    """Points of a smooth curve through the knots, ``steps`` of them between two knots."""
    return _spline(len(knots), steps, closed) @ np.array(knots, float)


_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    """Polygon of an ellipse around ``(x, y)``."""
    return _CIRCLE * (rx, ry) + (x, y)


def trace(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points of the curve ``y`` over ``x``, ``(n, 2)``."""
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def band(x: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Polygon between two curves over the same ``x``, ``(2n, 2)``."""
    return trace(np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]]))


def photograph(rng: np.random.Generator, canvas: np.ndarray, size: int, grey: bool) -> np.ndarray:
    """Shrink a drawing and add what a camera adds: uneven light, contrast, blur, noise and JPEG's marks.

    Args:
        rng: source of the light and the faults.
        canvas: uint8 RGB, larger than ``size``.
        size: pixels a side of the result.
        grey: one channel instead of three.

    Returns:
        uint8 ``(size, size, 3)``, or ``(size, size)`` when ``grey``.
    """
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if grey else image
    across, down = np.clip(rng.normal(0, 0.17, 2), -0.35, 0.35).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    gain, contrast, offset = rng.uniform(0.78, 1.12), rng.uniform(0.72, 1.1), rng.normal(0, 8)
    light: np.ndarray = (1 + across * ramp[None, :] + down * ramp[:, None]) * np.float32(gain * contrast)
    grain: np.ndarray = rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0.5, 6.0))
    grain += np.float32((1 - contrast) * 118 + offset)
    tone = rng.uniform(0.94, 1.05, 3).tolist()
    if not grey:  # cv2 multiplies whole pixels much faster than numpy broadcasts over three channels
        light, grain = cv2.merge([light * share for share in tone]), cv2.merge([grain] * 3)
    image = cv2.add(cv2.multiply(image, light, dtype=cv2.CV_32F), grain, dtype=cv2.CV_8U)
    blur, jpeg = rng.random(2)
    if blur < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), size / 48 * rng.uniform(0.25, 0.6))
    if jpeg < 0.4:
        packed = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 90))))[1]
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED))
    return image
