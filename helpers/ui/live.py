"""Views that are drawn again while a cell works."""

from __future__ import annotations

import time

from IPython.display import display
from tqdm.auto import tqdm

from helpers import plots
from helpers.config import InputError
from helpers.session.progress import bar
from helpers.session.workspace import Workspace
from helpers.training.board import Board
from helpers.training.run import Run

SAVE_EVERY = 600.0
"""Seconds between copies of a running training to the archive."""


class LiveTraining:
    """Step bar, curves and the lines of the log; hang its methods on :func:`helpers.training.fit.fit`.

    Args:
        workspace: its archive gets a copy of the run now and then, so that a lost machine costs minutes.
        board: whether the epochs are written for TensorBoard too.
    """

    def __init__(self, workspace: Workspace, board: bool = False):
        self.on_step = bar("Training")
        self.on_log = tqdm.write
        self._board = Board() if board else None
        self._workspace = workspace
        self._shown = None
        self._saved = time.monotonic()

    def finish(self, run: Run) -> None:
        """Keep what there is of a run that has ended, or had ended before."""
        if self._board:
            self._board.finish(run)
        self._workspace.save(run.folder)

    def on_epoch(self, run: Run) -> None:
        """Draw the curves again in place."""
        picture = plots.curves(run.history, f"Run {run.folder.name}{' (drawn faces)' if run.manifest['drawn'] else ''}")
        if self._shown is None:
            self._shown = display(picture, display_id=True)
        else:
            self._shown.update(picture)
        if self._board:
            self._board.on_epoch(run)
        if time.monotonic() - self._saved > SAVE_EVERY:
            try:
                self._workspace.save(run.folder)
            except InputError as error:  # the run itself is safe on this machine: training goes on
                tqdm.write(f"warning: {error}")
            self._saved = time.monotonic()
