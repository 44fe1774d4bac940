"""What every room needs of files: an error a user can act on, checked JSON, whole writes, and one writer at a time."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "get the permission to write there, or choose another place,"),
    errno.EROFS: "choose a place that is not read-only",
    errno.EFBIG: "raise the limit of a file's size",
}

_CHECKSUM = "checksum"

_STEPS = {"02": "download", "04": "train", "05": "evaluate", "06": "export"}
"""The command that does what a notebook does."""


class InputError(ValueError):
    """Something a user gave cannot be used. The message is one sentence that says what, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the sentence alone: the stack below it would be ours, the mistake is not."""
        return [f"{type(self).__name__}: {self}"]


def first_line(error: Exception) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def run_first(notebook: str, lacking: str) -> InputError:
    """The sentence of a step that lacks what an earlier one makes.

    Args:
        notebook: number of the one that makes it, such as ``"02"``.
        lacking: what is not there, and where.
    """
    root = Path(__file__).resolve().parent.parent
    address = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
    (name,) = (path.name for path in (root / "notebooks").glob(f"{notebook}_*.ipynb"))
    return InputError(
        f"Run notebook {notebook} first, {address}/blob/main/notebooks/{name} (without a notebook: python -m helpers "
        f"{_STEPS[notebook]}), since {lacking}."
    )


def user_path(text: str) -> Path:
    """A path that a user gave, with the home folder for ``~``, which no shell has replaced in ``--knob=~/x``.

    Raises:
        InputError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"{text} begins with ~, but there is no such home folder; give the whole path.") from None


def read_json(path: Path, what: str, mend: str = "correct or remove it") -> dict:
    """The JSON object in ``path``, which a user may have written.

    Args:
        path: of the file.
        what: was expected there.
        mend: what to do where the file is damaged; it must not lose anything.

    Raises:
        InputError: the file is missing, cannot be read, is not JSON, or is not such an object.
    """
    return parse_json(read_text(path, what, mend), str(path), what, mend)


def read_record(path: Path, what: str, mend: str, version: int | None = None) -> dict:
    """What :func:`write_json` wrote, by its checksum, which is taken away; the rest is as in :func:`read_json`.

    Args:
        version: the ``format`` that is read; what has another one is given back as it is.

    Raises:
        InputError: as :func:`read_json` does, or the content is not what was written.
    """
    values = read_json(path, what, mend)
    if version in (None, values.get("format")) and values.pop(_CHECKSUM, None) != _digest(values):
        raise InputError(f"{path} is damaged or was changed by hand, since it has not its own checksum: {mend}.")
    return values


def read_text(path: Path, what: str, mend: str) -> str:
    """A file's text, with or without a byte-order mark; raises an InputError as :func:`read_json` does."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {what} was expected there.") from None
    except OSError as error:  # which says nothing about what the file holds
        raise InputError(f"{path} cannot be read ({error.strerror}); {what} was expected there.") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read as text ({error}); {what} was expected: {mend}.") from None


def parse_json(text: str, where: str, what: str, mend: str) -> dict:
    """The JSON object in a text that stands ``where``; the rest is as in :func:`read_json`."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{where} cannot be read as JSON ({why}); {what} was expected: {mend}.") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"{where} holds a JSON {kind}, but {what} is an object with named fields: {mend}.")
    return values


def _digest(values: dict) -> str:
    """SHA-256 of an object, but for what every reader compares with its own."""
    own = {name: value for name, value in values.items() if name not in ("format", "classes")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def to_json(values: dict, indent: int | None = None, checksum: bool = False) -> str:
    """An object as a line of JSON; what is no number, or not bounded, is null: JSON knows neither."""
    known = json.loads(json.dumps(values), parse_constant=lambda name: None)
    return json.dumps(known | ({_CHECKSUM: _digest(known)} if checksum else {}), indent=indent) + "\n"


def write_json(path: Path, values: dict) -> None:
    """Write an object by :func:`write_file`, with a checksum that :func:`read_record` looks at."""
    write_file(path, to_json(values, indent=1, checksum=True))


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one, never half of it; makes its folder.

    Raises:
        InputError: the disk is full or the folder cannot be written to.
    """
    with whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)


@contextmanager
def whole(path: Path, locked: bool = False) -> Iterator[Path]:
    """Where to write a file or a folder before it is put in place of ``path``; afterwards nothing is left there.

    What processes that are no more have left is taken away, and if this one has ``locked`` the place all there is.

    Raises:
        InputError: the system refused to write.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            if locked or left == partial or not os.path.exists(f"/proc/{left.name.split('.')[-2]}"):
                remove(left)
        yield partial
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as that can be done."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def unwritable(what: object, error: OSError) -> InputError:
    """The sentence about something that could not be written; what helps depends on the cause."""
    help_ = _REMEDIES.get(error.errno or 0, "see to that disk or choose another place")
    return InputError(
        f"{what} could not be written ({error.strerror or error}); {help_} and run this again; what was there before "
        "is untouched."
    )


@contextmanager
def only_writer(path: Path, busy: str, wait: bool = False) -> Iterator[bool]:
    """Keep other processes of this machine from writing the same thing; it ends with this process, however it ends.

    Args:
        path: the file that is locked, and is there for as long.
        busy: the sentence for another process that wants it too.
        wait: whether that one waits instead.

    Yields:
        Whether it is locked: some disks cannot, or are read-only.

    Raises:
        InputError: another process holds it.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                file = stack.enter_context(open(path, "a", encoding="utf-8"))
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # unlike flock not kept by loaders
                # One that has just ended has taken its file away, and another may have made a new one.
                if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            stack.callback(remove, path)
        except BlockingIOError:
            raise InputError(busy) from None
        except OSError:
            file = None
        yield file is not None
