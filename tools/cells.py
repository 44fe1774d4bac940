"""The cells of the notebooks' sources, with what is written once for all: the forms' help and the words on recipes.

The notebooks, the guide and ``00_run_all.ipynb`` are made of what this gives, so no cell stands anywhere twice.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from helpers.config import RECIPES, TRAINING_FACES
from helpers.session.gpu import gpus_table

ROOT = Path(__file__).resolve().parent.parent

BRANCH = "main"

RUN_ALL = ("02", "04", "05", "06", "07")
"""The notebooks of which ``00_run_all`` is made; 01 only looks at the machine and 03 waits for somebody to look."""

HELP = {
    "USE_DRIVE": "Keep copies on Google Drive, so that a new machine goes on where this one ends.",
    "SOURCE": "kaggle: the real datasets. sample: drawn faces, to try everything in minutes and without Kaggle.",
    "DATASETS": "Which datasets, separated by commas.",
    "AFFECTNET_LABELS": "Which of AffectNet's two labels to believe; agree: only faces on which both agree.",
    "OWN_FACES": "Path of a CSV file that names your own faces, or nothing.",
    "GENDER_CODES": "What numbers mean in the column gender of that file.",
    "SAMPLE_FACES": "How many faces are drawn with sample.",
    "FACES": "Name of the packed faces.",
    "RECIPE": "A set of all settings. auto: production on a GPU, small without one.",
    "RUN": "Name of the training run; a new name starts a new one, the same name goes on.",
    "CHANGES": 'Settings that win over the recipe, such as {"epochs": 20}.',
    "TENSORBOARD": "Show the curves in TensorBoard, too.",
    "RELEASE_GPU": "On Colab, end the session when all is done and on Drive, so that it costs nothing more.",
    "VARIANTS": "Also write smaller and faster forms of the model, and measure them.",
    "STRENGTH": "0: no change, 1: as designed, 2: far too much.",
    "LEAVE_OUT": "Techniques to leave out, separated by commas.",
    "COMPARE_WITH": "Names of other evaluated runs, separated by commas.",
    "BEFORE": "Name of another exported run, whose answers are shown beside.",
    "UPLOAD": "On Colab, choose pictures from your own machine.",
    "PICTURE": "Path of a picture or of a folder of pictures, or nothing for a drawn group.",
    "VIDEO": "Path of a video, or nothing.",
}
"""What stands above a form's field; a source may say it itself in a ``# @markdown`` line of its own."""

_RECIPES = {
    "production": ("a GPU; `auto` takes it there", "T4: about {hours}, computed"),
    "quick": ("a first look on a GPU", "T4: about 15 minutes, computed"),
    "small": ("no GPU; `auto` takes it there", "two CPU cores: about half an hour, computed"),
    "demo": ("the drawn faces", "two CPU cores: 2.4 to 9 minutes, all steps, measured"),
    "seed": ("comparing with what this project grew from", "not measured"),
}
"""For whom a recipe is, and how long it takes: gpus.csv, and docs/MEASUREMENTS.md for faces per second and the demo."""


def repository() -> str:
    """The project's address, from the one place where it stands."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def t4() -> dict[str, str]:
    """What is known of the free GPU: hours of the whole recipe, units and batch size, each as text."""
    line = gpus_table().set_index("GPU").loc["T4"]
    rate = line["units per hour"]
    return {"hours": f"{line['hours']} hours", "units": line["compute units"], "rate": rate}


def recipes_table() -> str:
    """The recipes in words, as Markdown; their numbers are the config's."""
    lines = ["| Recipe | For | Network | Image | Epochs | How long |", "|---|---|---|---|---|---|"]
    for name, (whom, time) in _RECIPES.items():
        config = RECIPES[name]
        size = f"{config.model.img_size} px"
        cells = (f"`{name}`", whom, config.model.backbone, size, config.schedule.epochs, time.format(**t4()))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def read(source: Path) -> tuple[str, str, list[NotebookNode]]:
    """A source's title without ``# ``, the text below it, and its other cells, complete."""
    first, *cells = jupytext.reads(source.read_text(), fmt="py:percent").cells
    title, _, text = _filled(first.source).partition("\n")
    for cell in cells:
        cell.source = _filled(cell.source) if cell.cell_type == "markdown" else with_help(cell.source)
    return title.removeprefix("# "), text.strip(), cells


def _filled(text: str) -> str:
    """A text with the facts that the code knows in their places."""
    places = {"recipes": recipes_table(), "faces": f"{TRAINING_FACES:,}", "repository": repository(), "branch": BRANCH}
    for name, value in (places | {f"t4_{name}": value for name, value in t4().items()}).items():
        text = text.replace(f"{{{name}}}", value)
    return text


def with_help(code: str) -> str:
    """A form whose fields have their help above them."""
    lines: list[str] = []
    for line in code.splitlines():
        field = re.match(r"([A-Z_]+) = .*# @param", line)
        if field and field[1] in HELP and not (lines and lines[-1].startswith("# @markdown")):
            lines.append(f"# @markdown {HELP[field[1]]}")
        lines.append(line)
    return "\n".join(lines)


def tagged(cell: NotebookNode, tag: str) -> bool:
    """Whether a cell carries a tag: ``parameters``, ``first`` or ``last`` (of a session)."""
    return tag in cell.metadata.get("tags", ())


def run_all(template: Path, sources: list[Path]) -> tuple[str, str, list[NotebookNode]]:
    """``00_run_all`` as :func:`read` gives any other notebook.

    One form holds the parameters of all; where two notebooks have one of the same name, the first one's counts.

    Args:
        template: the source that holds its title, and what it adds behind the form.
        sources: the notebooks' sources in order.
    """
    title, text, added = read(template)
    first: list[NotebookNode] = []
    steps, form, last = [], ["# @title Parameters of all steps"], []
    for source in sources:
        if source.stem[:2] not in RUN_ALL:
            continue
        name, _, cells = read(source)
        steps.append(new_markdown_cell(f"## {name}"))
        for cell in cells:
            if tagged(cell, "parameters"):
                form += [line for line in _fields(cell.source) if _name(line) not in map(_name, form)]
            elif tagged(cell, "first"):
                first += [cell] if cell.source not in [other.source for other in first] else []
            elif tagged(cell, "last"):
                last.append(cell)
            elif not cell.source.startswith("## What you should see"):
                cell.source = f"#{cell.source}" if cell.source.startswith("## ") else cell.source
                steps.append(cell)
    parameters = jupytext.reads('# %% tags=["parameters"] cellView="form"\n' + "\n".join(form), fmt="py:percent").cells
    return title, text, [*parameters, *first, *added, *steps, *last]


def _fields(code: str) -> list[str]:
    """The fields of a form, each with its help on the line before it."""
    return re.findall(r"((?:# @markdown.*\n)?[A-Z_]+ = .*# @param.*)", code)


def _name(field: str) -> str:
    return field.splitlines()[-1].partition(" = ")[0]
