"""Copies of a folder in an archive: what goes into one, what its name tells, and which of several is the newest.

No clock is asked: one machine's may be hours behind another's. A copy's name says which copy it went on from, so the
newest is the one that no other went on from. Where two went on from the same one the work has forked, and both are new.
"""

from __future__ import annotations

import os
import platform
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.files import InputError, read_record

_ANCESTORS = 3
"""Copies before it that a name tells: more than the archive keeps, since Drive may show a copy late or not at all."""

_TAIL = re.compile(
    r"\.(?P<generation>\d+)(\.step(?P<step>\d+)\.(?P<machine>[\w-]+)\.from(?P<parents>(-[0-9a-f]{8})*))?"
    r"\.(?P<sha>[0-9a-f]{64})\.tar\Z"
)
"""What follows the key; earlier versions of this project wrote the time and the SHA-256 alone."""


@dataclass(frozen=True)
class Copy:
    """A copy, as its name ``<key>.<generation>.step<step>.<machine>.from-<parents>.<sha>.tar`` tells.

    Attributes:
        name: of the file.
        generation: one more than that of the copy that it went on from.
        step: of training; 0 where there is none.
        machine: that saved it; nothing where an earlier version did.
        parents: :attr:`id` of the copy that it went on from, then of the one before that, and so on.
        sha: SHA-256 of the file.
    """

    name: str
    generation: int
    step: int
    machine: str
    parents: tuple[str, ...]
    sha: str

    @property
    def id(self) -> str:
        """The SHA-256's first digits."""
        return self.sha[:8]

    def __str__(self) -> str:
        return f"step {self.step} by {self.machine or 'an earlier version'} ({self.name})"

    @classmethod
    def read(cls, name: str, key: str) -> Copy | None:
        """What the name of a file tells; None where it is no copy of the folder that ``key`` stands for."""
        told = _TAIL.fullmatch(name, len(key)) if name.startswith(key) else None
        if told is None:
            return None
        parents = tuple((told["parents"] or "").split("-")[1:])
        return cls(name, int(told["generation"]), int(told["step"] or 0), told["machine"] or "", parents, told["sha"])

    @classmethod
    def after(cls, base: Copy | None, key: str, step: int, sha: str) -> Copy:
        """The copy to be written next, of work that went on from ``base``; one that is behind it did not."""
        generation, parents = 1, ""
        if base and base.step <= step:
            generation = base.generation + 1
            before = base.parents if base.sha == sha else (base.id, *base.parents)  # else the same is written once more
            parents = "".join(f"-{each}" for each in before[:_ANCESTORS])
        machine = re.sub(r"\W", "-", platform.node(), flags=re.ASCII)[:12] or "unnamed"
        made = cls.read(f"{key}.{generation}.step{step}.{machine}.from{parents}.{sha}.tar", key)
        assert made, "a name that this class writes it also reads"
        return made


def list_copies(archive: Path, key: str) -> list[Copy]:
    """The copies of a folder in the archive, the newest first; raises an OSError where the archive is out of reach."""
    os.listdir(archive.parent)  # where that is gone too it is not a first copy that is missing, but the drive
    names = os.listdir(archive) if archive.exists() else []
    copies = sorted(filter(None, (Copy.read(name, key) for name in names)), key=lambda copy: -copy.generation)
    earlier = [copy.id for copy in copies if not copy.machine]  # these tell their time alone
    linked = {name: tuple(earlier[place:]) for place, name in enumerate(earlier, start=1)}
    return list(_newest_first([copy if copy.machine else replace(copy, parents=linked[copy.id]) for copy in copies]))


def copied_keys(archive: Path) -> list[str]:
    """The keys of all folders of which the archive has a copy."""
    names = os.listdir(archive) if archive.exists() else []
    return sorted({name[: found.start()] for name in names if (found := _TAIL.search(name))})


def tips(copies: list[Copy]) -> list[Copy]:
    """Those that no other copy went on from: one, or several where the work has forked."""
    followed = {each for copy in copies for each in copy.parents}
    return [copy for copy in copies if copy.id not in followed]


def _newest_first(copies: list[Copy]) -> Iterator[Copy]:
    """Of the tips the one that is furthest; then the same of what is left."""
    while copies:
        newest = max(tips(copies) or copies, key=lambda copy: (copy.step, copy.generation, copy.sha))
        yield newest
        copies = [copy for copy in copies if copy != newest]


def step_of(folder: Path) -> int:
    """The training step that a run has come to, as its results tell; 0 where nothing does."""
    with suppress(InputError, LookupError, TypeError, ValueError):
        results = read_record(folder / "results.json", "what training reached", "train on")
        return max(0, int(results["step"] if "step" in results else results["last"]["step"]))
    return 0


def is_needed(path: Path) -> bool:
    """Whether a file belongs into a copy: no hidden or unfinished or damaged one, and none that a newer one follows."""
    followed = ".previous." in path.name and path.with_name(path.name.replace(".previous.", ".")).exists()
    return not (followed or path.name.startswith(".") or ".damaged." in path.name or path.suffix == ".partial")


def pack_folder(folder: Path, target: Path) -> None:
    """Write a folder's files into one, which is the same wherever the files are the same."""

    def plain(about: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not (about.isdir() or about.isreg()) or (about.name != "." and not is_needed(folder / about.name)):
            return None
        bare = tarfile.TarInfo(about.name)  # without owner, mode and time
        bare.type, bare.size = about.type, about.size
        return bare

    with tarfile.open(target, "w", dereference=True) as tar:
        tar.add(folder, arcname=".", filter=plain)


def unpack_folder(source: Path, folder: Path, only: tuple[str, ...] = ()) -> None:
    """Write what :func:`pack_folder` has packed, or ``only`` the files of these names; they have the time of now."""

    def untimed(about: tarfile.TarInfo, place: str) -> tarfile.TarInfo:
        return tarfile.data_filter(about, place).replace(mtime=None)  # type: ignore[arg-type]

    with tarfile.open(source) as tar:
        members = [about for about in tar if not only or about.name.removeprefix("./") in only]
        tar.extractall(folder, members, filter=untimed)
