"""What a notebook's set-up cell needs before any library is imported: what is missing, and what must stay as it is."""

from __future__ import annotations

import shlex
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.requirements import Requirement

from helpers.config import InputError


def missing(requirements: Path) -> list[str]:
    """Lines of a requirements file that this environment does not satisfy."""
    lines = (line.split("#")[0].strip() for line in Path(requirements).read_text().splitlines())
    return [line for line in lines if line and not _satisfied(Requirement(line))]


def pip_arguments(requirements: list[str]) -> str:
    """Arguments for ``%pip``: install these and change nothing that is here.

    The live versions go in as constraints, since replacing a library that a kernel has loaded breaks that kernel;
    every part is quoted, since a bare ``a>=1`` would write a file named ``=1``.
    """
    live = {(d.metadata["Name"] or "").lower(): d.version for d in distributions()}
    pins = [f"{name}=={number.split('+')[0]}" for name, number in sorted(live.items()) if name]
    constraints = Path(tempfile.mkdtemp()) / "live-versions.txt"
    constraints.write_text("\n".join(pins) + "\n")
    return " ".join(map(shlex.quote, ["install", "--constraint", str(constraints), *requirements]))


def check_loaded() -> None:
    """Make sure that what is loaded is what is installed.

    Raises:
        InputError: a library was replaced on disk after this kernel had loaded it.
    """
    stale = []
    for name in ("numpy", "torch", "torchvision", "PIL", "ipywidgets"):
        loaded = getattr(sys.modules.get(name), "__version__", None)
        installed = version({"PIL": "pillow"}.get(name, name)) if loaded else None
        if loaded and loaded.split("+")[0] != installed.split("+")[0]:
            stale.append(f"{name} {loaded} is loaded but {installed} is installed")
    if stale:
        raise InputError(f"{'; '.join(stale)}: restart the runtime, then choose Run all again.")


def _satisfied(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
