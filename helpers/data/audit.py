"""Splits that do not move, and nothing that stands on both sides of one.

A row's split depends only on the hash of its own pixels, or of its person, so it stays where it is when data is added,
renamed or reordered. Twins (copies of one picture, see :mod:`helpers.data.twins`) never stand in two splits, within or
across datasets, and are the only faces whose labels are settled with one another.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from helpers.files import InputError
from helpers.tasks import TASKS, UNKNOWN, Task

SPLITS = ("train", "validation", "test")

LABEL_COLUMNS = [name for task in TASKS.values() for name in task.columns]
"""Columns of the table of faces that hold what is learned."""


def split_of(sha: str, published: str | None) -> str:
    """The split of a row: published validation and test sets stay whole, everything else follows a hash.

    Args:
        sha: hexadecimal SHA-256 of the row's pixels, or of its person, see :func:`split_keys`.
        published: the split that the dataset publishes it in, or None where it publishes none.
    """
    if published in ("validation", "test"):
        return published
    position = int(sha[:8], 16) / 2**32
    train, validation = (0.9, 1.0) if published == "train" else (0.8, 0.9)  # where each share ends; the rest is test
    return "train" if position < train else "validation" if position < validation else "test"


def split_keys(faces: pd.DataFrame) -> pd.Series:
    """What decides each row's split: the hash of its pixels, or of its dataset and ``subject`` where it has one."""
    if "subject" not in faces:
        return faces["sha"]
    persons = faces["dataset"] + "/" + faces["subject"]
    hashes = {person: hashlib.sha256(person.encode()).hexdigest() for person in persons.dropna().unique()}
    return persons.map(hashes).fillna(faces["sha"])


