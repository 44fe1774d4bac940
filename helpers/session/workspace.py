"""Where files live: a folder on this machine, and on Colab an archive on Drive that outlives the machine.

Drive uploads late, loses renames and may never sync a file that is written again, so work never happens there: a
finished folder is packed into one file, copied under a name of its own (see :mod:`helpers.session.copies`), and read
back. Beside each folder's newest copy the one before is kept. What the work on this machine goes on from is noted in
the workspace.
"""

import errno
import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from helpers.files import InputError, user_path, write_file
from helpers.session.copies import Copy, copied_keys, is_needed, list_copies, pack_folder, step_of, tips, unpack_folder
from helpers.session.runtime import place

PATHS_FILE = "dataset_paths.json"

_TELLS = ("config.json", "manifest.json", "history.jsonl", "results.json")
"""The small files of a run that are enough to list it."""

_DRIVE = Path("/content/drive")
_LONGEST = 80  # bytes; the rest of the 255 of a file's name tells where a copy comes from


def checked_name(name: str, what: str) -> str:
    """The folder that a run or a store of that name has; ``a/b`` is one name, and never that of ``a-b``.

    Raises:
        InputError: it would lead out of the workspace, be hidden, or not fit on a disk or on Drive.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    wrong = any(part != part.strip() or part.startswith((".", "~")) or "\\" in part or not part for part in parts)
    if wrong or not name.isprintable() or len(os.fsencode(quoted := "%2F".join(parts))) > _LONGEST:
        raise InputError(
            f"The name of a {what} is {name!r:.60}, but it takes letters, digits, '-', '_' and the like, {_LONGEST} at "
            "most, and no path: choose another one."
        )
    return quoted


@dataclass(frozen=True)
class Workspace:
    """``folder`` on this machine, and ``archive`` on Drive or None.

    Attributes:
        note: one sentence on where results are kept, for the user.
    """

    folder: Path
    archive: Path | None
    note: str
    _told: set[str] = field(default_factory=set, compare=False, repr=False)
    _unsaved: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def paths_file(self) -> Path:
        """``dataset_paths.json``."""
        return self.folder / PATHS_FILE

    def faces(self, name: str) -> Path:
        """Folder of a packed store."""
        return self.folder / "faces" / checked_name(name, "store")

    def run(self, name: str) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / checked_name(name, "run")

    def run_folders(self) -> list[Path]:
        """Where runs are listed: on this machine, and beside it what tells of those that are in the archive alone."""
        here, elsewhere = self.folder / "runs", self.folder / ".elsewhere"
        shutil.rmtree(elsewhere, ignore_errors=True)
        archive, keys = self.archive or elsewhere, list[str]()
        with suppress(OSError):  # a Drive that is gone has been told of
            keys = copied_keys(archive)
        for key in keys:
            kind, _, name = key.partition("-")
            for copy in self._copies(key) if kind == "runs" and not (here / name).exists() else ():
                with suppress(OSError, tarfile.TarError):  # the one before may be whole
                    unpack_folder(archive / copy.name, elsewhere / name, _TELLS)
                    break
        return [here, elsewhere]

    def release_machine(self) -> str:
        """On Colab, end the session, so that its GPU costs nothing more; returns what was done."""
        if place() != "colab" or self.archive is None:
            return f"This machine is not given back. {self.note}"
        if self._unsaved:
            return f"This machine is not given back, since the last copy of {', '.join(self._unsaved)} failed."
        from google.colab import drive, runtime

        drive.flush_and_unmount()  # what is still on its way to Drive would go with the machine
        runtime.unassign()
        return "The machine is given back."

    def save(self, folder: Path, tell: Callable[[str], object] = print) -> None:
        """Put a copy of a folder of the workspace into the archive, verified; does nothing without one.

        What is not needed to go on stays here. Where another machine has gone on from the same copy both stay, and the
        user is told. Where the copy fails, ``tell`` is given a sentence and the work goes on: a Drive that is full or
        gone must not keep a finished model from being exported and offered as a download.
        """
        try:
            self._copy(folder)
        except InputError as error:
            self._unsaved.add(folder.name)
            tell(f"WARNING: {error}")
        else:
            self._unsaved.discard(folder.name)

    def _copy(self, folder: Path) -> None:
        """As :meth:`save`, but raises an InputError where this machine's disk is full, the archive cannot be written,
        or the copy does not read back as it was."""
        if self.archive is None:
            return
        key = self._key(folder)
        local, where = self.folder / f".{key}.tar", "packed on this machine"
        try:
            pack_folder(folder, local)
            sha, where = _sha256(local), f"copied to {self.archive}"
            copies = self._copies(key)
            base, same = self._base(key, copies), next((copy for copy in copies if copy.sha == sha), None)
            made = same if same and self._is_whole(same) else Copy.after(same or base, key, step_of(folder), sha)
            with ExitStack() as undo:
                undo.callback(self._remember, key, base)
                self._remember(key, made)  # before it is there, should a kill come between
                if made != same:
                    undo.callback((self.archive / made.name).unlink, missing_ok=True)
                    self.archive.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(local, self.archive / made.name)
                    if not self._is_whole(made):
                        raise OSError(f"{made.name} did not read back as written")
                undo.pop_all()
            self._drop_before(made, copies)
            self._tell_forks(folder, copies, made)
        except OSError as error:
            raise InputError(
                f"{folder.name} could not be {where} ({error}); it is complete on this machine: free some space there "
                "or mount Drive again, then run this cell again."
            ) from error
        finally:
            local.unlink(missing_ok=True)

    def restore(self, folder: Path) -> bool:
        """Bring a folder back from the archive unless it is here; returns whether it is here now.

        A copy that cannot be read is passed over for the one before. A run on this machine that is behind the archive's
        and has no steps of its own is put aside for it; where both have gone on, the user is told, and so where the
        archive is out of reach.

        Raises:
            InputError: it is not here, and the archive is out of reach or not one copy can be read; or this machine's
                disk is full.
        """
        key, here = self._key(folder), any(path.is_file() and is_needed(path) for path in folder.rglob("*"))
        try:
            copies = self._copies(key)
        except InputError as error:
            if not here:
                raise
            print(f"WARNING: {error} Until then what is on this machine is used.")
            return True
        base, problems = self._base(key, copies), []
        for copy in copies:
            if here and not _is_behind(step_of(folder), base, copy, copies):
                break
            try:
                self._bring(copy, folder, here)
            except (OSError, tarfile.TarError) as error:
                if getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    raise InputError(
                        f"{folder} could not be written ({error}); free some space on this disk."
                    ) from None
                problems.append(f"{copy.name} ({error})")
                continue
            here, base = True, copy
            break
        if problems and not here:
            raise InputError(
                f"The copies of {folder.name} in {self.archive} are damaged or cannot be read: {', '.join(problems)}; "
                "try again later, or move them elsewhere and make it anew."
            )
        if problems:
            print(f"Passed over, since it cannot be read: {', '.join(problems)}; what is older is used.")
        self._tell_forks(folder, copies, base)
        return here

    def _bring(self, copy: Copy, folder: Path, here: bool) -> None:
        """Put a copy where the folder belongs, and what is ``here`` of it aside."""
        assert self.archive
        key, partial = self._key(folder), folder.with_name(f".{folder.name}.restoring")
        local, aside = self.folder / f".{key}.tar", folder.with_name(f"{folder.name}.before-{copy.id}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copyfile(self.archive / copy.name, local)
            if _sha256(local) != copy.sha:
                raise OSError("its content is not the one that its name tells")
            unpack_folder(local, partial)
            if here:
                folder.rename(aside)
                print(f"{folder.name} was behind the archive's and is now {aside}; used is the copy of {copy}.")
            shutil.rmtree(folder, ignore_errors=True)  # there may be one without a file of worth
            partial.rename(folder)
            self._remember(key, copy)
        finally:
            local.unlink(missing_ok=True)
            shutil.rmtree(partial, ignore_errors=True)

    def _is_whole(self, copy: Copy) -> bool:
        with suppress(OSError):
            return self.archive is not None and _sha256(self.archive / copy.name) == copy.sha
        return False

    def _drop_before(self, made: Copy, copies: list[Copy]) -> None:
        """Delete what ``made`` went on from, but for the newest, and for what another copy went on from."""
        assert self.archive
        line = [copy for copy in copies if copy.id in (made.id, *made.parents) and copy != made]
        needed = {copy.parents[:1] for copy in copies if copy not in line}
        for copy in line[1:] if line and self._is_whole(line[0]) else ():
            if (copy.id,) not in needed:
                (self.archive / copy.name).unlink(missing_ok=True)

    def _tell_forks(self, folder: Path, copies: list[Copy], used: Copy | None) -> None:
        """Say once where others have gone on, too."""
        known = (used.id, *used.parents) if used else ()
        others = {str(copy) for copy in tips(copies) if copy.id not in known}
        if others - self._told:
            self._told.update(others)
            print(
                f"{folder.name} also went on elsewhere: {'; '.join(sorted(others))}. Here it is at step "
                f"{step_of(folder)}. Everything is kept. To choose another, move the unwanted copies out of "
                f"{self.archive} and {folder} to another place, then run this cell again."
            )

    def _copies(self, key: str) -> list[Copy]:
        """The archive's copies of a folder, newest first."""
        try:
            return list_copies(self.archive, key) if self.archive else []
        except OSError as error:
            raise InputError(f"{self.archive} is out of reach ({error}); mount Drive, then run this again.") from error

    def _base(self, key: str, copies: list[Copy]) -> Copy | None:
        """The copy that the work on this machine goes on from."""
        with suppress(OSError, ValueError):
            name = (self.folder / f".{key}.copy").read_text(encoding="utf-8").strip()
            return next((copy for copy in copies if copy.name == name), Copy.read(name, key))
        return None

    def _remember(self, key: str, copy: Copy | None) -> None:
        write_file(self.folder / f".{key}.copy", copy.name if copy else "")

    def _key(self, folder: Path) -> str:
        kind, *name = folder.relative_to(self.folder).parts
        return f"{kind}-{checked_name('/'.join(name), 'folder')}"


