"""All runs side by side."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from helpers.config import InputError, read_json
from helpers.training.epochs import gap
from helpers.training.run import Run

COLUMNS = ("run", "epochs", "minutes", "emotion %", "gender %", "age error", "gap", "finished", "what differs")


def runs_table(folder: Path) -> pd.DataFrame:
    """One line for each run in a folder, the best emotion accuracy first, by its best epoch on the validation split.

    Args:
        folder: ``<workspace>/runs``.

    Returns:
        A table with COLUMNS; the last one names the knobs in which the runs differ. Runs without a complete epoch are
        left out, and damaged ones are listed with the reason.
    """
    lines: list[dict] = []
    configs: dict[int, dict] = {}
    for place in sorted(folder.iterdir() if folder.is_dir() else ()):
        if not Run.exists(place) or not (place / "results.json").exists():
            continue
        try:
            run, results = Run.open(place), read_json(place / "results.json", "what training reached")
        except InputError as error:
            lines.append({"run": place.name, "what differs": str(error)})
            continue
        lines.append({"finished": results["finished"]} | _line(run, results))
        configs[len(lines) - 1] = dataclasses.asdict(run.config)
    differing = [name for name in next(iter(configs.values()), {}) if len({str(c[name]) for c in configs.values()}) > 1]
    for number, config in configs.items():
        lines[number]["what differs"] = ", ".join(f"{name} {config[name]}" for name in differing)
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.sort_values("emotion %", ascending=False, ignore_index=True)


def _line(run: Run, results: dict) -> dict:
    best = results["best"]
    percent = {name: None if best[f"val_{name}_accuracy"] is None else round(100 * best[f"val_{name}_accuracy"], 1)
               for name in ("emotion", "gender")}  # fmt: skip
    between = gap(best)
    return {
        "run": run.folder.name + (" (drawn faces)" if run.manifest["drawn"] else ""),
        "epochs": results["epochs"],
        "minutes": round(results["minutes"], 1),
        "emotion %": percent["emotion"],
        "gender %": percent["gender"],
        "age error": None if best["val_age_mae"] is None else round(best["val_age_mae"], 1),
        "gap": None if between is None else round(100 * between, 1),
    }
