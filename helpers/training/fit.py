"""The training loop."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from helpers.config import TASKS, InputError, TrainConfig
from helpers.data.augment import techniques
from helpers.data.loaders import draw_plan
from helpers.data.store import FaceStore
from helpers.training import checkpoints
from helpers.training.learner import computing_with, cpu_threads, make_accelerator
from helpers.training.model import FaceModel, create_model
from helpers.training.run import Run
from helpers.training.trainer import SAVE_EVERY, Hooks, Trainer, fitting


def fit(config: TrainConfig, store: FaceStore, folder: Path, *, save_every: float = SAVE_EVERY, **hooks) -> Run:
    """Train until the epochs, the minutes or the patience are used up, or go on with a run where it stopped.

    An interrupt (Ctrl-C, or a cell's stop button) or a file ``stop`` in the run's folder ends it after the current
    step; everything done is kept. Started in several processes, as ``accelerate launch`` does, they train together.

    Args:
        folder: the run's folder; made when it is not there.
        save_every: seconds between two checkpoints within an epoch.
        hooks: what is called meanwhile, by the names of :class:`Hooks`.

    Raises:
        InputError: the config cannot be used with these faces, the folder holds another run or is in use, the loss is
            no number any more, or what was learned cannot be written.
    """
    hooks = Hooks(**hooks)
    _check(config, store)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        torch.manual_seed(config.seed)
        model = create_model(config, fetch_weights=not checkpoints.exists(folder / Run.LAST))
        # Of several processes one writes; on several machines the others have no folder at all.
        run = Run.start(folder, config, store) if accelerator.is_main_process else Run(folder, config, {}, writes=False)
    run.echo = hooks.on_log
    with ExitStack() as stack:
        if run.writes:
            stack.enter_context(run.claim())
            config.save(folder / "config.json")
        stack.enter_context(computing_with(cpu_threads(accelerator.device)))
        stop = stack.enter_context(_stop_request(run))
        trainer = Trainer(config, store, run, model, accelerator, hooks, save_every)
        while not (trainer.over or trainer.late()):
            for batch in trainer.batches():
                trainer.learn(batch)
                if trainer.stops(stop):
                    break
            if trainer.state["step"] % trainer.steps == 0:
                trainer.finish_epoch()
            if trainer.stopped:
                trainer.look()
                trainer.save()
                run.log(f"stopped by the user at step {trainer.state['step']}; start again to go on")
                break
        trainer.close()
    return run


def load_best(run: Run) -> FaceModel:
    """The model of the best epoch, in evaluation mode.

    Raises:
        InputError: no epoch is complete, or the checkpoint is damaged.
    """
    model = create_model(run.config, fetch_weights=False)
    best = checkpoints.load_checkpoint(run.best_path, run.log)
    told = max((row["epoch"] for row in run.history if row["best"]), default=None)
    before = checkpoints.previous(run.best_path)
    if best["epoch"] != told and before.exists():  # a kill came between this file and the history
        older = checkpoints.load_checkpoint(before, run.log)
        best = older if older["epoch"] == told else best
    if told and best["epoch"] != told:
        run.log(f"the weights of epoch {told}, the best, are gone; those of epoch {best['epoch']} are used")
    with fitting(run):
        model.load_state_dict(best["model"])
    return model.eval()


def _check(config: TrainConfig, store: FaceStore) -> None:
    """Refuse what could not be trained, before anything is written: techniques, rows, the measure of the best epoch."""
    techniques(config.augment_without)
    draw_plan(store, store.rows("train"), config)
    for split in ("train", "validation"):
        if len(store.rows(split)) < 2:
            raise InputError(f"The store {store.folder} has fewer than 2 {split} faces; pack a larger dataset.")
    task = config.select_by.partition("_")[0]
    if task in TASKS and not store.known(task)[store.rows("validation")].any():
        raise InputError(
            f"The field 'select_by' is {config.select_by!r}, but no validation face carries that label; "
            "choose another measure or add a dataset."
        )


class _Stop:
    """True once the user has interrupted, or the run's stop file is there; the file is taken away."""

    def __init__(self, run: Run):
        self._run, self.interrupted = run, False

    def __bool__(self) -> bool:
        if os.path.exists(self._run.stop_path):
            self._run.stop_path.unlink(missing_ok=True)
            self.interrupted = True
        return self.interrupted


@contextmanager
def _stop_request(run: Run):
    """A stop that turns true when the user interrupts: the step under way is finished first, so nothing is torn.

    A second interrupt acts at once. Signals reach the main thread only; elsewhere the interrupt stays as it is.
    """
    run.stop_path.unlink(missing_ok=True)  # meant for a session that is no more
    stop = _Stop(run)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number, frame):
        stop.interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
