"""Views that are drawn again while a cell works."""

from __future__ import annotations

import time

from IPython.display import display
from tqdm.auto import tqdm

from helpers import plots
from helpers.config import InputError, TrainConfig
from helpers.data.store import FaceStore
from helpers.session.gpu import read_gpus
from helpers.session.progress import EpochBars, bar
from helpers.session.workspace import Workspace
from helpers.training.board import Board
from helpers.training.estimate import probe
from helpers.training.fit import fit
from helpers.training.launch import fit_in_processes, probe_elsewhere
from helpers.training.run import Run

COPY_EVERY = 600.0
"""Seconds between copies of a running training to the archive."""


class LiveTraining:
    """A run in a notebook: how long it will take, bars, curves and the lines of the log while it does, and its copies.

    On several GPUs it is trained in one process for each, which cannot draw here: their log is printed instead.

    Args:
        config: what is trained.
        store: the faces.
        workspace: its archive gets a copy of the run now and then, so that a lost machine costs minutes.
        name: of the run.
        board: whether the epochs are written for TensorBoard too.
    """

    def __init__(self, config: TrainConfig, store: FaceStore, workspace: Workspace, name: str, board: bool = False):
        self._config, self._store, self._workspace = config, store, workspace
        self._folder, self._board = workspace.run(name), Board() if board else None
        self._gpus, self._shown, self._copied = len(read_gpus()), None, time.monotonic()

    def estimate(self) -> str:
        """Time and cost of what is left of the run, from steps that are tried out and thrown away."""
        done = len(Run.open(self._folder).history) if Run.exists(self._folder) else 0
        if done >= self._config.epochs:
            return "The run is complete."
        if self._gpus > 1:
            found = probe_elsewhere(self._config, self._store).describe(done)
            return f"{found} That is on one of {self._gpus} GPUs; together they are faster."
        return probe(self._config, self._store, bar("Trying out")).describe(done)

    def train(self) -> Run:
        """Train, or go on with the run where it stopped; returns it with what there is, stopped early or not."""
        if Run.exists(self._folder) and (run := Run.open(self._folder)).history:
            self._draw(run)
        try:
            if self._gpus > 1:
                run = fit_in_processes(self._config, self._store, self._folder, self._gpus)
            else:
                hooks = {"on_epoch": self._draw, "on_save": self._keep, "on_log": tqdm.write}
                run = fit(self._config, self._store, self._folder, on_step=EpochBars(self._config.epochs), **hooks)
            if self._board:
                self._board.finish(run)
        finally:  # what there is of it, when training ended with an error too
            if Run.exists(self._folder):
                self._copy(Run.open(self._folder))
        return run

    def _draw(self, run: Run) -> None:
        """Draw the curves again in place."""
        picture = plots.curves(run.history, f"Run {run.folder.name}{' (drawn faces)' if run.manifest['drawn'] else ''}")
        if self._shown is None:
            self._shown = display(picture, display_id=True)
        else:
            self._shown.update(picture)
        if self._board:
            self._board.on_epoch(run)

    def _keep(self, run: Run) -> None:
        if time.monotonic() - self._copied > COPY_EVERY:
            self._copy(run)

    def _copy(self, run: Run) -> None:
        """Copy the run to the archive; where that fails the run is safe on this machine, and the work goes on."""
        try:
            self._workspace.save(run.folder)
        except InputError as error:
            tqdm.write(f"WARNING: {error}")
        self._copied = time.monotonic()
