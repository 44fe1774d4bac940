"""What happens around the loop: the run's folder, checkpoints, the log, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.config import TrainConfig
from helpers.data.augment import techniques
from helpers.data.loaders import EpochSampler
from helpers.data.store import FaceStore
from helpers.data.workers import loading
from helpers.files import InputError, remove
from helpers.runs import checkpoints
from helpers.runs.run import Run
from helpers.session.gpu import Gpu, read_gpus
from helpers.session.progress import Progress, silent
from helpers.tasks import TASKS
from helpers.training.loss_guard import EVERY
from helpers.training.messages import describe_epoch, describe_start, gap_advice
from helpers.training.model import parameter_counts
from helpers.training.processes import agreed, any_of, computing_with, cpu_threads, end
from helpers.training.state import Training, build
from helpers.training.stopping import StopRequest

SAVE_EVERY = 300.0
"""Seconds between two checkpoints within an epoch: so much is lost when a machine goes."""


@dataclass
class Hooks:
    """What is called while training goes on; notebooks and the command line hang their displays on it.

    Attributes:
        on_open: called with the run when it is open, with what it has of a history.
        on_step: called as ``(step, steps of all epochs)`` after each step.
        on_epoch: called with the run after each epoch, its history and checkpoints written.
        on_save: called with the run after each checkpoint, within an epoch too.
        on_log: called with each line that goes to ``train.log``: the start, every epoch, a stop.
        on_close: called with the run at the end of the session, however it ends.
    """

    on_open: Callable[[Run], None] = lambda run: None
    on_step: Progress = silent
    on_epoch: Callable[[Run], None] = lambda run: None
    on_save: Callable[[Run], None] = lambda run: None
    on_log: Callable[[str], None] = lambda line: None
    on_close: Callable[[Run], None] = lambda run: None


@contextmanager
def training_session(
    config: TrainConfig, store: FaceStore, folder: Path, *, save_every: float = SAVE_EVERY, **hooks
) -> Iterator[TrainingSession]:
    """Open a run to train it, or to go on with it, and leave it written.

    Args:
        folder: the run's folder; made when it is not there.
        save_every: seconds between two checkpoints within an epoch.
        hooks: what is called meanwhile, by the names of :class:`Hooks`.

    Raises:
        InputError: the config cannot be used with these faces, the folder holds another run or is in use, the loss is
            no number any more, or what was learned cannot be written.
    """
    called = Hooks(**hooks)
    remove(folder / Run.STOP)  # meant for a session that is no more; from here on it is for this one
    check(config, store)
    training = build(config, store, folder, fetch_weights=not checkpoints.exists(folder / Run.LAST))
    # Of several processes one writes; on several machines the others have no folder at all.
    main = training.accelerator.is_main_process
    run = Run.start(folder, config, store) if main else Run(folder, config, {}, writes=False)
    run.echo, training.log = called.on_log, run.log
    with ExitStack() as stack:
        if run.writes:
            stack.enter_context(run.claim())
            config.save(folder / "config.json")
            stack.callback(called.on_close, run)
        stack.enter_context(computing_with(cpu_threads(training.device, training.accelerator.num_processes)))
        session = TrainingSession(training, run, called, stack.enter_context(StopRequest(run)), save_every)
        stack.enter_context(loading())
        yield session
        session.close()


class TrainingSession:
    """A run that is open for training. The loop asks it whether to go on, and tells it of every step and epoch.

    Attributes:
        training: what is trained; where the run has a checkpoint, it goes on from that.
        run: the run's folder.
        stopped: whether the user asked to stop.
    """

    def __init__(self, training: Training, run: Run, hooks: Hooks, stop: StopRequest, save_every: float):
        self.training, self.run, self.stopped = training, run, False
        self._hooks, self._stop, self._save_every = hooks, stop, save_every
        self._best: dict | None = None  # weights of the best epoch that are not on the disk yet
        self._unsaved: str | None = None  # why the last checkpoint is not
        self._restore()
        self._first, self._opened = training.step, time.monotonic()
        self._clock = self._saved = time.monotonic()
        run.log(describe_start(training, run.manifest.get("grey", ())))
        if run.writes:
            hooks.on_open(run)

    def _restore(self) -> None:
        """Go on from the last checkpoint, which the main process reads for all, or begin."""
        training, run, saved = self.training, self.run, None
        if run.writes:
            saved = run.last_state()
        if saved := agreed(training.accelerator, saved):
            if saved.keys() != training.state_dict().keys():
                raise InputError(
                    f"The checkpoints of {run.folder} were written by another version of this project; start a run "
                    "under another name."
                )
            with run.fitting():
                training.load_state_dict(saved)
            if not run.writes:
                training.loss_sums.zero_()  # they are those of the process that wrote
        run.history = training.history  # without lines that no checkpoint goes on from
        self._tell()

    def goes_on(self) -> bool:
        """Whether another epoch is to be trained."""
        return not (self.stopped or self.training.finished or self._late())

    def _late(self) -> bool:
        """Whether another epoch, as long as the last one, would end after the minutes of this session."""
        minutes, done = self.training.config.run.max_minutes, self.training.history
        if not minutes or self.training.step == self._first:  # one epoch at least, so that each session gets on
            return False
        last = done[-1]["minutes"] - (done[-2]["minutes"] if len(done) > 1 else 0.0)
        if late := agreed(self.training.accelerator, (time.monotonic() - self._opened) / 60 + last > minutes):
            self.run.log(f"{minutes:g} minutes are used up; start again to go on")
        return late

    def after_step(self) -> bool:
        """Show the step, look at the losses and write a checkpoint where it is time; returns whether to stop.

        Several processes look at the same steps and stop together, so that none waits for another.
        """
        training, alone = self.training, self.training.accelerator.num_processes == 1
        if self.run.writes:
            self._hooks.on_step(training.step, training.faces.steps * training.config.schedule.epochs)
        due = time.monotonic() - self._saved > self._save_every and not training.epoch_is_complete
        # Nothing is saved unseen.
        if looked := training.guard.full or training.epoch_is_complete or (due and alone):
            self._check_losses()
        if due and looked:
            self._save()
        if alone or (training.step - self._first) % EVERY == 1:
            self.stopped = any_of(training.accelerator, bool(self._stop))
        return self.stopped

    def _check_losses(self) -> None:
        """Raise an InputError where the loss or the gradient went wrong since the last look."""
        training, accelerator = self.training, self.training.accelerator
        wrong = training.guard.check(lambda kept: accelerator.reduce(kept, "sum"))
        if wrong is None:
            return
        (step, what), config, faces = wrong, training.config, training.faces
        _, rows = next(iter(EpochSampler(faces.train, config.data.batch_size, config.run.seed, step)))
        names = faces.store.table.column("name").take(rows[:3]).to_pylist()
        raise self._hopeless(f"In step {step}, whose batch begins with {', '.join(names)}, {what}")

    def _hopeless(self, what: str) -> InputError:
        """The sentence that ends a run which has gone wrong, written to the log too."""
        kept = checkpoints.exists(self.run.last_path)
        message = (
            f"{what}; {'the last good checkpoint is kept' if kept else 'nothing was written'}: lower the learning rate "
            f"(lr = {self.training.config.optimiser.lr:g}) and start a run under another name."
        )
        self.run.log(message)
        return InputError(message)

    def after_epoch(self, row: dict) -> None:
        """Take in an epoch's measures: choose the best, write everything and tell of it."""
        training = self.training
        self._tick()
        hottest = max(read_gpus(), key=lambda gpu: gpu.temperature or 0, default=Gpu("", 0.0))
        row = {"epoch": len(training.history) + 1, "minutes": training.seconds / 60} | row
        row |= {"gpu_temperature": hottest.temperature, "gpu_slowed_by": hottest.slowed_by}
        row["best"] = training.early_stopping.update(row)
        training.history.append(row)
        training.loss_sums.zero_()
        if row["best"]:
            weights = {name: value.cpu().clone() for name, value in training.measured.state_dict().items()}
            self._best = {"model": weights, "epoch": row["epoch"]}
        self._save()
        self.run.log(describe_epoch(row))
        if advice := gap_advice(training.history, training.config):
            self.run.log(advice)
        if self.run.writes:
            self._hooks.on_epoch(self.run)

    def _save(self) -> None:
        """Write the best weights, the last checkpoint, the history and the results, in this order.

        A kill in between repeats what came after the checkpoint before, with the same draws and so the same result.
        Where something cannot be written training goes on, and it is tried again with the next checkpoint.
        """
        training, run = self.training, self.run
        self._tick()
        self._saved = time.monotonic()
        for weights in (training.model, training.measured):
            if name := checkpoints.not_finite(weights.state_dict()):
                raise self._hopeless(f"After step {training.step} the weights hold what is no finite number ({name})")
        if not run.writes:
            return
        try:
            if self._best:
                checkpoints.save_checkpoint(run.best_path, self._best)
                self._best = None
            checkpoints.save_checkpoint(run.last_path, training.state_dict())
            self._tell()
        except InputError as error:
            self._unsaved = str(error).rstrip(".")
            run.log(f"{self._unsaved}; meanwhile training goes on and tries again")
            return
        self._unsaved = None
        self._hooks.on_save(run)

    def _tell(self) -> None:
        """Write the history and the results."""
        training = self.training
        parameters, trainable = parameter_counts(training.model)
        counts = {"training_faces": len(training.faces.train), "validation_faces": len(training.faces.validation)}
        counts |= {"parameters": parameters, "trainable_parameters": trainable}
        self.run.write_history(step=training.step, minutes=training.seconds / 60, finished=training.finished, **counts)

    def close(self) -> None:
        """Write what a stop has left unwritten, and try once more what could not be written.

        Raises:
            InputError: it still cannot be, or the last losses went wrong.
        """
        if self.stopped:
            self._check_losses()
            self._save()
            self.run.log(f"stopped by the user at step {self.training.step}; start again to go on")
        if self._unsaved:
            self._save()
        if self._unsaved:
            raise InputError(f"At the end, {self._unsaved}.")
        end(self.training.accelerator, self.training)

    def _tick(self) -> None:
        """Count the time that went by since the last call."""
        now = time.monotonic()
        self.training.seconds += now - self._clock
        self._clock = now


