"""Checkpoints: state dicts alone, written so that a kill at any moment leaves a whole file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch

from helpers.config import InputError


def save_checkpoint(path: Path, state: dict) -> None:
    """Write ``state`` (tensors, numbers, text, lists, dicts) under a new name, then rename it over ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint onto the CPU.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; train first (notebook 04) until one epoch is complete.") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"{path} is damaged ({why}); delete the run's folder to start anew.") from error
