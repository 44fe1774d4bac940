"""Builds the notebooks, the guide and README's table from notebooks/src; ``--check`` fails on one differing byte.

A source holds one notebook in the percent format, without what all of them share: the badge, the links to the
neighbours and the set-up cell, which stands once in ``notebooks/src/_setup.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat

from tools.guide import guide_text

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "notebooks" / "src"
BRANCH = "main"
NEEDS_GPU = ("01", "04", "05")
"""Notebooks that ask Colab for a GPU; the others would waste the free hours on one."""

_MARKS = "<!-- notebooks -->", "<!-- /notebooks -->"
_CELL_METADATA = ("tags", "cellView")


def repository() -> str:
    """The project's address, from the one place where it stands."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def sources() -> list[Path]:
    """The notebooks' sources in order."""
    return sorted(SOURCES.glob("[0-9][0-9]_*.py"))


def build() -> dict[Path, str]:
    """Every generated file and its text."""
    files = {ROOT / "notebooks" / f"{source.stem}.ipynb": notebook_text(source) for source in sources()}
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(_MARKS[0])
    files[readme] = before + _MARKS[0] + "\n" + readme_table() + _MARKS[1] + rest.split(_MARKS[1])[1]
    template = (SOURCES / "_guide.md").read_text()
    files[ROOT / "COLAB_PRODUCTION_TRAINING.md"] = guide_text(template, _setup_source(), sources(), repository())
    return files


def notebook_text(source: Path) -> str:
    """One notebook as JSON with stable cell ids, no outputs and only the metadata that Colab reads."""
    parsed = jupytext.reads(source.read_text(), fmt="py:percent")
    first, *steps = parsed.cells
    title, _, text = first.source.partition("\n")
    head = nbformat.v4.new_markdown_cell(f"{title}\n\n{badge(source)}\n{text}\n\n{_links(source)}")
    setup = jupytext.reads(_setup_source(), fmt="py:percent").cells
    foot = nbformat.v4.new_markdown_cell(_links(source))
    cells = [head, *setup, *steps, foot]
    seen: dict[str, int] = {}
    for cell in cells:
        key = f"{source.stem}|{cell.cell_type}|{cell.source}"
        seen[key] = seen.get(key, 0) + 1
        cell.id = hashlib.sha256(f"{key}|{seen[key]}".encode()).hexdigest()[:12]
        cell.metadata = {name: cell.metadata[name] for name in _CELL_METADATA if name in cell.metadata}
    metadata: dict = {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if source.stem[:2] in NEEDS_GPU:
        metadata |= {"accelerator": "GPU"}
        metadata["colab"]["gpuType"] = "T4"
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1) + "\n"


def badge(source: Path) -> str:
    """The Open in Colab badge of a notebook."""
    place = repository().removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{place}/blob/{BRANCH}/notebooks/{source.stem}.ipynb"
    return f"[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"


def readme_table() -> str:
    """One line per notebook: badge, title, and the first sentence of what it does."""
    lines = ["| | Notebook | What it does |", "|---|---|---|"]
    for source in sources():
        title, _, text = jupytext.reads(source.read_text(), fmt="py:percent").cells[0].source.partition("\n")
        sentence = " ".join(text.split()).split(". ")[0].rstrip(".")
        lines.append(f"| {badge(source)} | [{title.removeprefix('# ')}](notebooks/{source.stem}.ipynb) | {sentence}. |")
    return "\n".join(lines) + "\n"


def _setup_source() -> str:
    """The set-up cell with the repository's address filled in."""
    text = (SOURCES / "_setup.py").read_text()
    return text.replace("{repository}", repository()).replace("{branch}", BRANCH)


def _links(source: Path) -> str:
    """Links to the notebooks before and after."""
    order = sources()
    place = order.index(source)
    parts = []
    for step, word in ((-1, "Previous"), (1, "Next")):
        if 0 <= place + step < len(order):
            other = order[place + step].stem
            parts.append(f"{word}: [{re.sub('_', ' ', other)}]({other}.ipynb)")
    return " · ".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files, or with ``--check`` name those that differ; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not up to date")
    check = parser.parse_args(arguments).check
    stale = [path for path, text in build().items() if not path.exists() or path.read_bytes() != text.encode()]
    for path in stale:
        if not check:
            path.write_bytes(build()[path].encode())
        print(f"{'differs from its source' if check else 'written'}: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
