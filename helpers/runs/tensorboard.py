"""TensorBoard's view of a run, for those who want it."""

import shutil

from helpers.files import InputError
from helpers.runs.run import Run


class TensorBoardLogger:
    """Writes a run's history for TensorBoard into ``<run>/tensorboard``; hang ``on_epoch`` on ``fit``.

    The history is the one record: the view is written anew from it when a run goes on.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("TensorBoard is not installed; run: pip install tensorboard.") from error
        self._make = SummaryWriter
        self._written = 0

    def on_epoch(self, run: Run) -> None:
        """Write the epochs that are not there yet: every number of the history under ``train``, ``val`` or ``run``."""
        if not self._written:
            shutil.rmtree(run.folder / "tensorboard", ignore_errors=True)
            self._writer = self._make(run.folder / "tensorboard")
        for row in run.history[self._written :]:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "epoch":
                    group, _, measure = name.partition("_")
                    tag = f"{measure}/{group}" if group in ("train", "val") else f"run/{name}"
                    self._writer.add_scalar(tag, value, row["epoch"])
        self._written = len(run.history)
        self._writer.flush()

    def finish(self, run: Run) -> None:
        """Write what is not there yet, of a run that had ended before too, and let go of the files."""
        self.on_epoch(run)
        self._writer.close()
