"""TensorBoard's view of a run, for those who want it."""

import shutil

from helpers.files import InputError
from helpers.runs.run import Run


def log_to_tensorboard(run: Run) -> None:
    """Write a run's history for TensorBoard into ``<run>/tensorboard``; a hook of ``on_open`` and ``on_epoch``.

    Every number stands under ``train``, ``val`` or ``run``. The history is the one record: the view is made anew of it.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("TensorBoard is not installed; run: pip install tensorboard.") from error
    shutil.rmtree(run.folder / "tensorboard", ignore_errors=True)
    with SummaryWriter(run.folder / "tensorboard") as writer:
        for row in run.history:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "epoch":
                    group, _, measure = name.partition("_")
                    tag = f"{measure}/{group}" if group in ("train", "val") else f"run/{name}"
                    writer.add_scalar(tag, value, row["epoch"])
