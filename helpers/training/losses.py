"""The loss of each task over the rows that carry its label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.config import AGE_BINS, AGE_SPREAD, EMOTIONS, TASKS, UNKNOWN, TrainConfig
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


AGE_SIGMA = 2.0
"""Standard deviation in years of the label distribution around an age; DLDL-v2's choice."""

EXPECTATION_WEIGHT = 0.1
"""Weight of a year of error beside the divergence. DLDL-v2 has 1, with the age as its only task."""


def age_distribution_loss(logits: Tensor, years: Tensor, ages: Tensor) -> Tensor:
    """DLDL-v2 (arXiv 2007.01771, equations 5 to 7), one value per row, (B,).

    The divergence KL(t || p) of the answered distribution p from t, a discretised normal distribution around the age,
    plus EXPECTATION_WEIGHT times the distance between p's expectation and the age.

    Args:
        logits: (B, AGE_BINS), one for each year from 0 on.
        years: (B,), the expectation of their softmax.
        ages: (B,).
    """
    bins = torch.arange(AGE_BINS, dtype=torch.float32, device=logits.device)
    log_t = F.log_softmax(-((bins - ages[:, None]) ** 2) / (2 * AGE_SIGMA**2), dim=1)
    log_p = F.log_softmax(logits.float(), dim=1)
    return (log_t.exp() * (log_t - log_p)).sum(dim=1) + EXPECTATION_WEIGHT * (years.float() - ages).abs()


def class_weights(labels: np.ndarray, power: float) -> Tensor | None:
    """Weights of the emotions, (7,), by ``1 / count ** power``, such that the mean over the labelled rows is 1.

    None at power 0. A class that no row has gets no weight.

    Args:
        labels: of the training rows, -1 unknown.
        power: 0 to 1.
    """
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(EMOTIONS))
    if power == 0 or not counts.any():
        return None
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def task_losses(
    outputs: dict[str, Tensor], shares: Shares, config: TrainConfig, weights: Tensor | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Per task the sum of its loss over the rows that carry its label, and the count of those rows.

    Mixed rows count by their shares: sum over pairs of ``share * known * loss`` and of ``share * known``.

    Args:
        outputs: what the model gives: ``emotion`` (B, 7) and ``gender`` (B, 2) logits, ``age`` (B,) years, and
            ``age_logits`` where the age is a distribution.
        shares: what :func:`helpers.training.mixing.mix` returned, or ``[(1.0, targets)]``.
        weights: of the emotions, (7,), see :func:`class_weights`; the count of rows stays as it is.
    """
    smoothing = config.label_smoothing

    def emotion(labels: Tensor) -> Tensor:
        loss = focal_loss(
            outputs["emotion"], labels, alpha=config.focal_alpha, gamma=config.focal_gamma, smoothing=smoothing
        )
        return loss if weights is None else loss * weights[labels]

    def age(labels: Tensor) -> Tensor:
        if "age_logits" in outputs:
            return age_distribution_loss(outputs["age_logits"], outputs["age"], labels)
        return age_loss(outputs["age"], labels)

    def gender(labels: Tensor) -> Tensor:
        return focal_loss(outputs["gender"], labels, alpha=1.0, gamma=0.0, smoothing=smoothing)

    per_row = {"emotion": emotion, "age": age, "gender": gender}
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


def total_loss(losses: dict[str, tuple[Tensor, Tensor | int]], config: TrainConfig) -> Tensor:
    """The tasks' mean losses, weighted and added; a task without a labelled row adds nothing.

    Args:
        losses: per task the sum over labelled rows and their count. Where the sum is that of a part of a step, the
            count of the whole step makes the parts' losses add up to the step's.
        config: holds the tasks' weights.
    """
    factors = {"emotion": config.emotion_weight, "age": config.age_weight, "gender": config.gender_weight}
    return sum(factors[task] * total / _positive(count) for task, (total, count) in losses.items())


def _positive(count: Tensor | int) -> Tensor | float:
    """Above zero, so that a task without a labelled row adds nothing; a share of a single row is left as it is."""
    return count.clamp(min=1e-6) if isinstance(count, Tensor) else max(count, 1e-6)
