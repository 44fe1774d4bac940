"""Training on all GPUs of a machine from a notebook, as Kaggle's two T4 ask for."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch
from accelerate import notebook_launcher
from accelerate.state import AcceleratorState
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from helpers.config import InputError, TrainConfig
from helpers.data.store import FaceStore
from helpers.session.progress import EpochBars
from helpers.training.estimate import Estimate, probe
from helpers.training.fit import fit
from helpers.training.run import Run


def fit_in_processes(config: TrainConfig, store: FaceStore, folder: Path, processes: int) -> Run:
    """Train like :func:`helpers.training.fit.fit` in several processes, one for each GPU; prints the log and bars.

    The processes fork from this one, which must not have touched a GPU before. An interrupt asks them to stop together,
    by the run's stop file.

    Raises:
        InputError: a process could not go on; the log has printed why.
    """
    # What a run in this process may have left is refused by the launcher.
    AcceleratorState._reset_state(reset_partial_state=True)
    failed: list[Exception] = []
    done = threading.Event()  # a join that is interrupted takes the thread for ended

    def launch() -> None:
        try:
            notebook_launcher(_fit, (config, store.folder, folder), num_processes=processes)
        except (RuntimeError, ChildFailedError) as error:
            failed.append(error)
        finally:
            done.set()

    # In the main thread the launcher would take the interrupt itself, and end the processes in the middle of a step.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)  # it warns of just that
    threading.Thread(target=launch).start()
    while not done.is_set():
        try:
            done.wait()
        except KeyboardInterrupt:
            (folder / Run.STOP).touch()
    if failed:
        raise InputError(
            f"Training in {processes} processes ended early; the reason stands above. Restart the kernel before you "
            "try again: the GPUs must not have been used in it."
        ) from failed[0]
    return Run.open(folder)


def _fit(config: TrainConfig, faces: Path, folder: Path) -> None:
    torch.set_num_threads(1)  # the threads of the process that it forked from are not there any more
    bars = EpochBars(config.epochs, plain=True)
    try:
        fit(config, FaceStore.open(faces), folder, on_step=bars, on_log=lambda line: print(line, flush=True))
    except InputError as error:
        print(f"error: {error}", flush=True)  # what the launcher makes of it is a page of its own stack
        raise


def probe_elsewhere(config: TrainConfig, store: FaceStore) -> Estimate:
    """The estimate of one GPU's time, taken in a process of its own so that this one does not touch the GPU.

    Raises:
        InputError: the network cannot be built, or the process ended without an answer.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(probe, config, store).result()
    except BrokenProcessPool as error:
        raise InputError(
            "The process that tries out some steps ended without an answer, most often for want of memory; close what "
            "else runs on this machine, or skip this cell."
        ) from error
