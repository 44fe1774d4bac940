"""A user's own faces: a CSV file with the columns file, emotion, age, gender, race, subject and split, most of them optional."""

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from helpers.data.layouts.files import PARTS, SPLITS, SURPLUS, Entry, Item, in_order, not_an_image, path_of, read_rows
from helpers.files import InputError
from helpers.tasks import GENDER, LABELS, TASKS, not_known

_USED = (*LABELS, "subject", "split")

_LOOKS_LIKE = {
    "age": "ages years", "emotion": "emotions expression expressions label labels class", "gender": "genders sex",
    "race": "races ethnicity", "subject": "subjects person persons people identity identities",
    "split": "splits usage fold folds subset partition phase",
}  # fmt: skip
_MEANING = {word: column for column, words in _LOOKS_LIKE.items() for word in (column, *words.split())}
"""Words in the names of columns, and the column that is meant: one left out in silence would be missed."""

_SPLIT_NAMES = ("set", "train", "test", "is_train", "is_test", "is_val", "train_test")
"""Whole names that mean a split, though their words alone need not."""

_FLAGS = {f"{prefix}{name}": name for name in GENDER.classes for prefix in ("", "is_")}
"""Columns that say yes or no to a class."""

_YES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


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
    splits = defaultdict[str | None, set](set)
    for item in items:
        if isinstance(item, Entry):
            splits[item.subject].add(item.split)
    if torn := [f"{name!r}" for name, found in splits.items() if name and len(found) > 1]:
        raise InputError(
            f"{table} has the subject {torn[0]} in more than one split; correct the column 'split', or take one of the "
            "columns 'split' and 'subject' out."
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
    renamed = {name: "split" for name in columns if name == "usage"} | {n: GENDER.name for n in columns if n in _FLAGS}
    for name in columns:
        meant = renamed.get(name) or _meaning(name)
        if name not in (*_USED, "file", *renamed) and meant != name:
            raise InputError(
                f"{table} has a column {name!r}; did you mean {meant!r}? Rename it to that, or take it out."
            )
        if twice := [other for other in columns if other != name and renamed.get(other, other) == meant]:
            raise InputError(
                f"{table} has the columns {twice[0]!r} and {name!r}, which say the same; keep one of them."
            )
    if not {renamed.get(name, name) for name in columns} & set(TASKS):
        raise InputError(
            f"{table} has no labels: found the columns {', '.join(columns)}, expected some of {', '.join(TASKS)}."
        )
    for row in rows:
        for name, ours in renamed.items():
            cell = row.pop(name)
            row[ours] = _gender(table, name, cell) if name in _FLAGS else cell


def _meaning(name: str) -> str:
    """The column of ours that a column looks like; its own name where it looks like none."""
    if name in _SPLIT_NAMES:
        return "split"
    for part in re.findall("[a-z]+", name):
        for word, column in _MEANING.items():
            if part == word or (len(word) > 5 and word in part) or (word == "age" and part.startswith(word)):
                return column
    return next(iter(difflib.get_close_matches(name, _USED, n=1, cutoff=0.8)), name)


def _gender(table: Path, column: str, cell: str) -> str:
    """The word for a cell of a column that says yes or no to a gender; what is neither stays as it is."""
    cell = cell.removesuffix(".0")
    if cell == "-1":  # CelebA writes it for no, most others for not known
        raise InputError(
            f"{table} has -1 in the column {column!r}; write 0 where it means no, else leave the cell empty."
        )
    yes = _YES.get(cell.lower())
    other = next(name for name in GENDER.classes if name != _FLAGS[column])
    return cell if yes is None else _FLAGS[column] if yes else other


def _settle_genders(table: Path, rows: list[dict[str, str]], codes: str) -> None:
    """Turn the codes of a column gender into words, or refuse them: datasets contradict each other."""
    words = dict(pair.split("=") for pair in codes.split()) if codes != "ask" else {}
    for row in rows:
        if number := re.fullmatch(r"([0-2])(?:\.0*)?", row.get(GENDER.name, "")):
            if not words:
                raise InputError(
                    f"{table} has {row[GENDER.name]} in the column 'gender', and 0 is male in UTKFace but female in "
                    "IMDB-WIKI: write male and female, or say what is meant by the field 'gender_codes'."
                )
            row[GENDER.name] = words.get(number[1], row[GENDER.name])


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
    labels = {}
    for name, label in LABELS.items():
        try:
            labels |= {name: label.parse(cells[name])} if cells[name] else {}
        except ValueError as error:
            unknown.append(str(error))
    if not labels.keys() & TASKS.keys():
        return path, "; ".join(unknown) or "the row has no label"
    usage = cells["split"].lower()
    return Entry(path, SPLITS.get(usage), labels, PARTS.get(usage), cells["subject"] or None, tuple(unknown))
