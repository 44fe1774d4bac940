"""A user's own faces: a CSV file with the columns file, emotion, age and gender, any of the labels missing."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from helpers.config import AGE_RANGE, EMOTIONS, UNKNOWN, InputError, emotion_code, gender_code
from helpers.data.layouts.files import SURPLUS, Entry, Item, in_order, is_file, not_an_image, read_rows

_LABELS = ("emotion", "age", "gender")
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
        near = difflib.get_close_matches(name, _LABELS, n=1, cutoff=0.8)
        meant = _OTHER_NAMES.get(name) or (near[0] if near else name)
        if meant not in columns:
            raise InputError(f"{table} has a column {name!r}; did you mean {meant!r}?")
    if not set(columns) & set(_LABELS):
        raise InputError(
            f"{table} has no labels: found the columns {', '.join(columns)}, expected some of {', '.join(_LABELS)}."
        )
    root, named = Path(os.path.abspath(table.parent)), set()
    for number, row in enumerate(rows, start=1):
        item = _entry(root, number, row)
        named.add(item.path if isinstance(item, Entry) else item[0])
        yield item
    for folder in sorted({path.parent for path in named if is_file(path)}):
        for path in in_order(folder):
            if path not in named and is_file(path) and not_an_image(path) is None:
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
    if not is_file(path):
        return path, "in the CSV file, but there is no such file"
    emotion, age, gender = (row.get(name, "") for name in _LABELS)
    gender = gender.removesuffix(".0")  # a column with empty cells is written as decimal numbers by some programs
    codes = emotion_code(emotion) if emotion else UNKNOWN, gender_code(gender) if gender else UNKNOWN
    if codes[0] is None:
        near = difflib.get_close_matches(emotion.lower(), EMOTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f", which is not one of {', '.join(EMOTIONS)}"
        return path, f"emotion is {emotion!r}{hint}"
    if codes[1] is None:
        return path, f"gender is {gender!r}, which is neither male nor female"
    try:
        years = float(age) if age else math.nan
    except ValueError:
        return path, f"age is {age!r}, which is not a number"
    if age and not AGE_RANGE[0] <= years <= AGE_RANGE[1]:
        return path, f"age is {age}, which is not {AGE_RANGE[0]:g} to {AGE_RANGE[1]:g}"
    if codes == (UNKNOWN, UNKNOWN) and not age:
        return path, "the row has no label"
    return Entry(path, emotion=codes[0], age=years, gender=codes[1])
