"""Bring the datasets to this machine: from Kaggle, drawn, or a user's own."""

import os
import shutil
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from helpers.config import SAMPLE_FACES, PackConfig
from helpers.data.sources import OWN, SOURCES, checked_place, is_drawn, list_items, load_paths, source_of
from helpers.files import InputError, user_path
from helpers.session.progress import Progress, silent
from helpers.session.workspace import PATHS_FILE

_WAITS = (2.0, 10.0, 30.0)
"""Seconds before each new attempt; kagglehub goes on where the download was cut."""

_WAY_OUT = 'Run this again to resume, name folders in dataset_paths.json, or take SOURCE = "sample" (drawn faces).'

_COLAB_CACHE, _NO_COLAB_CACHE = "TBE_RUNTIME_ADDR", "DISABLE_COLAB_CACHE"


def fetch_all(
    kind: str, names: list[str] | None, folder: Path, *,
    own: str = "", knobs: PackConfig | None = None, drawn: int = SAMPLE_FACES, progress: Progress = silent,
) -> tuple[dict[str, Path], list[str]]:  # fmt: skip
    """Bring datasets to this machine: from Kaggle, or drawn.

    Args:
        kind: ``kaggle`` or ``sample``.
        names: which datasets; None means all.
        folder: where sample faces are written, and where ``dataset_paths.json`` may name folders that serve when a
            download fails; downloads stay where kagglehub keeps them.
        own: a CSV file of the user's own faces (see :mod:`helpers.data.layouts.own`), or nothing.
        knobs: how the datasets will be read, to see whether they can be.
        drawn: how many sample faces.
        progress: for drawing; kagglehub shows its own bars.

    Returns:
        Dataset -> folder, and a sentence for each dataset that is missing or not whole.

    Raises:
        InputError: there is no such dataset, or not one arrived.
    """
    sources = {name: source_of(name) for name in (SOURCES if names is None else names)}
    mine = {OWN: _own_table(own.strip())} if own.strip() else {}
    if not sources and not mine:
        raise InputError("No dataset was named; name one, or a CSV file of your own faces.")
    if kind == "sample":
        from drawn_faces.datasets import write_sample_faces

        folders = write_sample_faces(folder / "sample_faces", drawn, progress=progress)
        return {name: folders[name] for name in sources} | mine, []
    known: dict[str, Path] = {}
    with suppress(InputError):  # the file is missing, or no longer right
        known = load_paths(folder / PATHS_FILE)
    folders, problems = {}, []
    waits, undelivered = _WAITS if not sources or _kaggle_answers() else (), False
    for name, source in sources.items():
        place = None
        try:
            place = fetch(name, waits)
            found = sum(1 for _ in list_items(source, place, knobs or PackConfig()))
        except InputError as error:
            undelivered |= place is None
            # Named by an earlier call or by hand; drawn faces never stand in for real ones.
            if name in known and not is_drawn(known[name]):
                folders[name] = known[name]
                problems.append(f"{error} Until then {known[name]} is used.")
            else:
                problems.append(f"{error} Without it {source.lost}.")
            continue
        folders[name] = place
        if found < source.images:
            problems.append(
                f"{source.title} arrived with {found:,} files, but it holds {source.images:,} images: delete {place} "
                "and run this step again if that is not what you expect."
            )
    problems += [_WAY_OUT] * undelivered
    if not folders | mine:
        raise InputError("\n".join(problems))
    return folders | mine, problems


def fetch(name: str, waits: tuple[float, ...] = _WAITS) -> Path:
    """Download a dataset from Kaggle, or find it where an earlier call left it; returns its folder.

    A cut or damaged download is tried again, and where Colab's own cache fails it is passed by.

    Args:
        name: of the dataset.
        waits: seconds before each new attempt.

    Raises:
        InputError: Kaggle did not deliver it.
    """
    import kagglehub
    from kagglehub import exceptions as kaggle
    from kagglehub.config import get_cache_folder

    handle = source_of(name).handle
    # HTTP errors and timeouts are OSErrors; the rest of kagglehub's own have no common base.
    failures = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, kaggle.BackendError,
                kaggle.CredentialError, kaggle.DataCorruptionError, kaggle.NotFoundError,
                kaggle.UnauthenticatedError)  # fmt: skip
    for wait in (*waits, None):
        try:
            place = Path(kagglehub.dataset_download(handle))
            if any(place.iterdir()):
                return place
            raise zipfile.BadZipFile("the archive was empty")
        except failures as error:
            why: Exception = error
        if _damaged(why):
            shutil.rmtree(Path(get_cache_folder()) / "datasets" / handle, ignore_errors=True)
        if os.environ.get(_COLAB_CACHE) and not os.environ.get(_NO_COLAB_CACHE):
            os.environ[_NO_COLAB_CACHE] = "1"
            print(f"Colab's cache failed for {handle} ({_short(why)}); downloading from Kaggle instead.")
            continue
        if wait is None or not _passing(why):
            break
        print(f"The download of {handle} failed ({_short(why)}); going on in {wait:.0f} seconds.")
        time.sleep(wait)
    raise InputError(f"Kaggle did not deliver {handle} ({_short(why)}).") from why


def _kaggle_answers() -> bool:
    """Whether Kaggle is there at all: asked once, so that nobody waits for each dataset's attempts in vain."""
    import requests
    from kagglesdk.kaggle_env import get_endpoint, get_env

    with suppress(requests.RequestException):
        requests.head(get_endpoint(get_env()), timeout=5)
        return True
    return False


def _damaged(error: Exception) -> bool:
    """Whether an archive does not open: kagglehub believes one that it finds complete, so it lies in its own way."""
    unsupported = isinstance(error, ValueError) and "archive type" in str(error)
    return unsupported or isinstance(error, (zipfile.BadZipFile, zlib.error, EOFError))


def _passing(error: Exception) -> bool:
    """Whether another attempt may succeed: the network, a busy server or a damaged file, but no refusal."""
    import requests
    from kagglehub import exceptions as kaggle

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code == 429
    passing = (requests.RequestException, kaggle.DataCorruptionError, kaggle.BackendError)
    return _damaged(error) or isinstance(error, passing)


def _own_table(path: str) -> Path:
    """The CSV file of a user's own faces."""
    if not path.lower().endswith(".csv"):
        raise InputError(f"Your own faces are named as {path!r}, but the path of a .csv file was expected.")
    return checked_place(OWN, user_path(path), "The CSV file of your own faces")


def _short(error: Exception) -> str:
    """Kind and first line of an error."""
    import requests

    if isinstance(error, requests.ConnectionError):  # whose text tells of sockets and pools
        return "no connection"
    return f"{type(error).__name__}: {error}".partition("\n")[0][:120]
