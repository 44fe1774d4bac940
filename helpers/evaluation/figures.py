"""The figures of an evaluation, from its measures and the table of predictions: shown in notebooks, or saved."""

import pandas as pd

from helpers import plots
from helpers.plots import Picture
from helpers.runs.run import Run
from helpers.tasks import TASKS, Classes, Task, Years


def task_figures(name: str, metrics: dict, table: pd.DataFrame, drawn: bool) -> dict[str, Picture]:
    """What a task's answers on the test split look like; nothing where no test face carries its label.

    Args:
        name: of the task.
        metrics, table: see :mod:`helpers.evaluation.measures`.
        drawn: whether the faces are drawn, which every title then says.
    """
    if name not in metrics.get("test", {}):
        return {}
    title = f"{name.capitalize()}, test split{' (drawn faces)' if drawn else ''}"
    figures = _BY_KIND[type(TASKS[name])](TASKS[name], metrics["test"][name], table[table["split"] == "test"], title)
    for figure in figures.values():
        figure.about = {"weights": metrics["weights"]}
    return figures


def all_figures(run: Run, metrics: dict, table: pd.DataFrame) -> dict[str, Picture]:
    """The curves of a run and the figures of every task, by the names of their files."""
    drawn = run.manifest["drawn"]
    figures = {"curves": plots.curves(run.history, run.title)}
    for name in TASKS:
        figures |= task_figures(name, metrics, table, drawn)
    figures["curves"].about = {"weights": metrics["weights"]}
    return figures


def _of_classes(task: Task, found: dict, table: pd.DataFrame, title: str) -> dict[str, Picture]:
    return {
        f"confusion_{task.name}": plots.confusion(found["confusion"], task.classes, title),
        f"classes_{task.name}": plots.per_class(found["per_class"], title),
    }


def _of_years(task: Task, found: dict, table: pd.DataFrame, title: str) -> dict[str, Picture]:
    labels, answers = task.read(table), table[f"{task.name}_answer"].to_numpy()
    known = task.known(labels)
    scores = task.scores(labels[known], answers[known])
    return {task.name: plots.ages(labels[known].mean(axis=1), answers[known], scores, title)}


_BY_KIND = {Classes: _of_classes, Years: _of_years}
