"""The loss of each task over the rows that carry its label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.config import AGE_SPREAD, TASKS, UNKNOWN, TrainConfig
from helpers.training.mixing import Shares


def focal_loss(logits: Tensor, labels: Tensor, *, alpha: float, gamma: float, smoothing: float) -> Tensor:
    """Focal loss with label smoothing, one value per row, (B,).

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


def age_loss(years: Tensor, ages: Tensor) -> Tensor:
    """Smooth L1 between years, in units of AGE_SPREAD, one value per row, (B,)."""
    return F.smooth_l1_loss(years.float() / AGE_SPREAD, ages / AGE_SPREAD, reduction="none")


def task_losses(outputs: dict[str, Tensor], shares: Shares, config: TrainConfig) -> dict[str, tuple[Tensor, Tensor]]:
    """Per task the sum of its loss over the rows that carry its label, and the count of those rows.

    Mixed rows count by their shares: sum over pairs of ``share * known * loss`` and of ``share * known``.

    Args:
        outputs: ``emotion`` (B, 7) and ``gender`` (B, 2) logits, ``age`` (B,) years.
        shares: what :func:`helpers.training.mixing.mix` returned, or ``[(1.0, targets)]``.
    """
    smoothing = config.label_smoothing
    per_row = {
        "emotion": lambda labels: focal_loss(
            outputs["emotion"], labels, alpha=config.focal_alpha, gamma=config.focal_gamma, smoothing=smoothing
        ),
        "age": lambda labels: age_loss(outputs["age"], labels),
        "gender": lambda labels: focal_loss(outputs["gender"], labels, alpha=1.0, gamma=0.0, smoothing=smoothing),
    }
    losses = {}
    for task in TASKS:
        total = count = torch.zeros((), device=outputs["age"].device)
        for share, targets in shares:
            labels = getattr(targets, task)
            known = ~labels.isnan() if task == "age" else labels != UNKNOWN
            # Unknown labels are replaced before the loss: a NaN times zero would still be NaN.
            loss = per_row[task](torch.where(known, labels, torch.zeros_like(labels)))
            total = total + share * (loss * known).sum()
            count = count + share * known.sum()
        losses[task] = total, count
    return losses


def total_loss(losses: dict[str, tuple[Tensor, Tensor]], config: TrainConfig) -> Tensor:
    """The tasks' mean losses, weighted and added; a task without a labelled row adds nothing."""
    weights = {"emotion": config.emotion_weight, "age": config.age_weight, "gender": config.gender_weight}
    # Below one known row in shares the divisor is that share, so that a lone mixed row still counts in full.
    return sum(weights[task] * total / count.clamp(min=1e-6) for task, (total, count) in losses.items())
