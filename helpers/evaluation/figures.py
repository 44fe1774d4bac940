"""The figures of an evaluation, from its measures and the table of predictions: shown in notebooks, or saved."""

import pandas as pd

from helpers import plots
from helpers.config import CRITERIA
from helpers.data.store import FaceStore
from helpers.evaluation.calibration import calibrated, coverage_curve, reliability
from helpers.evaluation.failures import attention, captions, judged, worst
from helpers.evaluation.verdict import verdict
from helpers.files import InputError
from helpers.plots import Picture
from helpers.runs.run import Run
from helpers.tasks import TASKS, Classes, Task, Years
from helpers.training.predict import load_best


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
    figures |= group_figures(metrics) | confidence_figures(table, metrics["calibration"]["fitted"])
    figures["scores"] = headline(run, metrics)
    for picture in figures.values():
        picture.about = {"weights": metrics["weights"]}
    return figures


def headline(run: Run, metrics: dict) -> Picture:
    """A card for each task: its test result with interval and count, and how its criterion judges it."""
    return plots.scores(score_cards(run, metrics), f"{run.title}, test split")


def score_cards(run: Run, metrics: dict) -> list[tuple[str, str, str, str, str]]:
    """What :func:`helpers.plots.scores` takes for each task, of an evaluation's ``metrics``."""
    findings = dict(zip(CRITERIA, verdict({"evaluation": metrics}, run.manifest["drawn"], run.weights), strict=True))
    cards = []
    for name, task in TASKS.items():
        found, finding = metrics.get("test", {}).get(name), findings[name]
        value, about = "-", "no test face has this label"
        if found:
            part = found[task.measure]
            value, low, high = (f"{task.scale * (part[end] or 0):.1f}" for end in ("value", "low", "high"))
            value, about = f"{value}{task.unit}", f"{low} to {high}, n = {part['n']}, {', '.join(found['by_dataset'])}"
        cards.append((task.title, value, about, f"{finding.wanted}: {finding.status}", finding.status))
    return cards


def group_figures(metrics: dict) -> dict[str, Picture]:
    """Each task's measure by group of people; nothing of a task whose faces have no known group."""
    figures = {}
    for name, task in TASKS.items():
        found = metrics.get("groups", {}).get(name, {})
        if any(key != "worst" and "note" not in parts for key, parts in found.items()):
            worst = found["worst"]
            told = f"worst: {worst['grouping']} {worst['group']}" if worst else "no group is clearly worse"
            title = f"{task.title.capitalize()} by group, test split; {told}"
            figures[f"groups_{name}"] = plots.groups(found, title, task.scale, task.unit)
    return figures


def confidence_figures(table: pd.DataFrame, fitted: dict[str, float]) -> dict[str, Picture]:
    """How far each task's calibrated confidence can be believed, on test faces."""
    figures, after = {}, calibrated(table, fitted)
    for name, task in TASKS.items():
        rows = judged(after, task)
        if task.classes and len(rows):
            sure, hits = rows["sure"].to_numpy(), ~rows["wrong"].to_numpy(bool)
            title = f"{name.capitalize()}: can its confidence be trusted?"
            bins, curve = reliability(sure, hits), coverage_curve(sure, hits)
            figures[f"confidence_{name}"] = plots.reliability(bins, *curve, title)
    return figures


def face_figures(run: Run, store: FaceStore, table: pd.DataFrame, count: int = 8) -> dict[str, Picture]:
    """Faces that it read right and wrong, and its most confident mistakes with what it looked at."""
    model, figures, drawn = load_best(run), {}, " (drawn faces)" if run.manifest["drawn"] else ""
    for name, task in TASKS.items():
        rows = judged(table, task)
        if not len(rows):
            continue
        right = rows[rows["wrong"] <= (0 if task.classes else 2)].sample(frac=1, random_state=0)  # not of one folder
        right, wrong = right.head(count), worst(rows, task, count)
        images = [store.image(row) for row in [*right["row"], *wrong["row"]]]
        titles, marks = captions(right, task) + captions(wrong, task), [False] * len(right) + [True] * len(wrong)
        title = f"{name.capitalize()}, test split{drawn}: read right, and (red) the worst mistakes"
        figures[f"faces_{name}"] = plots.faces(images, titles, count, title, marks)
        if task.classes and len(wrong):
            title = f"{name.capitalize()}{drawn}: the surest mistakes, and what it looked at"
            try:
                looked = [(face, attention(model, face, name)) for face in images[len(right) :]]
            except InputError as error:  # the answers stand without it
                run.log(str(error))
                continue
            pictures = [picture for pair in looked for picture in pair]
            titles = [text for caption in captions(wrong, task) for text in (caption, "looked at")]
            figures[f"mistakes_{name}"] = plots.faces(pictures, titles, count, title)
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
