"""Views that are drawn again while a cell works."""

import time

from IPython.display import display
from tqdm.auto import tqdm

from helpers import plots
from helpers.config import TrainConfig
from helpers.files import InputError
from helpers.runs.run import Run
from helpers.runs.tensorboard import log_to_tensorboard
from helpers.session.progress import EpochBars
from helpers.session.workspace import Workspace

COPY_EVERY = 600.0
"""Seconds between copies of a running training to the archive."""


class LiveTraining:
    """What a notebook shows of a run under way: bars, curves and the lines of the log; and the copies it keeps.

    Args:
        config: what is trained.
        workspace: its archive gets a copy of the run now and then, so that a lost machine costs minutes.
        board: whether the epochs are written for TensorBoard too.

    Attributes:
        hooks: what :func:`helpers.training.session.training_session` calls.
    """

    def __init__(self, config: TrainConfig, workspace: Workspace, board: bool = False):
        self._workspace, self._board = workspace, board
        self._shown, self._copied = None, time.monotonic()
        self.hooks = {
            "on_open": self._draw, "on_step": EpochBars(config.schedule.epochs), "on_epoch": self._draw,
            "on_save": self._keep, "on_log": tqdm.write, "on_close": self.close,
        }  # fmt: skip

    def _draw(self, run: Run) -> None:
        """Draw the curves again in place."""
        if self._board:
            log_to_tensorboard(run)
        if not run.history:
            return
        picture = plots.curves(run.history, run.title)
        if self._shown is None:
            self._shown = display(picture, display_id=True)
        else:
            self._shown.update(picture)

    def _keep(self, run: Run) -> None:
        if time.monotonic() - self._copied > COPY_EVERY:
            self.close(run)

    def close(self, run: Run) -> None:
        """Copy what there is of the run to the archive, when training ended with an error too.

        Where that fails the run is safe on this machine, and the work goes on.
        """
        try:
            self._workspace.save(run.folder)
        except InputError as error:
            tqdm.write(f"WARNING: {error}")
        self._copied = time.monotonic()
