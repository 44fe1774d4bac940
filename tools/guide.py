"""Builds COLAB_PRODUCTION_TRAINING.md, the prose of notebooks/src/_guide.md around every cell, and docs/REFERENCE.md.

Of what a notebook says beside a cell the guide keeps the first sentence and the tables; the notebook has the rest.
"""

from __future__ import annotations

import re
from dataclasses import Field, fields
from pathlib import Path

import jupytext
import pandas as pd

from helpers.config import CRITERIA, RECIPES, TRAINING_FACES, PackConfig, TrainConfig, recipe
from helpers.data.augment import TECHNIQUES
from helpers.data.sources import SOURCES
from helpers.session.gpu import gpus_table
from tools.cells import read, tagged


def guide_text(template: str, setup: str, sources: list[Path], repository: str) -> str:
    """The guide.

    Args:
        template: Markdown with places for the tables and the steps.
        setup: the set-up cell in the percent format.
        sources: the notebooks' sources in order.
        repository: the project's address.
    """
    production = recipe("production")
    places = {
        "datasets": datasets_table(),
        "gpus": _frame(gpus_table().drop(columns="source")),
        "epochs": str(production.schedule.epochs),
        "faces": f"{TRAINING_FACES:,}",
        "steps": "\n\n".join(_step(number, source, setup) for number, source in enumerate(sources, start=1)),
        "criteria": criteria_table(),
        "repository": repository,
    }
    last = [cell.source for source in sources for cell in read(source)[2] if tagged(cell, "last")]
    places["steps"] += "\n\n## At the very end\n\n" + "\n\n".join(map(_fence, last))
    return _filled(template, places)


def reference_text(template: str) -> str:
    """The reference page; ``template`` is Markdown with places for the tables."""
    tables = {"knobs": knobs_table, "data_knobs": data_knobs_table, "techniques": techniques_table}
    return _filled(template, {"gpus": _frame(gpus_table())} | {name: make() for name, make in tables.items()})


def _filled(template: str, places: dict[str, str]) -> str:
    for name, text in places.items():
        template = template.replace(f"{{{name}}}", text)
    return template


def _step(number: int, source: Path, setup: str) -> str:
    """One notebook as a step: its title, prose and cells; the first one with the set-up cell."""
    title, text, cells = read(source)
    parts = [f"## Step {number}: {title.partition(' ')[2]}", _shortened(text, 2)]
    if number == 1:
        parts += ["### Set up", _fence(jupytext.reads(setup, fmt="py:percent").cells[0].source)]
    for cell in cells:
        if cell.source.startswith("## What you should see"):
            break
        if cell.cell_type == "code":
            parts += [] if tagged(cell, "last") else [_fence(cell.source)]
        elif cell.source.startswith("## "):
            heading, _, text = cell.source.partition("\n")
            parts += [f"#{heading}", _shortened(text)]
        else:
            parts.append(_shortened(cell.source))
    return "\n\n".join(filter(None, parts))


def _shortened(text: str, most: int = 1) -> str:
    """The first sentences of a text, and its tables."""
    first, *rest = text.strip().split("\n\n")
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z`*])", first)
    return "\n\n".join([" ".join(sentences[:most]), *(part for part in rest if part.startswith("|"))])


def _fence(code: str) -> str:
    return f"```python\n{code}\n```"


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def _frame(frame: pd.DataFrame) -> str:
    """A data frame as a Markdown table."""
    return _table(list(frame.columns), [[str(cell) for cell in row] for row in frame.itertuples(index=False)])


def datasets_table() -> str:
    """The datasets with what they hold, their size and their terms."""
    rows = [
        [
            f"{source.title} (`{name}`)",
            f"[`{source.handle}`](https://www.kaggle.com/datasets/{source.handle})",
            source.labels,
            f"{source.images:,}",
            f"{source.megabytes} MB",
            source.terms,
        ]
        for name, source in SOURCES.items()
    ]
    return _table(["Dataset", "On Kaggle", "Labels", "Images", "About", "Terms"], rows)


def criteria_table() -> str:
    """The criteria of a finished model."""
    rows = [
        [criterion.title, f"{'at least' if criterion.at_least else 'at most'} {criterion.bound:g} {criterion.unit}"]
        for criterion in CRITERIA.values()
    ]
    return _table(["Criterion", "Passed with"], rows)


def data_knobs_table() -> str:
    """Every knob of packing with its default, its range and what it does."""
    rows = [[f"`{knob.name}`", str(knob.default), _allowed(knob), _does(knob)] for knob in fields(PackConfig)]
    return _table(["Knob", "Default", "Allowed", "What it does"], rows)


def knobs_table() -> str:
    """Every knob with its values in the recipes, its range and what it does."""
    rows = []
    recipes = [config.flat() for config in RECIPES.values()]
    for knob in TrainConfig.knobs().values():
        values = [str(config[knob.name]) or "none" for config in recipes]
        rows.append([f"`{knob.name}`", *values, _allowed(knob), _does(knob)])
    return _table(["Knob", *(f"`{name}`" for name in RECIPES), "Allowed", "What it does"], rows)


def _allowed(knob: Field) -> str:
    about = knob.metadata
    if "low" in about:
        return f"{about['low']:g} to {about['high']:g}"
    choices = ("True", "False") if isinstance(knob.default, bool) else about.get("choices", ("text",))
    return ", ".join(choices)


def _does(knob: Field) -> str:
    return f"{knob.metadata['label']}. {knob.metadata['help']}"


def techniques_table() -> str:
    """Every augmentation technique with its probability and its amount at strength 1."""
    rows = [
        [f"`{name}`", technique.group, f"{technique.probability:.0%}", technique.amount(1.0)]
        for name, technique in TECHNIQUES.items()
    ]
    return _table(["Technique", "Group", "Applied to", "At most"], rows)
