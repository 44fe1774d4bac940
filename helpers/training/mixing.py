"""Mixup and CutMix: a batch mixed with itself, and the shares in which its labels count."""

import numpy as np
import torch

from helpers.data.loaders import Labels, draw_seed

Mixed = list[tuple[float, Labels]]
"""What a batch's loss is made of: (share, labels), the shares adding up to 1."""

MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0
"""Parameters of the symmetric beta distributions that Mixup's shares and CutMix's areas are drawn from; the papers'."""

_PURPOSE = 1  # keeps these draws apart from the augmentation's of the same step


def mix(faces: torch.Tensor, labels: Labels, step: int, seed: int, probability: float) -> tuple[torch.Tensor, Mixed]:
    """Mix the faces of a step by Mixup or CutMix, each with half of the probability.

    The draws are a function of (seed, step). All tasks are mixed with the same share. Partners come from the faces
    given, so every label counts as much as without mixing: over a permutation the shares of a label add up to its rows.

    Args:
        faces: (B, 3, H, W).
        labels: theirs.
        step: number of the step.
        seed: of the run.
        probability: that this step is mixed, 0 to 1.

    Returns:
        The mixed faces, and their labels in shares.
    """
    rng = np.random.default_rng(draw_seed(seed, step, _PURPOSE))
    if rng.random() >= probability:
        return faces, [(1.0, labels)]
    partner = torch.from_numpy(rng.permutation(len(faces))).to(faces.device, non_blocking=True)
    if rng.random() < 0.5:
        faces, share = mixup(faces, partner, rng.beta(MIXUP_ALPHA, MIXUP_ALPHA))
    else:
        faces, share = cutmix(faces, partner, rng.beta(CUTMIX_ALPHA, CUTMIX_ALPHA), rng)
    return faces, [(share, labels), (1.0 - share, {task: values[partner] for task, values in labels.items()})]


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
