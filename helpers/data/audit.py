"""Splits that do not move, and nothing that stands on both sides of one.

A row's split depends only on the hash of its own pixels, so it stays where it is when data is added, renamed or
reordered. Twins (see :mod:`helpers.data.twins`) never stand in two splits, within or across datasets.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.config import EMOTIONS, GENDERS, SPLITS, UNKNOWN

AGE_AGREEMENT = 5.0
"""Years within which the ages of twins count as one age, their median."""

_SHARES = {"train": (0.9, 1.0), None: (0.8, 0.9)}
"""Published split -> upper ends of the train and validation shares; what is left is test."""


def split_of(sha: str, published: str | None) -> str:
    """The split of a row: a published test set stays whole, everything else follows the hash of the pixels.

    Args:
        sha: hexadecimal SHA-256 of the row's pixels.
        published: ``train``, ``test``, or None where the dataset publishes no test set.
    """
    if published == "test":
        return "test"
    position = int(sha[:8], 16) / 2**32
    train, validation = _SHARES[published]
    return "train" if position < train else "validation" if position < validation else "test"


def audit(faces: pd.DataFrame, twins: np.ndarray | None = None) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Split the rows, leave out twins and rows without a label, and settle conflicting labels.

    Args:
        faces: the table of faces without its images; ``split`` is the published one.
        twins: the group of each row, int (N,); None means that rows with the same pixels are twins.

    Returns:
        The rows that stay, with the index of ``faces``, their final ``split`` and labels; and per dataset what was
        found and done, in numbers that JSON can hold.
    """
    faces = faces.assign(twins=faces["sha"] if twins is None else twins)
    published = faces["split"].astype(object).where(faces["split"].notna(), None)
    faces["split"] = [split_of(sha, split) for sha, split in zip(faces["sha"], published, strict=True)]
    rank = faces["split"].map(SPLITS.index)
    highest = rank.groupby(faces["twins"]).transform("max")
    kept = faces[rank == highest]
    settled = _settle(kept)
    labelled = (settled["emotion"] != UNKNOWN) | settled["age"].notna() | (settled["gender"] != UNKNOWN)
    result = settled[labelled].drop(columns="twins")

    report = {}
    for name in faces["dataset"].unique():
        own = faces["dataset"] == name
        lower = own & (rank < highest)
        dropped = settled[~labelled & (settled["dataset"] == name)]
        report[name] = {
            "rows": int(own.sum()),
            "identical": _repeated(faces, own, "sha"),
            "twins": _repeated(faces, own, "twins"),
            "examples": _examples(faces[own]),
            "left_out_twin_in_test": int((lower & (highest == SPLITS.index("test"))).sum()),
            "left_out_twin_in_validation": int((lower & (highest == SPLITS.index("validation"))).sum()),
            "left_out_without_label": len(dropped),
            "relabelled": int(_changed(faces, settled[settled["dataset"] == name]).sum()),
            **_counts(result[result["dataset"] == name]),
        }
    return result, report


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


def _examples(faces: pd.DataFrame, most: int = 4) -> list[list[dict]]:
    """A few groups of a dataset's twins to look at, those with conflicting labels or in two splits first."""
    repeated = faces[faces["twins"].duplicated(keep=False)]
    telling = _disagree(repeated) | (repeated.groupby("twins")["split"].transform("nunique") > 1)
    order = repeated.assign(telling=~telling).sort_values(["telling", "sha"], kind="stable")["twins"].unique()[:most]
    columns = ["name", "split", "emotion", "age", "gender"]
    groups = (repeated.loc[repeated["twins"] == group, columns].head(4) for group in order)
    return [group.astype(object).where(group.notna(), None).to_dict("records") for group in groups]