def check(config: TrainConfig, store: FaceStore) -> None:
    """Refuse what could not be trained, before anything is written: techniques, too few faces, one class alone.

    Raises:
        InputError: says what there is, and what is needed.
    """
    techniques(config.augmentation.augment_without)
    train, validation = (store.faces.iloc[store.rows(split)] for split in ("train", "validation"))
    different = train["sha"].nunique(), validation["sha"].nunique()
    if min(different) < 2:
        raise InputError(
            f"The store {store.folder} has {different[0]} training and {different[1]} validation faces that differ, "
            "but needs 2 of each at least; pack more faces: of 40, about 4 are for validation."
        )
    judged = [task for task in TASKS.values() if config.run.select_by in (task.key, "loss")]
    for task in judged:
        if config.run.select_by == task.key and not task.known(task.read(validation)).any():
            raise InputError(
                f"The field 'select_by' is {task.key!r}, but no validation face carries that label; choose another "
                "measure or add a dataset."
            )
    labels = [(task, found[task.known(found)]) for task in judged if len(found := task.read(train))]
    if all(len(np.unique(found, axis=0)) < 2 for _, found in labels):
        only = ", ".join(f"{task.name} {task.describe(found[0])}" for task, found in labels if len(found))
        raise InputError(
            f"The training faces of {store.folder} have one class only ({only or 'no label'}), so 100 % would mean "
            "nothing; add faces of another class, or choose another measure in 'select_by'."
        )
