"""A user's own faces: a CSV file with the columns file, emotion, age and gender, any of the labels missing."""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from helpers.data.layouts.files import SURPLUS, Entry, Item, in_order, not_an_image, path_of, read_rows
from helpers.files import InputError
from helpers.tasks import TASKS

_OTHER_NAMES = {"sex": "gender", "expression": "emotion", "label": "emotion", "years": "age"}
"""Columns that mean a label and are not called so: left out in silence, they would be missed."""


def list_own(table: Path) -> Iterator[Item]:
    """An entry or (path, reason) for every row, and (path, reason) for images beside them that no row names.

    Args:
        table: the CSV file. ``file`` is a path below its folder; an empty cell, or a column that is not there, means
            that the label is not known. Emotions and genders are words in any of the usual spellings, ages are years.

    Raises:
        InputError: the file cannot be read, or lacks the column file or every label.
    """
    rows = read_rows(table, ("file",))
    if not rows:
        raise InputError(f"{table} has no rows below its header; write one for each face.")
    columns = [name for name in rows[0] if name != SURPLUS]
    for name in columns:
        near = [*difflib.get_close_matches(name, TASKS, n=1, cutoff=0.8), name]
        meant = _OTHER_NAMES.get(name, near[0])
        if meant not in columns:
            raise InputError(f"{table} has a column {name!r}; did you mean {meant!r}?")
    if not set(columns) & set(TASKS):
        raise InputError(
            f"{table} has no labels: found the columns {', '.join(columns)}, expected some of {', '.join(TASKS)}."
        )
    root = Path(os.path.abspath(table.parent))
    items = [_entry(root, number, row) for number, row in enumerate(rows, start=1)]
    yield from items
    named = {path_of(item) for item in items}
    for folder in sorted({path.parent for path in named if os.path.isfile(path)}):
        for path in in_order(folder):
            if path not in named and path.is_file() and not_an_image(path) is None:
                yield path, f"no row in {table.name}"


def _entry(root: Path, number: int, row: dict[str, str]) -> Item:
    """The entry of a row (``number`` counts from 1 below the header), or why it cannot be used."""
    file = row["file"].replace("\\", "/")
    if not file:
        return root / f"row {number}", "no file is named in the row"
    path = Path(os.path.normpath(root / file))
    if not path.is_relative_to(root):
        return root / file.lstrip("/."), "lies outside the folder of the CSV file"
    if row.get(SURPLUS):
        return path, "more cells than columns in the row"
    if problem := not_an_image(path):
        return problem
    if not os.path.isfile(path):
        return path, "in the CSV file, but there is no such file"
    try:
        labels = {name: task.parse(row[name]) for name, task in TASKS.items() if row.get(name)}
    except ValueError as error:
        return path, str(error)
    return Entry(path, labels=labels) if labels else (path, "the row has no label")
