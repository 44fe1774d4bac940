"""A run under way: how far it is, what it has learned, and what is written of it when."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import torch
from accelerate import Accelerator

from helpers.config import InputError, TrainConfig
from helpers.data.loaders import EpochSampler, draw_plan, train_loader
from helpers.data.store import FaceStore
from helpers.session.progress import Progress, silent
from helpers.training import checkpoints
from helpers.training.epochs import describe, gap_advice, judge, measure_epoch
from helpers.training.learner import Learner, agreed
from helpers.training.losses import class_weights
from helpers.training.model import FaceModel, parameter_counts
from helpers.training.run import Run
from helpers.training.schedule import size_at
from helpers.training.watch import EVERY

HISTORY_SAMPLE_ROWS = 500
"""Fixed training rows per task, without augmentation, behind the training curves of each epoch."""

SAVE_EVERY = 300.0
"""Seconds between two checkpoints within an epoch: so much is lost when a machine goes."""

_KEPT: list[Learner] = []
"""Learners of several processes, kept until the process ends.

Freed at once, gloo's destructor waits for its thread while that waits for the interpreter's lock to free the last
message: seen as a hang with torch 2.11.
"""


@dataclass
class Hooks:
    """What is called while training goes on; notebooks and the command line hang their displays on it.

    Attributes:
        on_step: called as ``(step, steps of all epochs)`` after each step.
        on_epoch: called with the run after each epoch, its history and checkpoints written.
        on_save: called with the run after each checkpoint, within an epoch too.
        on_log: called with each line that goes to ``train.log``: the start, every epoch, a stop.
    """

    on_step: Progress = silent
    on_epoch: Callable[[Run], None] = lambda run: None
    on_save: Callable[[Run], None] = lambda run: None
    on_log: Callable[[str], None] = lambda line: None


class Trainer:
    """A run under way: its learner, how far it is, and what is not written yet.

    Args:
        config: what is trained.
        store: the faces.
        run: the run's folder, opened; what its last checkpoint holds is loaded.
        model: a new network for it.
        accelerator: device, processes and precision.
        hooks: what is called meanwhile.
        save_every: seconds between two checkpoints within an epoch.

    Attributes:
        learner: the network and all that changes with it.
        steps: of an epoch.
        state: what a checkpoint holds besides the learner's: ``step`` (how many are done), ``seconds``, and of the
            choice of the best epoch ``best``, ``mark`` and ``stale`` (see :func:`helpers.training.epochs.judge`).
        stopped: whether the user asked to stop.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: FaceStore,
        run: Run,
        model: FaceModel,
        accelerator: Accelerator,
        hooks: Hooks,
        save_every: float,
    ):
        self.config, self.store, self.run, self.accelerator = config, store, run, accelerator
        self.hooks, self.save_every, self.stopped = hooks, save_every, False
        self.rows, self.validation = store.rows("train"), store.rows("validation")
        self.sample = store.fixed_sample("train", HISTORY_SAMPLE_ROWS)
        self.steps = EpochSampler(self.rows, config.batch_size, config.seed).steps_per_epoch
        weights = class_weights(store.labels("emotion")[self.rows], config.class_weights)
        self.learner = Learner(config, model, self.steps, accelerator, weights, run.log)
        self._restore()
        self._best: dict | None = None  # weights of the best epoch that are not on the disk yet
        self._unsaved: str | None = None
        self._first, self._opened = self.state["step"], time.monotonic()
        self._clock = self._saved = time.monotonic()
        parameters, trainable = parameter_counts(model)
        self._about = {"parameters": parameters, "trainable_parameters": trainable}
        self._about |= {"training_faces": len(self.rows), "validation_faces": len(self.validation)}
        self._say_hello(parameters, trainable)

    def _say_hello(self, parameters: int, trainable: int) -> None:
        config, accelerator, run = self.config, self.accelerator, self.run
        precision = {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}[accelerator.mixed_precision]
        together = f" in {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
        run.log(
            f"{'go on at' if self._first else 'start with'} step {self._first} of {self.steps * config.epochs} on "
            f"{accelerator.device}{together} in {precision}; {config.backbone} with {parameters:,} parameters, "
            f"{trainable:,} of them trainable; {len(self.rows)} training and {len(self.validation)} validation faces"
        )
        kept = self.store.manifest["knobs"]["max_side"]
        if config.img_size > kept:
            run.log(
                f"faces are stored with {kept} pixels a side at most, and enlarged to img_size = {config.img_size}; to "
                f"use what the files hold, pack them again with max_side = {config.img_size}"
            )

    def _restore(self) -> None:
        """Go on from the last checkpoint, which the main process reads for all, or begin."""
        saved = None
        if self.run.writes and checkpoints.exists(self.run.last_path):
            saved = checkpoints.load_checkpoint(self.run.last_path, self.run.log)
        saved = agreed(self.accelerator, saved)
        self.state = {"step": 0, "seconds": 0.0, "best": None, "mark": -math.inf, "stale": 0}
        if saved:
            if "learner" not in saved:
                raise InputError(
                    f"The checkpoints of {self.run.folder} were written by another version of this project; start a "
                    "run under another name."
                )
            with fitting(self.run):
                self.learner.load(saved.pop("learner"))
            if not self.run.writes:
                self.learner.sums.zero_()  # they are those of the process that wrote
            self.run.history, self.learner.watch.level = saved.pop("history"), saved.pop("level")
            self.state = saved
        else:
            self.run.history = []  # lines that no checkpoint goes on from
        if saved or self.run.history_path.exists():
            self.run.write_history()

    @property
    def over(self) -> bool:
        """Whether the epochs or the patience are used up."""
        return self.state["step"] // self.steps >= self.config.epochs or self.state["stale"] >= self.config.patience

    def late(self) -> bool:
        """Whether another epoch, as long as the last one, would end after the minutes of this session."""
        minutes, done = self.config.max_minutes, self.run.history
        if not minutes or self.state["step"] == self._first:  # one epoch at least, so that each session gets on
            return False
        last = done[-1]["minutes"] - (done[-2]["minutes"] if len(done) > 1 else 0.0)
        late = agreed(self.accelerator, (time.monotonic() - self._opened) / 60 + last > minutes)
        if late:
            self.run.log(f"{minutes:g} minutes are used up; start again to go on")
        return late

    def batches(self):
        """The batches of the epoch under way that are still to come."""
        self.learner.train()
        size = size_at(self.config, self.state["step"] // self.steps)
        share = {"rank": self.accelerator.process_index, "ranks": self.accelerator.num_processes}
        return train_loader(self.store, self.rows, self.config, self.state["step"], size, **share)

    def learn(self, batch) -> None:
        """Take one step, and write a checkpoint where it is time."""
        self.learner.step(batch, size_at(self.config, self.state["step"] // self.steps))
        self.state["step"] += 1
        if self.run.writes:
            self.hooks.on_step(self.state["step"], self.steps * self.config.epochs)
        due = self.state["step"] % self.steps and time.monotonic() - self._saved > self.save_every
        # Nothing is saved unseen. Several processes look at the same steps, so the one that saves waits for those.
        if looked := self.learner.watch.full or (due and self.accelerator.num_processes == 1):
            self.look()
        if due and looked:
            self.save()

    def stops(self, stop) -> bool:
        """Whether the user asked to stop; several processes agree on it now and then, so that they stop together."""
        if self.accelerator.num_processes == 1:
            self.stopped = bool(stop)
        elif self.state["step"] % EVERY == 0:
            asked = torch.tensor(float(bool(stop)), device=self.accelerator.device)
            self.stopped = bool(self.accelerator.reduce(asked, "sum") > 0)
        return self.stopped

    def look(self) -> None:
        """Raise an InputError where the loss or the gradient went wrong since the last look."""
        together = None if self.accelerator.num_processes == 1 else lambda kept: self.accelerator.reduce(kept, "sum")
        wrong = self.learner.watch.look(together) if together else self.learner.watch.look()
        if wrong is None:
            return
        step, what = wrong
        sampler = EpochSampler(
            self.rows, self.config.batch_size, self.config.seed, step, draw_plan(self.store, self.rows, self.config)
        )
        names = self.store.table.column("name").take(next(iter(sampler))[1][:3]).to_pylist()
        kept = checkpoints.exists(self.run.last_path)
        message = (
            f"In step {step}, whose batch begins with {', '.join(names)}, {what}; "
            f"{'the last good checkpoint is kept' if kept else 'nothing was written'}: lower the learning rate (lr = "
            f"{self.config.lr:g}) and start a run under another name."
        )
        self.run.log(message)
        raise InputError(message)

    def finish_epoch(self) -> None:
        """Measure the epoch, choose the best, write everything and tell of it."""
        self.look()
        row = None
        if self.accelerator.num_processes > 1:
            self.learner.sums.copy_(self.accelerator.reduce(self.learner.sums, "sum"))
        if self.run.writes:
            sets = {"train": self.sample, "val": self.validation}
            row = measure_epoch(self.config, self.learner, self.store, sets)
            row |= {"step": self.state["step"], "lr": self.learner.rate}
            row |= {"size": size_at(self.config, self.state["step"] // self.steps - 1)}
        self._tick()
        row = {"epoch": len(self.run.history) + 1, "minutes": self.state["seconds"] / 60} | agreed(
            self.accelerator, row
        )
        row["best"] = judge(self.config, self.state, row)
        self.run.history.append(row)
        self.learner.sums.zero_()
        if row["best"]:
            weights = {name: value.cpu().clone() for name, value in self.learner.measured.state_dict().items()}
            self._best = {"model": weights, "epoch": row["epoch"]}
        self.save()
        self.run.log(describe(row))
        if advice := gap_advice(self.run.history, self.config):
            self.run.log(advice)
        if self.run.writes:
            self.hooks.on_epoch(self.run)

    def save(self) -> None:
        """Write the best weights, the last checkpoint, the history and the results, in this order.

        A kill in between repeats what came after the checkpoint before, with the same draws and so the same result.
        Where something cannot be written training goes on, and it is tried again with the next checkpoint.
        """
        self._tick()
        self._saved = time.monotonic()
        if not self.run.writes:
            return
        try:
            if self._best:
                checkpoints.save_checkpoint(self.run.best_path, self._best)
                self._best = None
            state = self.state | {"learner": self.learner.state(), "history": self.run.history}
            state["level"] = self.learner.watch.level
            checkpoints.save_checkpoint(self.run.last_path, state)
            self.run.write_history()
            self.run.write_results(minutes=self.state["seconds"] / 60, finished=self.over, **self._about)
        except (OSError, InputError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._unsaved = f"the checkpoint of step {self.state['step']} could not be written ({reason})"
            self.run.log(f"{self._unsaved}; free some space: training goes on and tries again")
            return
        self._unsaved = None
        self.hooks.on_save(self.run)

    def close(self) -> None:
        """Try once more to write what could not be written.

        Raises:
            InputError: it still cannot be.
        """
        if self._unsaved:
            self.save()
        if self._unsaved:
            raise InputError(f"At the end, {self._unsaved}; free some space in {self.run.folder} and run this again.")
        if self.accelerator.num_processes > 1:
            self.accelerator.wait_for_everyone()
            self.accelerator.end_training()
            _KEPT.append(self.learner)

    def _tick(self) -> None:
        """Count the time that went by since the last call."""
        now = time.monotonic()
        self.state["seconds"] += now - self._clock
        self._clock = now


@contextmanager
def fitting(run: Run):
    """Where weights of a checkpoint are loaded: say so where this version of timm builds another network."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The checkpoints of {run.folder} do not fit the network that timm {version('timm')} builds; the run was "
            f"started with timm {run.manifest['libraries']['timm']}: install that version."
        ) from error
