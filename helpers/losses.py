"""Losses over plain tensors, one value per row; every row has a known label."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def focal_loss(logits: Tensor, labels: Tensor, *, alpha: float, gamma: float, smoothing: float) -> Tensor:
    """Focal loss with label smoothing, (B,).

    With p the softmax of the logits, y the label and q the smoothed target (1 - smoothing on y plus smoothing / C on
    every class): ``alpha * (1 - p_y)**gamma * -sum_c q_c log p_c``. Focal term: arXiv 1708.02002, equation 5;
    smoothing: arXiv 1512.00567, section 7. gamma = 0 and alpha = 1 is plain smoothed cross-entropy.

    Args:
        logits: (B, C).
        labels: int64 (B,), each from 0 to C - 1.
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    log_p_y = log_p.gather(1, labels[:, None])[:, 0]
    cross_entropy = -(1.0 - smoothing) * log_p_y - smoothing * log_p.mean(dim=1)
    # 1 - p as the sum of the other classes: taken from p it would be lost to rounding in confident rows. Clamping keeps
    # the gradient of its power finite at p = 1.
    unsure = log_p.exp().scatter(1, labels[:, None], 0.0).sum(dim=1).clamp(min=1e-30)
    return alpha * unsure**gamma * cross_entropy


def smooth_l1_loss(values: Tensor, intervals: Tensor, unit: float) -> Tensor:
    """Smooth L1 of the distance between a value and its interval, in a unit, (B,); 0 within the interval.

    Args:
        values: (B,).
        intervals: (B, 2), the lowest and the highest right value.
        unit: of the distance at which it turns from a square into a line.
    """
    nearest = values.detach().clamp(intervals[:, 0], intervals[:, 1])
    return F.smooth_l1_loss(values.float() / unit, nearest / unit, reduction="none")


SIGMA = 2.0
"""Standard deviation in bins of the label distribution around a known value; DLDL-v2's choice for years."""

EXPECTATION_WEIGHT = 0.1
"""Weight of a bin of error beside the divergence. DLDL-v2 has 1, with the age as its only task."""


def distribution_loss(logits: Tensor, expectation: Tensor, intervals: Tensor) -> Tensor:
    """DLDL-v2 (arXiv 2007.01771, equations 5 to 7), for labels that may be intervals, (B,).

    The divergence KL(t || p) of the answered distribution p from t, a discretised normal distribution around the
    label, plus EXPECTATION_WEIGHT times the distance between p's expectation and the label. Where the label is an
    interval, t is p itself within it, falling off outside as the normal distribution does: so the gradient is that of
    the logarithm of the probability of the interval, and an answer within it is left as it is.

    Args:
        logits: (B, K), one for each whole value from 0 on.
        expectation: (B,), of their softmax.
        intervals: (B, 2), the lowest and the highest right value; equal where it is known.
    """
    low, high = intervals[:, :1], intervals[:, 1:]
    bins = torch.arange(logits.shape[1], dtype=torch.float32, device=logits.device)
    outside = (low - bins).clamp(min=0) + (bins - high).clamp(min=0)
    log_p = F.log_softmax(logits.float(), dim=1)
    log_t = F.log_softmax(-(outside**2) / (2 * SIGMA**2) + torch.where(low < high, log_p.detach(), 0.0), dim=1)
    distance = expectation.float() - expectation.detach().clamp(low[:, 0], high[:, 0])
    return (log_t.exp() * (log_t - log_p)).sum(dim=1) + EXPECTATION_WEIGHT * distance.abs()


def class_weights(labels: np.ndarray, classes: int, power: float) -> Tensor | None:
    """Weights of classes, (C,), by ``1 / count ** power``, such that the mean over the labelled rows is 1.

    None at power 0. A class that no row has gets no weight.

    Args:
        labels: of the training rows, -1 unknown.
        classes: how many there are.
        power: 0 to 1.
    """
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    if power == 0 or not counts.any():
        return None
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)