def leave_out(faces: pd.DataFrame, listed: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """The faces without the labels that are listed; those of test faces stay, whoever doubts them.

    Args:
        faces: the table of faces without its images; ``split`` is the published one.
        listed: rows with ``sha``, of the pixels, and ``task``.

    Raises:
        InputError: a task is not one of ours, or not one row is of a face that is there.
    """
    faces, doubted = faces.copy(), dict[str, set[str]]()
    for row in listed:
        doubted.setdefault(row["task"], set()).add(row["sha"])
    if unknown := doubted.keys() - TASKS.keys():
        raise InputError(
            f"The list of labels to leave out names the task {min(unknown)!r}, but there are {', '.join(TASKS)}; "
            "correct its column task."
        )
    if doubted and not faces["sha"].isin(set.union(*doubted.values())).any():
        raise InputError(
            "Not one row of the list of labels to leave out is of a face that is packed; its column sha was expected "
            "to be as the step labels wrote it: make the list anew for these datasets."
        )
    learned = np.array([split_of(key, at) != "test" for key, at in zip(split_keys(faces), faces["split"], strict=True)])
    for name in doubted:
        rows = faces["sha"].isin(doubted[name]) & learned
        for column, cell in zip(TASKS[name].columns, TASKS[name].cells(TASKS[name].unknown), strict=True):
            faces.loc[rows, column] = cell
    return faces


def audit(
    faces: pd.DataFrame, twins: np.ndarray | None = None, near: np.ndarray | None = None
) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Split the rows, leave out twins and rows without a label, and settle conflicting labels.

    Args:
        faces: the table of faces without its images; ``split`` is the published one.
        twins: the group of each row, int (N,); None means that rows with the same pixels are twins.
        near: pairs of rows that are much alike but no twins, int (P, 2); they are counted and stay where they are.

    Returns:
        The rows that stay, with the index of ``faces``, their final ``split`` and labels, and ``copied``: whether a row
        of a published test set has a twin in the training set published with it. And per dataset what was found and
        done, in numbers that JSON can hold.
    """
    faces = faces.assign(twins=faces["sha"] if twins is None else twins)
    published = faces["split"]
    faces["split"] = [split_of(key, split) for key, split in zip(split_keys(faces), published, strict=True)]
    both = (published == "train").groupby([faces["dataset"], faces["twins"]]).transform("any")
    faces["copied"] = both & (published == "test")
    rank = faces["split"].map(SPLITS.index)
    highest = rank.groupby(faces["twins"]).transform("max")
    kept = faces[rank == highest]
    settled = _settle(kept)
    labelled = pd.Series(np.any([task.known(task.read(settled)) for task in TASKS.values()], axis=0), settled.index)

    before = faces.loc[settled.index, LABEL_COLUMNS].fillna(UNKNOWN)
    relabelled = (settled[LABEL_COLUMNS].fillna(UNKNOWN) != before).any(axis=1)

    pairs = faces["twins"].to_numpy()[np.zeros((0, 2), int) if near is None else near]
    alike, across = _near(settled[labelled], pairs)
    report = {}
    for name in faces["dataset"].unique():
        own, mine = faces["dataset"] == name, settled["dataset"] == name
        lower, left = own & (rank < highest), settled[mine & labelled]
        classes = {key: _group_counts(left, task) for key, task in TASKS.items()}
        report[name] = {
            "rows": int(own.sum()),
            "identical": _repeated(faces, own, "sha"),
            "twins": _repeated(faces, own, "twins"),
            "examples": _examples(faces[own]),
            "near": {"faces": int((alike & mine).sum()), "across": int((across & mine).sum())},
            "copied": int(left["copied"].sum()),
            "left_out_twin_in_test": int((lower & (highest == SPLITS.index("test"))).sum()),
            "left_out_twin_in_validation": int((lower & (highest == SPLITS.index("validation"))).sum()),
            "left_out_without_label": int((mine & ~labelled).sum()),
            "relabelled": int((mine & relabelled).sum()),
            "splits": {split: int((left["split"] == split).sum()) for split in SPLITS},
            "emptied": [split for split in SPLITS if split in set(faces["split"][own]) - set(kept["split"][own])],
            "persons": left.groupby("split")["subject"].nunique().to_dict() if "subject" in left else {},
            "furthest": {split: _furthest(classes, split) for split in SPLITS},
            **classes,
        }
    return settled[labelled].drop(columns="twins"), report


def _repeated(faces: pd.DataFrame, own: pd.Series, key: str) -> dict[str, int]:
    """What stands more than once in a dataset's rows ``own``, where equal ``key`` means the same face.

    ``leaked`` counts test rows of which another copy stood where a model learns or is chosen.
    """
    groups, test = faces[key], faces["split"] == "test"
    repeated = own & groups.duplicated(keep=False)
    return {
        "groups": int(groups[repeated].nunique()),
        "conflicting": int(groups[repeated & _disagree(faces, key)].nunique()),
        "largest": int(groups[repeated].value_counts().max()) if repeated.any() else 0,
        "leaked": int((own & test & groups.isin(set(groups[~test]))).sum()),
    }


def _near(faces: pd.DataFrame, pairs: np.ndarray) -> tuple[pd.Series, pd.Series]:
    """Rows whose group is in one of the pairs of groups, (P, 2), and those of which the other is in a lower split."""
    rank = faces["split"].map(SPLITS.index).groupby(faces["twins"]).first()
    pairs = pairs[np.isin(pairs, rank.index).all(axis=1)]
    ranks = rank.loc[pairs.ravel()].to_numpy().reshape(-1, 2)
    return faces["twins"].isin(pairs.ravel()), faces["twins"].isin(pairs[ranks > ranks[:, ::-1]])


def _examples(faces: pd.DataFrame, most: int = 4) -> list[list[dict]]:
    """A few groups of a dataset's twins to look at, those with conflicting labels or in two splits first."""
    repeated = faces[faces["twins"].duplicated(keep=False)]
    telling = _disagree(repeated) | (repeated.groupby("twins")["split"].transform("nunique") > 1)
    order = repeated.assign(telling=~telling).sort_values(["telling", "sha"], kind="stable")["twins"].unique()[:most]
    groups = (repeated.loc[repeated["twins"] == group, ["name", "split", *LABEL_COLUMNS]].head(4) for group in order)
    return [group.astype(object).where(group.notna(), None).to_dict("records") for group in groups]


def _furthest(classes: dict[str, dict], split: str) -> dict | None:
    """The class whose share of a split is furthest from its share of the training split, and by how many points.

    Splits follow the hash of the pixels, not the labels, so the shares differ by chance; this tells by how much.
    """
    found = []
    for counts in classes.values():
        here, training = (sum(counts.get(name, {}).values()) for name in (split, "train"))
        if here and training:
            for name, count in counts[split].items():
                found.append({"class": name, "points": 100 * (count / here - counts["train"][name] / training)})
    return max(found, key=lambda one: abs(one["points"]), default=None)


def _disagree(faces: pd.DataFrame, key: str = "twins") -> pd.Series:
    """Rows of which another with the same ``key`` carries another known label."""
    known = faces[LABEL_COLUMNS].astype("float32").replace(UNKNOWN, np.nan)
    return faces[key].map((known.groupby(faces[key]).nunique() > 1).any(axis=1))  # counts nothing that is unknown


def _settle(faces: pd.DataFrame) -> pd.DataFrame:
    """One label per task for twins outside the test split; published and held-out test labels stay as they are."""
    faces = faces.copy()
    learned = faces["split"] != "test"
    for _, twins in faces[learned & faces["twins"].duplicated(keep=False) & _disagree(faces)].groupby("twins"):
        for task in TASKS.values():
            labels = task.read(twins)
            known = task.known(labels)
            if len(np.unique(labels[known], axis=0)) > 1:
                faces.loc[twins.index[known], list(task.columns)] = task.cells(task.settled(labels[known]))
    return faces


def _group_counts(faces: pd.DataFrame, task: Task) -> dict[str, dict[str, int]]:
    """Split -> group of the task, its classes or decades -> rows; empty where no row carries the label."""
    numbers, found = task.group_of(task.read(faces)), {}
    if (numbers == UNKNOWN).all():
        return {}
    for split in SPLITS:
        counts = np.bincount(numbers[(faces["split"] == split) & (numbers != UNKNOWN)], minlength=len(task.groups))
        found[split] = dict(zip(task.groups, counts.tolist(), strict=True))
    return found


def rejects_table(report: dict[str, dict], examples: int = 2) -> pd.DataFrame:
    """What could not be used, files and labels, by dataset and reason, with a few names; the manifest lists all."""
    rows = []
    for dataset, found in report.items():
        for what, counts, listed in (("file", "rejected", "rejected_files"), ("label", "unknown", "unknown_labels")):
            for reason, count in found[counts].items():
                names = [name for name, why in found[listed] if why == reason][:examples]
                rows.append((dataset, what, reason, count, ", ".join(names)))
    return pd.DataFrame(rows, columns=["dataset", "left out", "reason", "count", "for example"])


def audit_table(report: dict[str, dict]) -> pd.DataFrame:
    """The audit as a table to read, one column per dataset, and the total of what can be added up."""
    table = pd.DataFrame({name: _lines(found) for name, found in report.items()}, dtype=object).fillna("")
    counts = table.map(lambda cell: cell if isinstance(cell, int | np.integer) else None)
    return table.assign(total=counts.sum(axis=1, min_count=1).map(lambda sum_: "" if pd.isna(sum_) else int(sum_)))


def _lines(found: dict) -> dict[str, object]:
    """A dataset's column of the table."""
    identical, twins = found["identical"], found["twins"]
    lines = {
        "files left out, by reason below": sum(found["rejected"].values()),
        "labels not known, by reason below": sum(found.get("unknown", {}).values()),
        "faces read": found["rows"],
        "groups of twins (identical, saved again, cropped a little)": twins["groups"],
        "  of these pixel for pixel identical": identical["groups"],
        "  of these with conflicting labels": twins["conflicting"],
        "test faces that also stand in training": twins["leaked"],
        "left out: twin in the test split": found["left_out_twin_in_test"],
        "left out: twin in the validation split": found["left_out_twin_in_validation"],
        "left out: no label after a conflict": found["left_out_without_label"],
        "labels settled by their twins": found["relabelled"],
        **{f"{split} faces": found["splits"][split] for split in SPLITS},
        **{f"{split} persons": found["persons"].get(split, 0) for split in SPLITS if any(found["persons"].values())},
        "test faces with a twin in the training set published with them": found["copied"],
        "faces much like another that is no twin": found["near"]["faces"],
        "  of these in a higher split than the other": found["near"]["across"],
        "splits left empty, since their faces were twins": ", ".join(found["emptied"]) or "none",
    }
    for split in SPLITS[1:]:
        one = found["furthest"][split]
        words = f"{one['class']} {one['points']:+.1f} points" if one else "none"
        lines[f"{split} class furthest from its share in training"] = words
    return lines
