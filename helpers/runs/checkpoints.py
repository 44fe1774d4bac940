"""Checkpoints: state dicts alone, in two generations, written so that a kill at any moment leaves a whole one."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from helpers.files import InputError, first_line, run_first, whole


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
        InputError: it cannot be written; what was there before is untouched.
    """
    content = io.BytesIO()  # torch.save into a full disk ends in an error of its own that does not say so
    torch.save(state, content)
    with whole(path) as partial:
        with open(partial, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, previous(path))
        os.replace(partial, path)


def load_checkpoint(
    path: Path,
    mend: str = "bring back a copy of it",
    on_damage: Callable[[str], None] = lambda line: None,
    aside: bool = False,
) -> dict:
    """Read a checkpoint onto the CPU: the newest generation that is whole.

    Args:
        path: where the newest one is.
        mend: what to do where none is whole; it must not lose anything.
        on_damage: called with a sentence about a generation that is passed over.
        aside: whether such a one is moved aside, else the next save makes it the one before; a reader moves nothing.

    Raises:
        InputError: there is none, or all are damaged.
    """
    found = {}
    for place in (path, previous(path)):
        try:
            file = open(place, "rb")  # noqa: SIM115, it is closed where it is read
        except FileNotFoundError:  # missing is not damaged
            continue
        except OSError as error:
            raise InputError(f"{place} cannot be read ({error.strerror}); mend that and run this again.") from error
        try:
            state = _read(file)
        # A bit that has changed in the archive's directory ends in whatever the readers stumble over.
        except Exception as error:
            found[place] = f"{place} is damaged ({first_line(error)})"
            continue
        for damaged, sentence in found.items():
            if aside:
                with suppress(OSError):
                    os.replace(damaged, path.with_suffix(".damaged.pt"))
            on_damage(f"{sentence}; the generation before it is used")
        return state
    if found:
        raise InputError(f"{'; '.join(found.values())}: {mend}.")
    raise run_first("04", f"{path} does not exist, as no epoch of it is complete")


def _read(file: BinaryIO) -> dict:
    """What a checkpoint holds, all from one opened file: the next one may take its place meanwhile."""
    with file, zipfile.ZipFile(file) as archive:
        if bad := archive.testzip():  # torch.load does not look at the checksums
            raise ValueError(f"wrong checksum of {bad}")
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not state:
        raise ValueError("it holds nothing")
    return state


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over a state dict's names, types, shapes and numbers, in the order of the names.

    Not of the file, whose bytes differ when the same weights are saved again or under another name.
    """
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds what is no number, or infinite; nothing where all are finite."""
    return next((name for name, value in weights.items() if not torch.isfinite(value).all()), "")
