"""What every room needs of files: an error a user can act on, checked JSON, and writes that are whole or not there."""

import json
import os
from pathlib import Path


class InputError(ValueError):
    """Something a user gave cannot be used. The message is one sentence that says what, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the sentence alone: the stack below it would be ours, the mistake is not."""
        return [f"{type(self).__name__}: {self}"]


def user_path(text: str) -> Path:
    """A path that a user gave, with the home folder for ``~``, which no shell has replaced in ``--knob=~/x``.

    Raises:
        InputError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"{text} begins with ~, but there is no such home folder; give the whole path.") from None


def read_json(path: Path, what: str) -> dict:
    """The JSON object in ``path``.

    Raises:
        InputError: the file is missing, is not JSON, or is not an object.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {what} was expected there.") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); {what} was expected: fix or delete it.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a JSON {type(values).__name__}, but {what} is an object with named fields.")
    return values


def write_json(path: Path, values: dict) -> None:
    """Write an object by :func:`write_file`; what is no number, or not bounded, is null: JSON knows neither."""
    known = json.loads(json.dumps(values), parse_constant=lambda name: None)
    write_file(path, json.dumps(known, indent=1) + "\n")


def write_file(path: Path, text: str) -> None:
    """Write a small text file so that a kill leaves the old one or the new one, never half of it.

    Raises:
        InputError: the disk is full or the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror}); free some space and run this again; what was there "
            "before is untouched."
        ) from error
