"""Where files live: a folder on this machine, and on Colab an archive on Drive that outlives the machine.

Drive uploads late and loses renames, so work never happens there: a finished folder is packed into one file, copied
under a new name, read back and compared, and only then a small pointer file names it. Two generations are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.config import InputError, read_json
from helpers.session.runtime import place

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

    @property
    def paths_file(self) -> Path:
        """``dataset_paths.json``."""
        return self.folder / "dataset_paths.json"

    def faces(self, name: str) -> Path:
        """Folder of a packed store."""
        return self.folder / "faces" / name

    def run(self, name: str) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / name

    def save(self, folder: Path) -> None:
        """Put a copy of a folder of the workspace into the archive, verified; does nothing without one.

        Raises:
            InputError: the archive cannot be written, or the copy does not read back as it was.
        """
        if self.archive is None:
            return
        key = self._key(folder)
        local = self.folder / f".{key}.tar"
        try:
            with tarfile.open(local, "w") as tar:
                tar.add(folder, arcname=".")
            digest = _sha256(local)
            copy = self.archive / f"{key}.{time.strftime('%Y%m%d-%H%M%S')}.{digest[:8]}.tar"
            self.archive.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(local, copy)
            if _sha256(copy) != digest:
                raise OSError(f"{copy.name} did not read back as written")
            pointer = self.archive / f"{key}.json"
            known = read_json(pointer, "an archive's index")["generations"] if pointer.exists() else []
            generations = [{"file": copy.name, "sha256": digest}, *known]
            pointer.write_text(json.dumps({"generations": generations[:_GENERATIONS]}, indent=1))
            for old in generations[_GENERATIONS:]:
                (self.archive / old["file"]).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder.name} could not be copied to {self.archive} ({error}); it is complete on this machine: free "
                "some space on Drive or mount it again, then run this cell again."
            ) from error
        finally:
            local.unlink(missing_ok=True)

    def restore(self, folder: Path) -> bool:
        """Bring a folder back from the archive unless it is here; returns whether it is here now.

        A damaged copy is passed over for the generation before it.
        """
        if folder.exists():
            return True
        pointer = self.archive / f"{self._key(folder)}.json" if self.archive else None
        if pointer is None or not pointer.exists():
            return False
        for generation in read_json(pointer, "an archive's index")["generations"]:
            copy = self.archive / generation["file"]
            if copy.exists() and _sha256(copy) == generation["sha256"]:
                partial = folder.with_name(f".{folder.name}.restoring")
                shutil.rmtree(partial, ignore_errors=True)
                with tarfile.open(copy) as tar:
                    tar.extractall(partial, filter="data")
                partial.rename(folder)
                return True
        raise InputError(
            f"The copies of {folder.name} in {self.archive} are damaged; delete {pointer}, then make anew."
        )

    def _key(self, folder: Path) -> str:
        return "-".join(folder.relative_to(self.folder).parts)


def open_workspace(use_drive: bool = True) -> Workspace:
    """The workspace of this machine; the environment variable FACE_WORKSPACE overrides its folder.

    Args:
        use_drive: on Colab, mount Drive and keep copies there. A refusal does not end the work.
    """
    where = place()
    default = {"colab": "/content/workspace", "kaggle": "/kaggle/working", "local": "workspace"}[where]
    folder = Path(os.environ.get("FACE_WORKSPACE", default)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if where != "colab":
        return Workspace(folder, None, f"Files are kept in {folder}.")
    if not use_drive:
        return Workspace(folder, None, f"Files are kept in {folder} and GO WITH THIS MACHINE: Drive is switched off.")
    problem = _mount_drive()
    if problem:
        return Workspace(folder, None, f"Files are kept in {folder} and GO WITH THIS MACHINE: {problem}.")
    archive = _DRIVE / "MyDrive" / "face-training"
    return Workspace(folder, archive, f"Work happens in {folder}; copies are kept in {archive}.")


def _mount_drive() -> str | None:
    """Mount Drive unless it is there; returns what went wrong."""
    if (_DRIVE / "MyDrive").exists():  # mount() would ask for consent before it looks
        return None
    try:
        from google.colab import drive
    except ImportError:
        return "google.colab is not to be found"
    try:
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
    if place() != "colab":
        return
    try:
        from google.colab import files

        files.download(str(path))
    # Outside Colab's own page there is no browser to ask; the file is kept all the same.
    except Exception as error:
        print(f"No download was offered ({type(error).__name__}); the file is {path}.")
