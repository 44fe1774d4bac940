"""Tables of predictions as evaluation keeps them, made up for tests of measures."""

import numpy as np
import pandas as pd

from helpers.tasks import LABELS, TASKS, Classes


def blank(n: int, split: str = "test", **columns) -> pd.DataFrame:
    """A table of n faces of which nothing is known and everything answered with the first class, and 30 years."""
    names = [f"{split}/{row}.png" for row in range(n)]
    unknown = {name: cell for task in LABELS.values()
               for name, cell in zip(task.columns, task.cells(task.unknown), strict=True)}  # fmt: skip
    table = pd.DataFrame({"split": split, "row": range(n), "dataset": "own", "part": None, "name": names, **unknown})
    for task in TASKS.values():
        code = np.zeros(n, int)
        table = table.assign(**(answered(task, code) if task.classes else {f"{task.name}_answer": 30.0}))
    table = table.assign(**{"age_spread": 5.0} | columns)
    table.attrs["weights"] = "0123"
    return table


def answered(task: Classes, codes: np.ndarray, confidence: np.ndarray | float = 0.9) -> dict[str, np.ndarray]:
    """The columns of answers with these classes at this confidence; the other classes share the rest."""
    confidence = np.broadcast_to(confidence, len(codes))
    rest = (1 - confidence) / (len(task.classes) - 1)
    p = np.where(np.arange(len(task.classes)) == np.asarray(codes)[:, None], confidence[:, None], rest[:, None])
    return {f"{task.name}_answer": np.asarray(codes)} | {f"p_{name}": p[:, i] for i, name in enumerate(task.classes)}