def _counts(faces: pd.DataFrame) -> dict[str, dict]:
    """Rows per split, and per split and class of each task."""
    decades = tuple(f"{start}s" for start in range(0, 120, 10))
    classes = {
        "emotion": _class_counts(faces["split"], faces["emotion"], EMOTIONS),
        "gender": _class_counts(faces["split"], faces["gender"], GENDERS),
        "age": _class_counts(faces["split"], faces["age"].fillna(10 * UNKNOWN) // 10, decades),
    }
    return {
        "splits": {split: int((faces["split"] == split).sum()) for split in SPLITS},
        "furthest": {split: _furthest(classes, split) for split in SPLITS},
        **classes,
    }


def _furthest(classes: dict[str, dict], split: str) -> dict | None:
    """The class whose share of a split is furthest from its share of the training split, and by how many points.

    Splits follow the hash of the pixels, not the labels, so the shares differ by chance; this tells by how much.
    """
    found = []
    for counts in classes.values():
        here, training = (sum(counts.get(name, {}).values()) for name in (split, "train"))
        if here and training:
            found += [
                {"class": name, "points": 100 * (count / here - counts["train"][name] / training)}
                for name, count in counts[split].items()
            ]
    return max(found, key=lambda one: abs(one["points"]), default=None)


def _disagree(faces: pd.DataFrame, key: str = "twins") -> pd.Series:
    """Rows of which another with the same ``key`` carries another known emotion, age or gender."""
    known = faces[["emotion", "age", "gender"]].astype("float32").replace(UNKNOWN, np.nan)
    distinct = known.groupby(faces[key]).nunique()  # does not count what is unknown
    return faces[key].map((distinct > 1).any(axis=1))


def _settle(faces: pd.DataFrame) -> pd.DataFrame:
    """One label per task for twins outside the test split; published and held-out test labels stay as they are."""
    faces = faces.copy()
    learned = faces["split"] != "test"
    for _, twins in faces[learned & faces["twins"].duplicated(keep=False) & _disagree(faces)].groupby("twins"):
        for column, settle in (("emotion", _majority), ("gender", _majority), ("age", _agreed_age)):
            known = twins[column][twins[column].notna() & (twins[column] != UNKNOWN)]
            if known.nunique() > 1:
                faces.loc[known.index, column] = settle(known)
    return faces


def _majority(labels: pd.Series) -> int:
    """The most frequent label; a tie is unknown."""
    counts = labels.value_counts()
    return int(counts.index[0]) if counts.iloc[0] > counts.iloc[1] else UNKNOWN


def _agreed_age(ages: pd.Series) -> float:
    """The median where all ages lie within AGE_AGREEMENT years, else unknown."""
    return float(ages.median()) if ages.max() - ages.min() <= AGE_AGREEMENT else np.nan


def _changed(before: pd.DataFrame, after: pd.DataFrame) -> pd.Series:
    """Rows of ``after`` with another label than in ``before``."""
    before = before.loc[after.index, ["emotion", "age", "gender"]].fillna(UNKNOWN)
    return (before != after[["emotion", "age", "gender"]].fillna(UNKNOWN)).any(axis=1)


def _class_counts(splits: pd.Series, codes: pd.Series, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Split -> class -> rows, empty where no row carries the label."""
    known = codes != UNKNOWN
    if not known.any():
        return {}
    counts = pd.crosstab(splits[known], codes[known].astype(int))
    counts = counts.reindex(index=SPLITS, columns=range(len(names)), fill_value=0)
    return {split: {name: int(counts.loc[split, code]) for code, name in enumerate(names)} for split in SPLITS}


def rejects_table(report: dict[str, dict], examples: int = 2) -> pd.DataFrame:
    """What could not be used, by dataset and reason, with a few names; the manifest lists every one."""
    rows = []
    for dataset, found in report.items():
        for reason, count in found["rejected"].items():
            names = [name for name, why in found["rejected_files"] if why == reason][:examples]
            rows.append((dataset, reason, count, ", ".join(names)))
    return pd.DataFrame(rows, columns=["dataset", "reason", "files", "for example"])


def audit_table(report: dict[str, dict]) -> pd.DataFrame:
    """The audit as a table to read, one column per dataset."""
    lines = {
        "files left out, by reason below": lambda found: sum(found["rejected"].values()),
        "faces read": lambda found: found["rows"],
        "groups of identical faces": lambda found: found["identical"]["groups"],
        "  of these with conflicting labels": lambda found: found["identical"]["conflicting"],
        "  test faces that also stand in training": lambda found: found["identical"]["leaked"],
        "groups of twins (identical or near)": lambda found: found["twins"]["groups"],
        "  of these with conflicting labels ": lambda found: found["twins"]["conflicting"],
        "  test faces that also stand in training ": lambda found: found["twins"]["leaked"],
        "left out: twin in the test split": lambda found: found["left_out_twin_in_test"],
        "left out: twin in the validation split": lambda found: found["left_out_twin_in_validation"],
        "left out: no label after a conflict": lambda found: found["left_out_without_label"],
        "labels settled by their twins": lambda found: found["relabelled"],
    } | {f"{split} faces": lambda found, split=split: found["splits"][split] for split in SPLITS}
    lines |= {
        f"{split} class furthest from its share in training": lambda found, split=split: _points(found, split)
        for split in SPLITS[1:]
    }
    return pd.DataFrame({name: {line: get(found) for line, get in lines.items()} for name, found in report.items()})


def _points(found: dict, split: str) -> str:
    """The class of :func:`_furthest` in a few words."""
    one = found["furthest"][split]
    return f"{one['class']} {one['points']:+.1f} points" if one else "none"
