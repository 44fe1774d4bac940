"""How long a run will take: twenty real steps at each size of face, before the long run starts."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from helpers.config import TrainConfig
from helpers.data.loaders import EpochSampler, train_loader
from helpers.data.store import FaceStore
from helpers.session.gpu import UNIT_PRICE, offer_of, read_gpus
from helpers.session.progress import Progress, silent
from helpers.session.runtime import place
from helpers.training.learner import Learner, computing_with, cpu_threads, make_accelerator
from helpers.training.losses import class_weights
from helpers.training.model import create_model
from helpers.training.predict import predict
from helpers.training.schedule import size_at
from helpers.training.trainer import HISTORY_SAMPLE_ROWS

STEPS = 20
"""Steps that are timed at each size."""

ENOUGH = 30.0
"""Seconds after which fewer steps at a size have to do."""

_WARM_UP = 6  # the first steps of a size are slower, and begin with batches that the loader had ready

_PREDICTED = 1024


@dataclass(frozen=True)
class Estimate:
    """What a run was found to take.

    Attributes:
        config: of the run.
        steps: of an epoch.
        seconds_per_step: size of face -> seconds.
        seconds_between: seconds for measuring after each epoch.
        gpu: name of the GPU, or nothing.
    """

    config: TrainConfig
    steps: int
    seconds_per_step: dict[int, float]
    seconds_between: float
    gpu: str = ""

    def seconds(self, first_epoch: int = 0, epochs: int | None = None) -> float:
        """Seconds from an epoch, counted from 0, to the last one of the config, or of as many ``epochs``."""
        config = self.config if epochs is None else replace(self.config, epochs=epochs)
        each = [self.steps * self._step(size_at(config, number)) for number in range(first_epoch, config.epochs)]
        return sum(each) + self.seconds_between * len(each)

    def _step(self, size: int) -> float:
        """Seconds of a step at a size, or at the nearest one that was tried."""
        return self.seconds_per_step[min(self.seconds_per_step, key=lambda tried: abs(tried - size))]

    def epochs_within(self, minutes: float) -> int:
        """The most epochs that fit into the minutes; one at least."""
        epochs = 1
        while epochs < 1000 and self.seconds(epochs=epochs + 1) <= 60 * minutes:
            epochs += 1
        return epochs

    def describe(self, first_epoch: int = 0) -> str:
        """Time and cost of what is left, in a sentence."""
        minutes, left = self.seconds(first_epoch) / 60, self.config.epochs - first_epoch
        speed = self.config.batch_size / (self.seconds() / self.config.epochs / self.steps)
        long = f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
        text = f"{left} epochs will take about {long} at most ({speed:,.0f} faces/s, measuring included)"
        offer = offer_of(self.gpu)
        if offer and offer.units and place() == "colab":
            units = minutes / 60 * offer.units
            text += f", about {units:.1f} compute units (${units * UNIT_PRICE:.2f})"
        return f"{text}; early stopping may end it sooner."


def probe(config: TrainConfig, store: FaceStore, progress: Progress = silent) -> Estimate:
    """Take some steps of a run at each of its sizes, with its loader, on weights that are thrown away.

    Uses the device, so a kernel that is to start processes for several GPUs must not call it itself.

    Raises:
        InputError: the network cannot be built.
    """
    rows = store.rows("train")
    steps = EpochSampler(rows, config.batch_size, config.seed).steps_per_epoch
    sizes = sorted({size_at(config, epoch) for epoch in range(config.epochs)})
    accelerator = make_accelerator(config)
    model = create_model(config, fetch_weights=False)
    weights = class_weights(store.labels("emotion")[rows], config.class_weights)
    learner = Learner(config, model, steps, accelerator, weights)
    seconds, each = {}, _WARM_UP + STEPS
    with computing_with(cpu_threads(accelerator.device)):
        for number, size in enumerate(sizes):
            learner.train()
            times = [_now(accelerator.device)]
            for batch in islice(train_loader(store, rows, config, first_step=0, size=size), each):
                learner.step(batch, size)
                learner.watch.look()
                times.append(_now(accelerator.device))
                progress(number * each + len(times) - 1, len(sizes) * each)
                if len(times) > 3 and times[-1] - times[0] > ENOUGH:
                    break
            seconds[size] = _usual(np.diff(times))
        between = _measuring(config, learner, store)
    progress(len(sizes) * each, len(sizes) * each)
    gpus = read_gpus()
    return Estimate(config, steps, seconds, between, gpus[0].name if gpus else "")


def _usual(steps: np.ndarray) -> float:
    """The mean time of a step without the first ones and the slowest tenth, which are the machine's hiccups."""
    steady = np.sort(steps[min(_WARM_UP, len(steps) // 2) :])
    return float(steady[: max(1, len(steady) - len(steady) // 10)].mean())


def _measuring(config: TrainConfig, learner: Learner, store: FaceStore) -> float:
    """Seconds for measuring an epoch, scaled from some of its rows."""
    rows = store.rows("validation")
    whole = len(rows) + len(store.fixed_sample("train", HISTORY_SAMPLE_ROWS))
    part = rows[:: max(1, len(rows) // _PREDICTED)]
    predict(learner.measured, store, part[:128])  # the first call is slower
    start = time.perf_counter()
    predict(learner.measured, store, part, workers=config.workers)
    return (time.perf_counter() - start) * whole / len(part)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
