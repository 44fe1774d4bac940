"""Mixup and CutMix: a batch mixed with itself, and the shares in which its labels count."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from helpers.config import TrainConfig
from helpers.data.loaders import Targets, draw_seed

Shares = list[tuple[float, Targets]]
"""What a batch's loss is made of: (share, labels), the shares adding up to 1."""

_PURPOSE = 1  # keeps these draws apart from the augmentation's of the same step


def mix(
    faces: torch.Tensor, targets: Targets, step: int, config: TrainConfig, probability: float
) -> tuple[torch.Tensor, Shares]:
    """Mix the faces of a step by Mixup or CutMix, each with half of the probability.

    The draws are a function of (config.seed, step). All three tasks are mixed with the same share. Partners come from
    the faces given, so every label counts as much as without mixing: over a permutation the shares of a label add up
    to its rows.

    Args:
        faces: (B, 3, H, W).
        targets: their labels.
        step: number of the step.
        config: holds the seed and the distributions of the shares.
        probability: that this step is mixed, 0 to 1.

    Returns:
        The mixed faces, and the shares for :func:`helpers.training.losses.task_losses`.
    """
    rng = np.random.default_rng(draw_seed(config.seed, step, _PURPOSE))
    if rng.random() >= probability:
        return faces, [(1.0, targets)]
    partner = torch.from_numpy(rng.permutation(len(faces))).to(faces.device, non_blocking=True)
    if rng.random() < 0.5:
        faces, share = mixup(faces, partner, rng.beta(config.mixup_alpha, config.mixup_alpha))
    else:
        faces, share = cutmix(faces, partner, rng.beta(config.cutmix_alpha, config.cutmix_alpha), rng)
    return faces, [(share, targets), (1.0 - share, targets.map(lambda labels: labels[partner]))]


def mixup(faces: torch.Tensor, partner: torch.Tensor, share: float) -> tuple[torch.Tensor, float]:
    """``share`` of each face plus the rest of its partner's (arXiv 1710.09412); returns the faces and the share."""
    return share * faces + (1.0 - share) * faces[partner], share


def cutmix(faces: torch.Tensor, partner: torch.Tensor, share: float, rng) -> tuple[torch.Tensor, float]:
    """Paste a box of the partner's face over each face (arXiv 1905.04899).

    The box asks for ``1 - share`` of the area around a random centre and is cut off at the border, so the share that
    comes back is the one really left.
    """
    height, width = faces.shape[2:]
    side = np.sqrt(1.0 - share)
    top, bottom = _span(height, side, rng)
    left, right = _span(width, side, rng)
    mixed = faces.clone()
    mixed[:, :, top:bottom, left:right] = faces[partner, :, top:bottom, left:right]
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, part: float, rng) -> tuple[int, int]:
    """A stretch of about ``part`` of the length around a random centre, cut off at the ends."""
    centre, half = rng.integers(length), part * length / 2
    return int(max(0, round(centre - half))), int(min(length, round(centre + half)))


def preview_mixing(faces: list[np.ndarray], img_size: int) -> tuple[list[np.ndarray], list[str]]:
    """Each face mixed with the next one by Mixup and by CutMix; returns the images and a caption for each.

    Args:
        faces: uint8 RGB arrays (H, W, 3) of any sizes.
        img_size: side of the result.
    """
    resized = np.stack([cv2.resize(face, (img_size, img_size)) for face in faces])
    batch = torch.from_numpy(resized).permute(0, 3, 1, 2).float()
    partner = torch.arange(len(faces)).roll(-1)
    images, titles = [], []
    for name, (mixed, share) in (
        ("Mixup", mixup(batch, partner, 0.7)),
        ("CutMix", cutmix(batch, partner, 0.7, np.random.default_rng(3))),
    ):
        images += list(mixed.permute(0, 2, 3, 1).round().byte().numpy())
        titles += [f"{name} {share:.0%}"] * len(faces)
    return images, titles
