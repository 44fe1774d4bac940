"""All runs side by side."""

import math
from pathlib import Path

import pandas as pd

from helpers.files import InputError
from helpers.runs.run import Run
from helpers.tasks import TASKS

_SCALES = {"minutes": 1.0, **{task.brief + task.unit: task.scale for task in TASKS.values()}, "gap": 100.0}
"""Columns of numbers, and the factor of each."""

COLUMNS = ("run", "epochs", *_SCALES, "finished", "what differs")


def runs_table(*folders: Path) -> pd.DataFrame:
    """One line for each run in some folders by its best epoch on the validation split, the best emotion accuracy first.

    Args:
        folders: ``<workspace>/runs``, and others in which a run of the same name is passed over.

    Returns:
        A table with COLUMNS; the last one names the knobs in which the runs differ. Runs without a complete epoch are
        left out, and damaged ones are listed with the reason.
    """
    lines: list[dict] = []
    configs: dict[int, dict] = {}
    for place in found_runs(*folders).values():
        try:
            run = Run.open(place)
            results = run.read_results()
        except InputError as error:
            lines.append({"run": place.name, "what differs": str(error)})
            continue
        configs[len(lines)] = run.config.flat()
        best = {task.brief + task.unit: results["best"][f"val_{task.key}"] for task in TASKS.values()}
        line = results | best | {"run": run.title.removeprefix("Run "), "gap": results["best"]["gap"]}
        lines.append(line | {name: math.nan if line[name] is None else line[name] for name in _SCALES})
    differing = [name for name in next(iter(configs.values()), {}) if len({str(c[name]) for c in configs.values()}) > 1]
    for number, config in configs.items():
        lines[number]["what differs"] = ", ".join(f"{name} {config[name]}" for name in differing)
    table = pd.DataFrame(lines, columns=COLUMNS)
    for column, scale in _SCALES.items():
        table[column] = (scale * table[column].astype(float)).round(1)
    first = next(iter(TASKS.values()))
    return table.sort_values(first.brief + first.unit, ascending=not first.larger_is_better, ignore_index=True)


def found_runs(*folders: Path) -> dict[str, Path]:
    """The runs in some folders by their name; of one name the first."""
    places = [path.parent for folder in reversed(folders) for path in sorted(folder.glob("*/results.json"))]
    return {place.name: place for place in filter(Run.exists, places)}
