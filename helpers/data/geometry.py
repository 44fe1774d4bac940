"""From faces of any size to one size: the resize of the network, and the turns and shifts that come with it for free.

Training samples each pixel of the network's picture once, from where a rotated, scaled, shifted or mirrored face has
it: so a whole batch is warped where the network runs, in the one interpolation that resizing needs anyway.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
"""How much red, green and blue count in grey: ITU-R BT.601, as in Pillow and OpenCV."""


def resize(faces: Tensor, size: int, grey: int | None = None) -> Tensor:
    """uint8 RGB (B, H, W, 3) to float (B, 3, size, size) from 0 to 255, with antialiasing.

    ``grey`` shows them as grey faces of so many pixels a side look at this size.
    """
    pixels = faces.permute(0, 3, 1, 2).float()
    if grey:
        red, green, blue = pixels.split(1, dim=1)
        pixels = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue  # one channel until the end
    for side in (grey, size) if grey and grey < size else (size,):
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return pixels.expand(-1, 3, -1, -1) if grey else pixels


def warp(faces: Tensor, warps: Tensor, size: int) -> Tensor:
    """Resize and warp: uint8 RGB (B, H, W, 3) to float (B, 3, size, size) from 0 to 255.

    Args:
        faces: no larger than ``size``, since nothing is averaged here.
        warps: (B, 2, 3), see :func:`draw_warps`; what comes in from outside mirrors the face.
        size: pixels a side of the result.
    """
    pixels = faces.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(warps, [len(faces), 3, size, size], align_corners=False)
    sampled = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


def draw_warps(rng: np.random.Generator, count: int, **most: tuple[float, float]) -> np.ndarray:
    """Draw a warp for each face, float32 (count, 2, 3): where in the face, from -1 to 1, each place of the result lies.

    Args:
        rng: what the draws come from; the number of draws depends on ``count`` alone.
        count: how many faces.
        most: of ``flip``, ``rotate`` (degrees), ``scale`` and ``shift`` (shares of the face) the probability and the
            largest amount.
    """
    chances, amounts = rng.random((4, count)), rng.uniform(-1, 1, (4, count))
    known = [most.get(name, (0.0, 0.0)) for name in ("flip", "rotate", "scale", "shift")]
    probabilities, largest = np.array(known).T[..., None]
    drawn = chances < probabilities
    _, angle, scale, shift = np.where(drawn, largest * amounts, 0.0)
    angle, zoom, mirror = np.deg2rad(angle), 1 + scale, np.where(drawn[0], -1.0, 1.0)
    # The direction of a shift takes the draw that a flip has no use for; -1 to 1 is two shares wide.
    way = np.pi * amounts[0]
    across = np.stack([mirror * np.cos(angle) / zoom, -np.sin(angle) / zoom, 2 * shift * np.cos(way)], axis=1)
    down = np.stack([mirror * np.sin(angle) / zoom, np.cos(angle) / zoom, 2 * shift * np.sin(way)], axis=1)
    return np.stack([across, down], axis=1).astype(np.float32)
