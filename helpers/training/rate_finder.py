"""A learning rate to begin with, from a hundred steps that are thrown away: the learning-rate range test."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from helpers.config import TrainConfig
from helpers.data.loaders import Batch
from helpers.data.store import FaceStore
from helpers.data.workers import loading
from helpers.session.progress import Progress, silent
from helpers.training.loop import train_step
from helpers.training.processes import computing_with, cpu_threads
from helpers.training.session import check
from helpers.training.state import Training, build

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
"""Rates of the first and the last step, and how many steps there are."""

DIVERGED = 4.0
"""Where the smoothed loss is this many times its lowest, higher rates tell nothing more (fastai's bound)."""

_SMOOTHING = 0.9  # decay of the mean of the losses
_SURE = 3 * math.sqrt((1 - _SMOOTHING) / (1 + _SMOOTHING))  # smoothing takes so much of the noise; three deviations
_BEGIN = 10  # steps whose mean is where the loss begins


@dataclass(frozen=True)
class Found:
    """What the steps showed.

    Attributes:
        rates: of the steps.
        losses, smooth: their losses, as they were and smoothed.
        suggestion: a tenth of the rate at which the smoothed loss is lowest; None where it never fell clearly.
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    suggestion: float | None

    def describe(self) -> str:
        """The suggestion in a sentence."""
        if self.suggestion is None:
            return "Nothing can be suggested: at no rate did the loss fall by more than chance would move it."
        return (
            f"Try lr = {self.suggestion:g}: a tenth of the rate at which the loss was lowest. It is a place to begin, "
            "found in steps at the very start of training."
        )


def find_rate(config: TrainConfig, store: FaceStore, folder: Path, progress: Progress = silent) -> Found:
    """Take steps with a rate that rises from LOWEST to HIGHEST until the loss diverges (arXiv 1506.01186, 3.3).

    The weights are thrown away; the run, the store and the global random state stay as they are.

    Args:
        folder: of the run, beside which lies an earlier one that it may start from.

    Raises:
        InputError: the config cannot be used with these faces, or the network cannot be built.
    """
    check(config, store)
    found = Found([], [], [], None)
    with _same_draws_afterwards(), loading():
        training = build(config, store, folder)
        first = training.step = config.schedule.head_epochs * training.faces.steps  # where the backbone learns too
        training.rates = _Rising(training.optimizer, first)  # type: ignore[assignment]
        with computing_with(cpu_threads(training.device)):
            for batch in islice(_batches(training), STEPS):
                training.loss_sums.zero_()
                train_step(training, batch)
                training.guard.check()
                loss = training.objective.means("train", training.loss_sums)["train_loss"]
                if not math.isfinite(loss) or not _taken(found, _rate(batch.step - first), loss):
                    break
                progress(len(found.losses), STEPS)
    progress(STEPS, STEPS)
    return replace(found, suggestion=_suggestion(found))


def _taken(found: Found, rate: float, loss: float) -> bool:
    """Add a step, with the mean of the losses so far whose weights fall by _SMOOTHING; returns whether to go on."""
    count = len(found.losses)
    share = (1 - _SMOOTHING) / (1 - _SMOOTHING ** (count + 1))
    smooth = loss if not count else found.smooth[-1] + share * (loss - found.smooth[-1])
    for values, value in ((found.rates, rate), (found.losses, loss), (found.smooth, smooth)):
        values.append(value)
    return smooth <= DIVERGED * min(found.smooth)


def _suggestion(found: Found) -> float | None:
    """A tenth of the rate of the lowest smoothed loss (fastai's "minimum" rule, arXiv 2002.04688), two digits of it.

    None where the smoothed loss did not fall further than chance alone would move it.
    """
    smooth, losses = np.array(found.smooth), np.array(found.losses)
    if len(smooth) < _BEGIN or not (lowest := int(smooth.argmin())):
        return None
    noise = _SURE * (losses - smooth)[: lowest + 1].std()
    fell = smooth[min(_BEGIN, lowest)] - smooth[lowest]
    return float(f"{found.rates[lowest] / 10:.2g}") if fell > noise else None


def _rate(step: int) -> float:
    return LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))


class _Rising:
    """Stands in for the schedule of :class:`Training`."""

    def __init__(self, optimizer: torch.optim.Optimizer, first: int):
        self._optimizer, self._first = optimizer, first

    def step_update(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = _rate(step - self._first) * group["lr_scale"]


def _batches(training: Training) -> Iterator[Batch]:
    """Batches without end, of the size that training begins with."""
    while True:
        yield from training.batches(training.size_of(0))


@contextmanager
def _same_draws_afterwards() -> Iterator[None]:
    """Leave the global random state as it was."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
