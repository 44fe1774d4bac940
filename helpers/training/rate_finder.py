"""A learning rate to begin with, from a hundred steps that are thrown away: the learning-rate range test."""

import math
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers.config import TrainConfig
from helpers.data.store import FaceStore
from helpers.data.workers import loading
from helpers.session.progress import Progress, silent
from helpers.training.loop import train_step
from helpers.training.processes import computing_with, cpu_threads
from helpers.training.session import check
from helpers.training.state import build

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
"""Rates of the first and the last step, and how many steps there are."""

DIVERGED = 4.0
"""Where the smoothed loss is this many times its lowest, higher rates tell nothing more (fastai's bound)."""

_DECAY = 0.9  # of the weights that the smoothed loss gives to earlier ones
_BEGIN = 10  # steps whose smoothed loss is where it begins


@dataclass(frozen=True)
class RangeTest:
    """What the steps showed, the first at the rate LOWEST.

    Attributes:
        losses: of the steps.
    """

    losses: list[float] = field(default_factory=list)

    @property
    def rates(self) -> np.ndarray:
        """Of the steps: each is the same factor larger than the one before."""
        return np.geomspace(LOWEST, HIGHEST, STEPS)[: len(self.losses)]

    @property
    def smooth(self) -> np.ndarray:
        """The moving average of the losses."""
        return pd.Series(self.losses, dtype=float).ewm(alpha=1 - _DECAY).mean().to_numpy()

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate of the lowest smoothed loss (the rule "minimum" of fastai, arXiv 2002.04688).

        None where that loss lies no further below those of the first steps than four deviations of its noise.
        """
        smooth = self.smooth
        if len(smooth) <= _BEGIN or (lowest := int(smooth.argmin())) <= _BEGIN:
            return None
        noise = (self.losses - smooth)[: lowest + 1].std() * math.sqrt((1 - _DECAY) / (1 + _DECAY))
        return float(f"{self.rates[lowest] / 10:.2g}") if smooth[_BEGIN] - smooth[lowest] > 4 * noise else None

    def describe(self) -> str:
        """The suggestion in a sentence."""
        if self.suggestion is None:
            return "Nothing can be suggested: at no rate did the loss fall by more than chance would move it."
        text = f"Try lr = {self.suggestion:g}, a tenth of the rate at which the loss was lowest: "
        return text + "a place to begin, found at the very start of training."


def find_rate(config: TrainConfig, store: FaceStore, folder: Path, progress: Progress = silent) -> RangeTest:
    """Take steps with a rate that rises from LOWEST to HIGHEST until the loss diverges (arXiv 1506.01186, 3.3).

    The weights are thrown away; the run, the store and the global random state stay as they are.

    Args:
        folder: of the run, beside which lies an earlier one that it may start from.

    Raises:
        InputError: the config cannot be used with these faces, or the network cannot be built.
    """
    check(config, store)
    found, rates = RangeTest(), np.geomspace(LOWEST, HIGHEST, STEPS)
    with torch.random.fork_rng(), loading():
        training = build(config, store, folder)
        first = training.step = config.schedule.head_epochs * training.faces.steps  # where the backbone learns too

        def rise(step: int) -> None:
            for group in training.optimizer.param_groups:
                group["lr"] = group["lr_scale"] * rates[step - first]

        training.rates.step_update = rise  # type: ignore[method-assign,assignment]
        epochs = (training.batches(training.size_of(0)) for _ in repeat(None))
        with computing_with(cpu_threads(training.device)):
            for batch in islice(chain.from_iterable(epochs), STEPS):
                training.loss_sums.zero_()
                train_step(training, batch)
                training.guard.check()
                loss = training.objective.means("train", training.loss_sums)["train_loss"]
                if not math.isfinite(loss):
                    break
                found.losses.append(loss)
                progress(len(found.losses), STEPS)
                if found.smooth[-1] > DIVERGED * found.smooth.min():
                    break
    progress(STEPS, STEPS)
    return found
