"""How long a run will take: twenty real steps at each size of face, before the long run starts."""

import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from helpers.config import TrainConfig
from helpers.data.store import FaceStore
from helpers.data.workers import loading
from helpers.files import InputError
from helpers.runs.run import Run
from helpers.session.gpu import read_gpus, units_per_hour
from helpers.session.progress import Progress, duration, silent
from helpers.session.runtime import place
from helpers.training.loop import train_step
from helpers.training.predict import predict
from helpers.training.processes import begin_peak_memory, computing_with, cpu_threads, peak_memory
from helpers.training.schedule import size_at
from helpers.training.session import check
from helpers.training.state import Training, build

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
        memory: the most that was used, in words.
    """

    config: TrainConfig
    steps: int
    seconds_per_step: dict[int, float]
    seconds_between: float
    gpu: str = ""
    memory: str = ""

    def seconds(self, first_epoch: int = 0, epochs: int | None = None) -> float:
        """Seconds from an epoch, counted from 0, to the last one of the config, or of as many ``epochs``."""
        config = self.config if epochs is None else self.config.replace(epochs=epochs)
        total = 0.0
        for epoch in range(first_epoch, config.schedule.epochs):
            size = size_at(epoch, config.model.img_size, config.schedule)
            _, step = min((abs(tried - size), seconds) for tried, seconds in self.seconds_per_step.items())
            total += self.steps * step + self.seconds_between
        return total

    def describe(self, first_epoch: int = 0) -> str:
        """Time and compute units of what is left, in a sentence."""
        epochs = self.config.schedule.epochs
        minutes = self.seconds(first_epoch) / 60
        speed = self.config.data.batch_size / (self.seconds() / epochs / self.steps)
        text = f"{epochs - first_epoch} epochs will take about {duration(60 * minutes)} at most "
        text += f"({speed:,.0f} faces/s, measuring included){f', with {self.memory}' if self.memory else ''}"
        if place() == "colab" and (units := units_per_hour(self.gpu)):
            text += f", about {minutes / 60 * units:.1f} compute units"
        return f"{text}; early stopping may end it sooner."


def estimate(config: TrainConfig, store: FaceStore, folder: Path, progress: Progress = silent) -> str:
    """What is left of the run in ``folder``, which need not be there, in a sentence.

    Raises:
        InputError: training would refuse it, for the config, the faces or the run that is there.
    """
    run, reached = Run.resumed(folder, config, store), dict[str, Any]()
    if run:
        with suppress(InputError):  # where they are damaged, training writes them anew
            reached = run.read_results()
    if reached.get("finished"):
        return "The run is complete."
    found = probe(config, store, progress).describe(reached.get("epochs", 0))
    gpus = len(read_gpus())
    return f"{found} That is on one of {gpus} GPUs; together they are faster." if gpus > 1 else found


def probe(config: TrainConfig, store: FaceStore, progress: Progress = silent) -> Estimate:
    """Take some steps of a run at each of its sizes, with its loader, on weights that are thrown away.

    Raises:
        InputError: the faces are too few, or the network cannot be built.
    """
    check(config, store)
    training = build(config, store, fetch_weights=False)
    begin_peak_memory()
    sizes = sorted({training.size_of(epoch) for epoch in range(config.schedule.epochs)})
    seconds, each = {}, _WARM_UP + STEPS
    with computing_with(cpu_threads(training.device)), loading():
        for number, size in enumerate(sizes):
            training.step = config.schedule.head_epochs * training.faces.steps  # where the backbone learns too
            times = [_now(training.device)]
            for batch in islice(training.batches(size), each):
                train_step(training, batch)
                training.guard.check()
                times.append(_now(training.device))
                progress(number * each + len(times) - 1, len(sizes) * each)
                if len(times) > 3 and times[-1] - times[0] > ENOUGH:
                    break
            seconds[size] = _usual(np.diff(times))
        between = _measuring(training)
    progress(len(sizes) * each, len(sizes) * each)
    gpu = next((gpu.name for gpu in read_gpus()), "")
    return Estimate(config, training.faces.steps, seconds, between, gpu, peak_memory())


def _usual(steps: np.ndarray) -> float:
    """The mean time of a step without the first ones and the slowest tenth, which are the machine's hiccups."""
    steady = np.sort(steps[min(_WARM_UP, len(steps) // 2) :])
    return float(steady[: max(1, len(steady) - len(steady) // 10)].mean())


def _measuring(training: Training) -> float:
    """Seconds for measuring an epoch, scaled from some of its rows."""
    faces, rows = training.faces, training.faces.validation
    part = rows[:: max(1, len(rows) // _PREDICTED)]
    predict(training.measured, faces.store, part[:128])  # the first call is slower
    start = time.perf_counter()
    predict(training.measured, faces.store, part, workers=training.config.data.workers)
    return (time.perf_counter() - start) * (len(rows) + len(faces.sample)) / len(part)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
