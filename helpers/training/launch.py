"""Training on all GPUs of a machine from a notebook: the command line in several processes, its output as it comes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from helpers.config import TrainConfig
from helpers.data.store import FaceStore
from helpers.files import InputError
from helpers.runs.run import Run

LAUNCHER = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes")
"""What starts the processes; the number of them and the command's words follow."""


def launch(
    config: TrainConfig, store: FaceStore, folder: Path, count: int, *options: str, launcher: Sequence[str] = LAUNCHER
) -> Run:
    """Train, or go on with the run in ``folder``, as ``accelerate launch -m helpers train`` does; returns the run.

    An interrupt asks the processes to stop together, a second one ends them.

    Args:
        count: of processes, one for each GPU.
        options: of the command line besides the run, the faces and the config.

    Raises:
        InputError: a process could not go on; its output, printed above, says why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config.save(path := Path(scratch) / "config.json")
        words = ["-m", "helpers", "train", "--faces", store.folder.name, "--save_dir", str(folder.parent)]
        words += ["--run", folder.name, "--config", str(path), *options]
        environment = os.environ | {"FACE_WORKSPACE": str(store.folder.parent.parent)}
        # In a session of its own, since the interrupt that reaches this kernel would tear a step of theirs.
        process = subprocess.Popen(
            [*launcher, str(count), *words], env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _show(process, folder)
    if process.returncode:
        raise InputError(f"Training in {count} processes ended early; the reason stands above.")
    return Run.open(folder)


def _show(process: subprocess.Popen, folder: Path) -> None:
    """Print what the processes say until they end."""
    assert process.stdout
    output, stopping = process.stdout.fileno(), False
    while True:
        try:
            if stopping:  # again and again, since a session that only begins forgets what was asked of an earlier one
                Run.ask_to_stop(folder)
            if not (said := os.read(output, 1 << 16)):
                process.wait()
                break
            sys.stdout.write(said.decode(errors="replace"))
            sys.stdout.flush()
        except KeyboardInterrupt:
            if stopping:
                process.terminate()
            stopping = True
    (folder / Run.STOP).unlink(missing_ok=True)
