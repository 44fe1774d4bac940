"""A user's own faces: a CSV file of file, some of emotion, age and gender, and perhaps race, subject and split."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.data.layouts.files import PARTS, SPLITS, SURPLUS, Entry, Item, in_order, not_an_image, path_of, read_rows
from helpers.files import InputError
from helpers.tasks import GENDER, LABELS, TASKS, not_known

_USED = (*LABELS, "subject", "split")

_LOOKS_LIKE = {
    "age": "ages years", "gender": "genders sex", "race": "races ethnicity",
    "subject": "subjects person persons people identity identities",
    "split": "splits usage fold folds subset set partition phase train is_test is_val",
    "emotion": "emotions expression expressions label labels class",
}  # fmt: skip
_MEANING = {word: column for column, words in _LOOKS_LIKE.items() for word in (column, *words.split())}
"""Words in the names of columns, and the column that is meant: one left out in silence would be missed."""

_FLAGS = {f"{prefix}{name}": name for name in GENDER.classes for prefix in ("", "is_")}
"""Columns that say yes or no to a gender."""


def list_own(table: Path, gender_codes: str = "ask") -> Iterator[Item]:
    """An entry or (path, reason) for every row, and (path, reason) for images beside them that no row names.

    Args:
        table: the CSV file. ``file`` is a path below its folder; an empty cell, or a column that is not there, means
            that the label is not known, and so does a cell that cannot be read, which is counted. Emotions, genders and
            races are words in any of the usual spellings, ages are years or ranges. Rows of one ``subject`` stay in one
            split; ``split`` (or ``usage``) holds the published one.
        gender_codes: what numbers in the column gender mean, such as ``0=male 1=female``; ``ask``: they are refused.

    Raises:
        InputError: the file cannot be read, lacks the column file or every label, holds a column that looks like one of
            ours or a number for a gender, or has one subject in two splits.
    """
    rows = list(read_rows(Path(os.path.realpath(table)), ("file",)))
    if not rows:
        raise InputError(f"{table} has no rows below its header; write one for each face.")
    _settle_columns(table, rows)
    _settle_genders(table, rows, gender_codes)
    root = Path(os.path.abspath(table.parent))
    items = [_entry(root, number, row) for number, row in enumerate(rows, start=1)]
    placed = {(item.subject, item.split) for item in items if isinstance(item, Entry) and item.subject}
    if torn := [name for name, splits in Counter(name for name, _ in placed).items() if splits > 1]:
        raise InputError(
            f"{table} has the subject {torn[0]!r} in more than one split; correct the column 'split', or take one of "
            "the columns 'split' and 'subject' out."
        )
    yield from items
    named = {path_of(item) for item in items}
    for folder in sorted({path.parent for path in named if os.path.isfile(path)}):
        for path in in_order(folder):
            if path not in named and path.is_file() and not_an_image(path) is None:
                yield path, f"no row in {table.name}"


def _settle_columns(table: Path, rows: list[dict[str, str]]) -> None:
    """Give the columns that are read their own names; refuse those that look like them."""
    columns = [name for name in rows[0] if name != SURPLUS]
    ours = {name: name for name in _USED} | {"usage": "split"} | dict.fromkeys(_FLAGS, GENDER.name)
    for name in columns:
        meant = ours.get(name) or _meaning(name)
        if name not in ours and meant != name:
            raise InputError(f"{table} has a column {name!r}; did you mean {meant!r}? Rename it, or take it out.")
        if twice := [other for other in columns if other != name and ours.get(other) == meant]:
            raise InputError(f"{table} has the columns {twice[0]!r} and {name!r}, which mean the same; keep one.")
    if not {ours.get(name) for name in columns} & TASKS.keys():
        raise InputError(
            f"{table} has no labels: found the columns {', '.join(columns)}, expected some of {', '.join(TASKS)}."
        )
    for row in rows:
        row |= {ours[name]: row[name] for name in columns if name in ours}


def _meaning(name: str) -> str:
    """The column of ours that a column looks like; its own name where it looks like none."""
    parts = [name, *re.findall("[a-z]+", name)]
    found = (meant for word, meant in _MEANING.items() for part in parts if part == word
             or (len(word) > 5 and word in part) or (word in TASKS and part.startswith(word)))  # fmt: skip
    return next(found, next(iter(difflib.get_close_matches(name, _USED, n=1, cutoff=0.8)), name))


def _settle_genders(table: Path, rows: list[dict[str, str]], codes: str) -> None:
    """Turn codes of the gender into words, or refuse them where datasets contradict each other."""
    column, words = next((name for name in rows[0] if name in _FLAGS), GENDER.name), {}
    if column in _FLAGS:
        no = next(name for name in GENDER.classes if name != _FLAGS[column])
        words = dict.fromkeys(("1", "true", "yes"), _FLAGS[column]) | dict.fromkeys(("0", "false", "no"), no)
        refused = {"-1": "which is no in CelebA and not known elsewhere; write 0, or leave the cell empty"}
    else:
        words |= dict(pair.split("=") for pair in codes.split() if codes != "ask")
        why = "and 0 is male in UTKFace, female in IMDB-WIKI; write the words, or say in 'gender_codes' what is meant"
        refused = dict.fromkeys("" if words else "012", why)
    for row in rows:
        code = re.sub(r"\.0*$", "", cell := row.get(GENDER.name, "")).lower()
        if code in refused and not row.get(SURPLUS):  # whose cells are not in their columns
            raise InputError(f"{table} has {cell} in the column {column!r}, {refused[code]}.")
        row[GENDER.name] = words.get(code, cell)


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
    if not os.path.exists(path):
        return path, "in the CSV file, but there is no such file"
    cells = {name: "" if not_known(row.get(name, "")) else row.get(name, "") for name in _USED}
    unknown = [f"{name} is given as not known" for name in LABELS if row.get(name) and not cells[name]]
    if cells["split"] and cells["split"].lower() not in SPLITS:
        return path, f"split is {cells['split'][:40]!r}, which is not train, validation or test"
    labels = dict[str, Any]()
    for name, label in LABELS.items():
        try:
            labels |= {name: label.parse(cells[name])} if cells[name] else {}
        except ValueError as error:
            unknown.append(str(error))
    if not labels.keys() & TASKS.keys():
        return path, "; ".join(unknown) or "the row has no label"
    usage = cells["split"].lower()
    return Entry(path, SPLITS.get(usage), labels, PARTS.get(usage), cells["subject"] or None, tuple(unknown))
