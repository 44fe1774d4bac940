"""Where files live: a folder on this machine, and on Colab an archive on Drive that outlives the machine.

Drive uploads late, loses renames and may never sync a file that is written again, so work never happens there: a
finished folder is packed into one file, copied under a new name that holds the time and the hash of its content, and
read back. The newest copy whose content has its name's hash is the one to restore. Two generations are kept.
"""

import hashlib
import os
import shutil
import tarfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from helpers.files import InputError, user_path
from helpers.session.runtime import place

PATHS_FILE = "dataset_paths.json"

_DRIVE = Path("/content/drive")
_GENERATIONS = 2


@dataclass(frozen=True)
class Workspace:
    """``folder`` on this machine, and ``archive`` on Drive or None.

    Attributes:
        note: one sentence on where results are kept, for the user.
    """

    folder: Path
    archive: Path | None
    note: str
    _newest: dict[str, str] = field(default_factory=dict, compare=False, repr=False)  # copy that this session goes on

    @property
    def paths_file(self) -> Path:
        """``dataset_paths.json``."""
        return self.folder / PATHS_FILE

    def faces(self, name: str) -> Path:
        """Folder of a packed store."""
        return self.folder / "faces" / name

    def run(self, name: str) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / name

    def save(self, folder: Path) -> None:
        """Put a copy of a folder of the workspace into the archive, verified; does nothing without one.

        Generations before (``*.previous.*``) and damaged files stay here: the archive has its own generations.

        Raises:
            InputError: the archive cannot be written, the copy does not read back as it was, or another session has
                put a copy there since this one last did or looked.
        """
        if self.archive is None:
            return
        key = self._key(folder)
        local = self.folder / f".{key}.tar"
        try:
            copies = self._copies(key)
            if copies and copies[0].name > self._newest[key]:  # each would undo the other's work
                raise InputError(
                    f"Another session has saved {folder.name} to {self.archive} since this one opened it; end one of "
                    f"them. To go on with this one, delete {copies[0].name}; what this session did is complete on its "
                    "machine."
                )
            with tarfile.open(local, "w") as tar:
                tar.add(folder, arcname=".", filter=lambda about: about if _is_needed(folder, about.name) else None)
            digest = _sha256(local)
            copy = self.archive / f"{key}.{time.time_ns()}.{digest}.tar"
            self.archive.mkdir(parents=True, exist_ok=True)
            self._newest[key] = copy.name  # ours, whatever becomes of it
            with ExitStack() as undo:
                undo.callback(copy.unlink, missing_ok=True)
                shutil.copyfile(local, copy)
                if _sha256(copy) != digest:
                    raise OSError(f"{copy.name} did not read back as written")
                undo.pop_all()
            for old in self._copies(key)[_GENERATIONS:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder.name} could not be copied to {self.archive} ({error}); it is complete on this machine: free "
                "some space there or mount Drive again, then run this cell again."
            ) from error
        finally:
            local.unlink(missing_ok=True)

    def restore(self, folder: Path) -> bool:
        """Bring a folder back from the archive unless it is here; returns whether it is here now.

        A damaged copy is passed over for the generation before it.
        """
        copies = self._copies(self._key(folder))
        if folder.exists():
            return True
        for copy in copies:
            if _sha256(copy) == copy.name.split(".")[-2]:
                partial = folder.with_name(f".{folder.name}.restoring")
                shutil.rmtree(partial, ignore_errors=True)
                with tarfile.open(copy) as tar:
                    tar.extractall(partial, filter="data")
                partial.rename(folder)
                return True
        if not copies:
            return False
        names = ", ".join(copy.name for copy in copies)
        raise InputError(f"The copies of {folder.name} in {self.archive} are damaged; delete {names} and make it anew.")

    def _copies(self, key: str) -> list[Path]:
        """The archive's copies of a folder, newest first; their names hold the time and the SHA-256.

        The newest one of the first look is the one that this session goes on from.
        """
        found = self.archive.glob("*.tar") if self.archive else ()
        copies = sorted((copy for copy in found if copy.name.rsplit(".", 3)[0] == key), reverse=True)
        self._newest.setdefault(key, copies[0].name if copies else "")
        return copies

    def _key(self, folder: Path) -> str:
        return "-".join(folder.relative_to(self.folder).parts)


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


def _is_needed(folder: Path, name: str) -> bool:
    """Whether a file of a folder belongs into its copy: no damaged one, and no generation before a whole one."""
    followed = ".previous." in name and (folder / name.replace(".previous.", ".")).exists()
    return not followed and ".damaged." not in name


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
