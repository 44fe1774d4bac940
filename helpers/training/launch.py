"""Training on all GPUs of a machine from a notebook, as Kaggle's two T4 ask for."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from accelerate import notebook_launcher
from accelerate.state import AcceleratorState
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from helpers.config import InputError, TrainConfig
from helpers.data.store import FaceStore
from helpers.session.progress import bar
from helpers.training.estimate import Estimate, probe
from helpers.training.fit import fit
from helpers.training.run import Run


def fit_in_processes(config: TrainConfig, store: FaceStore, folder: Path, processes: int) -> Run:
    """Train like :func:`helpers.training.fit.fit` in several processes, one for each GPU; prints the log and a bar.

    The processes fork from this one, which must not have touched a GPU before.

    Raises:
        InputError: a process could not go on; the log has printed why.
    """
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # left by a run in this process, and refused by the launcher
    try:
        notebook_launcher(_fit, (config, store.folder, folder), num_processes=processes)
    except (RuntimeError, ChildFailedError) as error:
        raise InputError(
            f"Training in {processes} processes ended early; the reason stands above. Restart the kernel before "
            "you try again: the GPUs must not have been used in it."
        ) from error
    return Run.open(folder)


def _fit(config: TrainConfig, faces: Path, folder: Path) -> None:
    try:
        fit(config, FaceStore.open(faces), folder, on_step=bar("Training"), on_log=lambda line: print(line, flush=True))
    except InputError as error:
        print(f"error: {error}", flush=True)  # what the launcher makes of it is a page of its own stack
        raise


def probe_elsewhere(config: TrainConfig, store: FaceStore) -> Estimate:
    """The estimate of one GPU's time, taken in a process of its own so that this one does not touch the GPU."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(probe, config, store).result()
