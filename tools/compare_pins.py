"""Compares a list of what Colab has installed with what the project needs and was tested with.

``python -m tools.compare_pins pip-freeze.gpu.txt`` says what would break (a library that is missing, or of a version
outside the range of requirements.txt) and what is merely another version than the tests ran with. Colab publishes its
list as ``pip-freeze.gpu.txt`` in googlecolab/backend-info. Exits with 1 where something would break, with 2 where the
list cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent

BROUGHT = "requirements-export.txt"
"""What the notebooks install themselves: it may be missing, but not be there in a version that is out of range."""


def read_pins(path: Path, python: str) -> dict[str, Version]:
    """Library -> version of the lines ``name==version``; local parts such as ``+cu128`` are left out.

    Args:
        path: of a list as ``pip freeze`` writes it, or of constraints with markers.
        python: the version of Python whose lines count.
    """
    pins: dict[str, Version] = {}
    for line in path.read_text("utf-8").splitlines():
        try:
            wanted = Requirement(line.split("#")[0].strip())
            marks = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
            (pin,) = wanted.specifier
            if wanted.marker is None or wanted.marker.evaluate(marks):
                pins[canonicalize_name(wanted.name)] = Version(Version(pin.version).public)
        except (InvalidRequirement, InvalidVersion, ValueError):
            continue  # comments, addresses, and lines without exactly one version
    return pins


def needed(path: Path) -> list[Requirement]:
    """The requirements of a file, without those of files that it refers to."""
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def compare(there: dict[str, Version], tested: dict[str, Version], root: Path = ROOT) -> tuple[list[str], list[str]]:
    """Sentences on what would break, and on what was tested in another version."""
    breaks, differs = [], []
    for file in ("requirements.txt", BROUGHT):
        for wanted in needed(root / file):
            name, version = canonicalize_name(wanted.name), there.get(canonicalize_name(wanted.name))
            if version is None:
                breaks += [] if file == BROUGHT else [f"{name} is missing, but {wanted} is needed"]
            elif not wanted.specifier.contains(version, prereleases=True):
                breaks.append(f"{name} {version} is there, but {wanted} is needed")
            elif name in tested and version != tested[name]:
                order = "newer" if version > tested[name] else "older"
                differs.append(f"{name} {version} is {order} than {tested[name]}, which the tests ran with")
    return breaks, differs


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path, help="what pip freeze says on Colab")
    parser.add_argument("--python", default="3.13.0", help="Colab's Python, for the lines of constraints.txt")
    args = parser.parse_args(arguments)
    try:
        there = read_pins(args.list, args.python)
    except (OSError, ValueError) as error:
        print(f"{args.list} cannot be read ({error}); a list as pip freeze writes it was expected.", file=sys.stderr)
        return 2
    if not there:
        print(f"{args.list} names no library; lines such as numpy==2.1.3 were expected.", file=sys.stderr)
        return 2
    breaks, differs = compare(there, read_pins(ROOT / "constraints.txt", args.python))
    for line in (*(f"would break: {line}" for line in breaks), *differs):
        print(line)
    print(
        f"{len(breaks)} would break, {len(differs)} in another version than tested, {len(there)} libraries in the list."
    )
    return 1 if breaks else 0


if __name__ == "__main__":
    sys.exit(main())
