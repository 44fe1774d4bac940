"""What training makes small: the tasks' losses over the faces that carry their labels, weighted and added."""

from collections.abc import Mapping
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from helpers.config import LossConfig
from helpers.losses import class_weights
from helpers.tasks import TASKS
from helpers.training.mixing import Mixed

Sums = dict[str, tuple[Tensor, Tensor]]
"""Per task the sum of its loss over the rows that carry its label, and the count of those rows; scalars."""


class Objective:
    """The loss of a batch.

    Args:
        loss: the knobs.
        labels: task -> the training rows' labels, from whose counts class weights follow.
        device: where losses are computed.
    """

    def __init__(self, loss: LossConfig, labels: dict[str, np.ndarray], device: torch.device):
        self._loss = loss
        self._class_weights: dict[str, Tensor] = {}
        for name, task in TASKS.items():
            weights = class_weights(labels[name], len(task.classes), loss.class_weights) if task.focal else None
            if weights is not None:
                self._class_weights[name] = weights.to(device)

    def sums(self, outputs: dict[str, Tensor], mixed: Mixed) -> Sums:
        """Sums and counts of the tasks' losses; mixed rows count by their shares.

        That is, sum over pairs of ``share * known * loss`` and of ``share * known``.

        Args:
            outputs: the heads' outputs by task, see :mod:`helpers.tasks`.
            mixed: what :func:`helpers.training.mixing.mix` returned, or ``[(1.0, labels)]``.
        """
        sums: Sums = {}
        for name, task in TASKS.items():
            interpreted, weights = task.interpreted(outputs[name]), self._class_weights.get(name)
            total = count = torch.zeros((), device=outputs[name].device)
            for share, labels in mixed:
                known = task.known(labels[name])
                # Unknown labels are replaced before the loss: a NaN times zero would still be NaN.
                rows = known.view(-1, *[1] * (labels[name].dim() - 1))
                filled = torch.where(rows, labels[name], torch.zeros_like(labels[name]))
                total = total + share * (task.loss(interpreted, filled, self._loss, weights) * known).sum()
                count = count + share * known.sum()
            sums[name] = total, count
        return sums

    def total(self, sums: Sums, counts: Mapping[str, Tensor | int] | None = None) -> Tensor:
        """The tasks' mean losses, weighted and added; a task without a labelled row adds nothing.

        Args:
            sums: of a step, or of a part of it.
            counts: of the whole step's labelled rows, which makes the parts' losses add up to the step's; None means
                those of ``sums``.
        """
        divisors: Mapping[str, Tensor | int] = counts or {name: count for name, (_, count) in sums.items()}
        whole = [self._loss.weight(name) * total / _divisor(divisors[name]) for name, (total, _) in sums.items()]
        return reduce(torch.add, whole)

    @staticmethod
    def stacked(sums: Sums) -> Tensor:
        """Sums and counts as one tensor, (tasks, 2) float64 without a gradient, in the order of TASKS."""
        return torch.stack([torch.stack(sums[name]) for name in TASKS]).detach().double()

    def means(self, prefix: str, stacked: Tensor) -> dict[str, float]:
        """The weighted loss and each task's mean loss, as lines of the history that begin with a prefix."""
        sums = {name: (row[0], row[1]) for name, row in zip(TASKS, stacked.cpu(), strict=True)}
        row = {f"{prefix}_loss": float(self.total(sums))}
        return row | {f"{prefix}_{name}_loss": float(total / _divisor(count)) for name, (total, count) in sums.items()}


def _divisor(count: Tensor | int) -> Tensor | float:
    """The count itself, whatever share of a row it is; one where there is none, since the sum is then zero too."""
    return torch.where(count == 0, 1.0, count) if isinstance(count, Tensor) else count or 1
