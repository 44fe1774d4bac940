"""Builds what is made of notebooks/src: notebooks, guide, reference page, README's table; ``--check`` compares bytes.

A source holds one notebook in the percent format, without what all of them share: the badges, the links to the
neighbours, the help of the forms' fields, and the set-up cell, which stands once in ``notebooks/src/_setup.py``.
``00_run_all`` is made of the cells of the others and of ``notebooks/src/_run_all.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

import jupytext
import nbformat

from tools.cells import BRANCH, ROOT, read, repository, run_all, with_help
from tools.guide import guide_text, reference_text

SOURCES = ROOT / "notebooks" / "src"
NEEDS_GPU = ("00", "01", "04", "05")
"""Notebooks that ask Colab for a GPU; the others would waste the free hours on one."""

_RUN_ALL = "00_run_all"
_MARKS = "<!-- notebooks -->", "<!-- /notebooks -->"
_CELL_METADATA = ("tags", "cellView")


def sources() -> list[Path]:
    """The notebooks' sources in order."""
    return sorted(SOURCES.glob("[0-9][0-9]_*.py"))


def stems() -> list[str]:
    """The notebooks' names in order."""
    return [_RUN_ALL, *(source.stem for source in sources())]


def build() -> dict[Path, str]:
    """Every generated file and its text."""
    files = {ROOT / "notebooks" / f"{stem}.ipynb": notebook_text(stem) for stem in stems()}
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(_MARKS[0])
    files[readme] = before + _MARKS[0] + "\n" + readme_table() + _MARKS[1] + rest.split(_MARKS[1])[1]
    template = (SOURCES / "_guide.md").read_text()
    files[ROOT / "COLAB_PRODUCTION_TRAINING.md"] = guide_text(template, _setup_source(), sources(), repository())
    files[ROOT / "docs" / "REFERENCE.md"] = reference_text((SOURCES / "_reference.md").read_text())
    return files


def notebook_text(stem: str) -> str:
    """One notebook as JSON with stable cell ids, no outputs and only the metadata that Colab or Jupyter read."""
    title, text, steps = _parts(stem)
    head = nbformat.v4.new_markdown_cell(f"# {title}\n\n{badges(stem)}\n\n{text}\n\n{_links(stem)}")
    setup = jupytext.reads(_setup_source(), fmt="py:percent").cells
    foot = nbformat.v4.new_markdown_cell(_links(stem))
    cells = [head, *setup, *steps, foot]
    seen: dict[str, int] = {}
    for cell in cells:
        key = f"{stem}|{cell.cell_type}|{cell.source}"
        seen[key] = seen.get(key, 0) + 1
        cell.id = hashlib.sha256(f"{key}|{seen[key]}".encode()).hexdigest()[:12]
        cell.metadata = {name: cell.metadata[name] for name in _CELL_METADATA if name in cell.metadata}
        if cell.cell_type == "code":
            cell.metadata["scrolled"] = False  # Jupyter would hide several figures in a box of a few lines
    metadata: dict = {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if stem[:2] in NEEDS_GPU:
        metadata |= {"accelerator": "GPU"}
        metadata["colab"]["gpuType"] = "T4"
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1) + "\n"


def _parts(stem: str) -> tuple[str, str, list]:
    """Title, text and cells of a notebook."""
    return run_all(SOURCES / "_run_all.py", sources()) if stem == _RUN_ALL else read(SOURCES / f"{stem}.py")


def badges(stem: str) -> str:
    """The badges that open a notebook on Colab and on Kaggle."""
    page = f"{repository()}/blob/{BRANCH}/notebooks/{stem}.ipynb"
    colab, kaggle = _on_colab(stem), f"https://kaggle.com/kernels/welcome?src={page}"
    return (
        f"[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open In Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})"
    )


def _on_colab(stem: str) -> str:
    place = repository().removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{place}/blob/{BRANCH}/notebooks/{stem}.ipynb"


def readme_table() -> str:
    """One line per notebook: badges, title, and the first sentence of what it does."""
    lines = ["| | Notebook | What it does |", "|---|---|---|"]
    for stem in stems():
        title, text, _ = _parts(stem)
        sentence = " ".join(text.split()).split(". ")[0].rstrip(".")
        lines.append(f"| {badges(stem)} | [{title}](notebooks/{stem}.ipynb) | {sentence}. |")
    return "\n".join(lines) + "\n"


def _setup_source() -> str:
    """The set-up cell with the repository's address filled in."""
    text = (SOURCES / "_setup.py").read_text()
    return with_help(text.replace("{repository}", repository()).replace("{branch}", BRANCH))


def _links(stem: str) -> str:
    """Links to the notebooks before and after, which lead to Colab from a copy on Drive, too."""
    order = stems()
    place = order.index(stem)
    parts = []
    for step, word in ((-1, "Previous"), (1, "Next")):
        if 0 <= place + step < len(order) and not (stem == _RUN_ALL or order[place + step] == _RUN_ALL):
            other = order[place + step]
            parts.append(f"{word}: [{re.sub('_', ' ', other)}]({_on_colab(other)})")
    if stem == _RUN_ALL:
        parts = [f"Step by step: [{re.sub('_', ' ', order[1])}]({_on_colab(order[1])})"]
    return " · ".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Write the generated files, or with ``--check`` name those that differ; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not up to date")
    check = parser.parse_args(arguments).check
    files = build()
    stale = [path for path, text in files.items() if not path.exists() or path.read_bytes() != text.encode()]
    for path in stale:
        if not check:
            path.write_bytes(files[path].encode())
        print(f"{'differs from its source' if check else 'written'}: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