def _is_behind(step: int, base: Copy | None, copy: Copy, copies: list[Copy]) -> bool:
    """Whether work at ``step``, which went on from ``base``, has no steps of its own and is in the past of ``copy``."""
    if base and (base in tips(copies) or copy.id in (base.id, *base.parents)):
        return False
    return step <= (base.step if base else 0) and step < copy.step


def open_workspace(use_drive: bool = True) -> Workspace:
    """The workspace of this machine; the environment variable FACE_WORKSPACE overrides its folder.

    Args:
        use_drive: on Colab, mount Drive and keep copies there. A refusal does not end the work.
    """
    where = place()
    default = {"colab": "/content/workspace", "kaggle": "/kaggle/working", "local": "workspace"}[where]
    folder = user_path(os.environ.get("FACE_WORKSPACE", default)).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The workspace {folder} cannot be made ({error.strerror}); set FACE_WORKSPACE.") from error
    if where == "local":
        return Workspace(folder, None, f"Files are kept in {folder}.")
    if where == "kaggle":
        loss = " unless you save a version; run the cells of all notebooks in one session"
    elif problem := _mount_drive() if use_drive else "Drive is switched off":
        loss = f": {problem}"
    else:
        archive = _DRIVE / "MyDrive" / "face-training"
        return Workspace(folder, archive, f"Work happens in {folder}; copies are kept in {archive}.")
    return Workspace(folder, None, f"Files are kept in {folder} and GO WITH THIS MACHINE{loss}.")


def _mount_drive() -> str | None:
    """Mount Drive unless it is there; returns what went wrong."""
    if (_DRIVE / "MyDrive").exists():  # mount() would ask for consent before it looks
        return None
    try:
        from google.colab import drive

        drive.mount(str(_DRIVE))
    # Refused consent is a MessageError, which derives from Exception alone; the rest are ValueError and the like.
    except Exception as error:
        return f"Drive was not mounted ({type(error).__name__}: {error})"
    return None if (_DRIVE / "MyDrive").exists() else "Drive was mounted without a MyDrive folder"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def offer_download(path: Path) -> None:
    """On Colab, let the browser offer the file; elsewhere it already lies where the user works."""
    try:
        if place() == "colab":
            from google.colab import files

            files.download(str(path))
    # Outside Colab's own page there is no browser to ask; the file is kept all the same.
    except Exception as error:
        print(f"No download was offered ({type(error).__name__}); the file is {path}.")
