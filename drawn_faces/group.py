"""One picture of several drawn people, to try a model on without a photograph."""

from __future__ import annotations

import numpy as np

from drawn_faces.face import draw_face
from helpers.tasks import EMOTIONS

_SIZE, _GAP, _COLUMNS = 220, 60, 2  # the camera's detector finds faces from about a fifth of the width on


def draw_group(count: int = 4, seed: int = 0) -> np.ndarray:
    """Draw people side by side, each of whom shows another emotion as far as there are some.

    Args:
        count: of faces.
        seed: the same one gives the same picture.

    Returns:
        uint8 RGB (H, W, 3), 220 pixels for each face and 60 between them, two in a row.
    """
    rng, step = np.random.default_rng(seed), _SIZE + _GAP
    columns, rows = min(count, _COLUMNS), -(-count // _COLUMNS)
    wall = np.linspace([196, 206, 214], [150, 160, 170], rows * step + _GAP)
    picture = np.repeat(wall[:, None], columns * step + _GAP, axis=1).astype(np.uint8)
    for number in range(count):
        top, left = (_GAP + step * at for at in divmod(number, _COLUMNS))
        face = draw_face(rng, number % len(EMOTIONS), rng.uniform(3, 80), number % 2, _SIZE)
        picture[top : top + _SIZE, left : left + _SIZE] = face
    return picture
