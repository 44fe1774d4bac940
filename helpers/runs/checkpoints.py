"""Checkpoints: state dicts alone, in two generations, written so that a kill at any moment leaves a whole one."""

import io
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from helpers.files import InputError


def previous(path: Path) -> Path:
    """Where the generation before ``path`` lies."""
    return path.with_suffix(".previous.pt")


def exists(path: Path) -> bool:
    """Whether there is a checkpoint in either generation."""
    return path.exists() or previous(path).exists()


def save_checkpoint(path: Path, state: dict) -> None:
    """Write ``state`` (tensors, numbers, text, lists, dicts) under a new name, then put it in place of ``path``.

    What was there becomes the generation before.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    content = io.BytesIO()  # torch.save into a full disk ends in an error of its own that does not say so
    torch.save(state, content)
    try:
        with open(partial, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    if path.exists():
        os.replace(path, previous(path))
    os.replace(partial, path)


def load_checkpoint(path: Path, on_damage: Callable[[str], None] = lambda line: None) -> dict:
    """Read a checkpoint onto the CPU: the newest generation that is whole.

    Args:
        path: where the newest one is.
        on_damage: called with a sentence about a generation that is passed over.

    Raises:
        InputError: there is none, or all are damaged.
    """
    found = []
    for place in filter(Path.exists, (path, previous(path))):
        try:
            with zipfile.ZipFile(place) as archive:
                if bad := archive.testzip():  # torch.load does not look at the checksums
                    raise zipfile.BadZipFile(f"wrong checksum of {bad}")
            state = torch.load(place, map_location="cpu", weights_only=True)
        # A bit that has changed in the archive's directory ends in whatever the readers stumble over.
        except Exception as error:
            found.append(f"{place} is damaged ({(str(error).splitlines() or [type(error).__name__])[0]})")
            continue
        for sentence in found:
            with suppress(OSError):
                os.replace(path, path.with_suffix(".damaged.pt"))  # else the next save would make it the one before
            on_damage(f"{sentence}; the generation before it is used")
        return state
    if found:
        raise InputError(f"{'; '.join(found)}; delete the run's folder to start anew.")
    raise InputError(f"{path} does not exist; train first (notebook 04) until one epoch is complete.")
