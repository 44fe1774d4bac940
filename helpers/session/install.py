"""What a notebook's set-up cell needs before any library is imported: what is missing, and what must stay as it is."""

import shlex
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from helpers.files import InputError


def missing(requirements: Path) -> list[str]:
    """Lines of a requirements file that this environment does not satisfy; files that it refers to are not read."""
    lines = (line.split("#")[0].strip() for line in Path(requirements).read_text("utf-8").splitlines())
    return [line for line in lines if line and line[0] != "-" and not _satisfied(Requirement(line))]


def installed(library: str) -> str | None:
    """The version that an import takes; None where the library is not here."""
    return next((found.version for found in distributions(name=library)), None)


def pip_arguments(requirements: list[str]) -> str:
    """Arguments for ``%pip``: install these and change nothing that is here.

    The live versions go in as constraints, since replacing a library that a kernel has loaded breaks that kernel;
    every part is quoted, since a bare ``a>=1`` would write a file named ``=1``.
    """
    # Of two copies the first one is imported, so it has the last word. A half-removed library has no name or version.
    live = {canonicalize_name(d.name): d.version for d in reversed([*distributions()]) if d.name and d.version}
    wanted = {canonicalize_name(Requirement(line).name) for line in requirements}
    pins = [f"{name}=={_public(number)}" for name, number in sorted(live.items()) if name not in wanted]
    constraints = Path(tempfile.mkdtemp()) / "live-versions.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in pins if _is_requirement(pin)), encoding="utf-8")
    return " ".join(map(shlex.quote, ["install", "--constraint", str(constraints), *requirements]))


def bring(requirements: Path) -> None:
    """Install what a requirements file names and this kernel lacks; pip says what it does, and else nothing is said.

    Raises:
        InputError: as :func:`check` does.
    """
    if lacking := missing(requirements):
        from IPython import get_ipython

        # The magic as it is, without -q: Colab offers its restart button only where it can read pip's output.
        get_ipython().run_line_magic("pip", pip_arguments(lacking))
    check(requirements)


def check(requirements: Path) -> None:
    """Make sure that everything is there, and that what is loaded is what is installed.

    Raises:
        InputError: a library is still missing or too old, or was replaced on disk after this kernel had loaded it.
    """
    if lacking := missing(requirements):
        raise InputError(
            f"pip could not bring {', '.join(lacking)}: read its message above; on Kaggle switch Internet on in the "
            "settings, on Colab choose the latest runtime version, then run this cell again."
        )
    stale = []
    for name in ("numpy", "torch", "torchvision", "PIL", "ipywidgets"):
        loaded, here = getattr(sys.modules.get(name), "__version__", None), installed({"PIL": "pillow"}.get(name, name))
        if loaded and _public(loaded) != _public(here):
            stale.append(f"{name} {loaded} is loaded but {here} is installed")
    if stale:
        raise InputError(f"{'; '.join(stale)}: restart the runtime, then choose Run all again.")


def _public(number: str | None) -> str:
    """A version without its local part, such as ``+cu128``, which no index has."""
    return (number or "").partition("+")[0]


def _is_requirement(line: str) -> bool:
    """Whether pip understands a line; Debian's versions, such as ``1.1build1``, it refuses together with all others."""
    try:
        return bool(Requirement(line))
    except InvalidRequirement:
        return False


def _satisfied(requirement: Requirement) -> bool:
    version = installed(requirement.name)
    known = version is not None and _is_requirement(f"{requirement.name}=={_public(version)}")
    return known and requirement.specifier.contains(str(version), prereleases=True)
