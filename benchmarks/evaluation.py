"""Evaluation: what measures and figures of many predictions cost, and what predicting costs beside its forward passes.

The predictions are made up: right in two of three cases, at a confidence that is honest, for faces of every dataset,
gender, age and race. Predicting is compared with the same network's forward passes on batches that lie ready.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import finish, opened, paired, parser, ratio
from helpers.config import recipe
from helpers.data.store import FaceStore
from helpers.evaluation.figures import all_figures
from helpers.evaluation.measures import measure
from helpers.tasks import RACE, TASKS
from helpers.training.model import create_model
from helpers.training.predict import BATCH_SIZE, predict
from helpers.training.processes import computing_with, cpu_threads

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def made_up(rows: int) -> pd.DataFrame:
    """A table of predictions as evaluation keeps them."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(0, 100, rows).astype(np.float32)
    table: dict[str, Any] = {
        "split": rng.choice(["train", "validation", "test"], rows, p=[0.1, 0.1, 0.8]),
        "row": np.arange(rows),
        "dataset": rng.choice(["fer2013", "utkface"], rows),
        "part": None,
        "name": [f"{row}.jpg" for row in range(rows)],
        "copied": rng.random(rows) < 0.1,
        "age_low": ages,
        "age_high": ages,
        "race": rng.integers(-1, len(RACE.classes), rows),
        "age_answer": ages + rng.normal(0, 6, rows),
        "age_spread": rng.uniform(3, 9, rows),
    }
    for task in TASKS.values():
        if task.classes:
            count = len(task.classes)
            p = rng.dirichlet(np.full(count, 0.3), rows)
            truth = (p.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
            table |= {task.name: truth, f"{task.name}_answer": p.argmax(axis=1)}
            table |= {f"p_{name}": p[:, code] for code, name in enumerate(task.classes)}
    found = pd.DataFrame(table)
    found.attrs["weights"] = "made up"
    return found


def predicting(store: FaceStore, rounds: int, rows: int, **changes) -> float:
    """The time of predicting faces by that of their forward passes, of one network."""
    config = recipe("production", weights="none", **changes)
    model = create_model(config.model).to(DEVICE)
    chosen = np.resize(store.rows("train"), rows)
    # Reading and resizing are not in it: pixels that lie ready, batch by batch.
    ready = torch.rand(BATCH_SIZE, 3, config.model.img_size, config.model.img_size, device=DEVICE)

    def whole() -> float:
        start = time.perf_counter()
        predict(model, store, np.sort(chosen), workers=config.data.workers)
        return rows / (time.perf_counter() - start)

    @torch.inference_mode()
    def forward() -> float:
        start = time.perf_counter()
        for first in range(0, rows, BATCH_SIZE):
            for output in model(ready[: rows - first]).values():
                output.float().cpu()
        return rows / (time.perf_counter() - start)

    with computing_with(cpu_threads(torch.device(DEVICE))):
        return ratio(paired(rounds, {"forward passes": forward, "predicting": whole}), "forward passes", "predicting")


def main() -> None:
    """Measure, print the table and the last line."""
    made = parser(__doc__.partition("\n")[0])
    made.add_argument("--predictions", type=int, default=100_000, help="(default: %(default)s)")
    made.add_argument("--predict", type=int, default=512, help="faces that are predicted (default: %(default)s)")
    made.add_argument("--backbone", default="efficientnet_b2", help="beside the recipe small's (default: %(default)s)")
    made.add_argument("--size", type=int, default=224, help="its pixels (default: %(default)s)")
    options = made.parse_args()
    with opened(options.faces) as store:
        table, start = made_up(options.predictions), time.perf_counter()
        metrics = measure(table)
        measured = time.perf_counter() - start
        run: Any = SimpleNamespace(manifest={"drawn": True}, history=[], title="made up", weights="made up")
        for figure in all_figures(run, metrics, table).values():
            figure.png()
        drawn = time.perf_counter() - start - measured
        print(f"{options.predictions:,} predictions: measures {measured:.1f} s, figures {drawn:.1f} s", flush=True)
        small = recipe("small").model
        ratios = {
            "large": predicting(
                store, options.rounds, options.predict, backbone=options.backbone, img_size=options.size
            ),
            # So many that starting the loader's process, which takes a second, does not count.
            "small": predicting(
                store, options.rounds, 16 * options.predict, backbone=small.backbone, img_size=small.img_size
            ),
        }
        finish(store, measures_s=round(measured, 1), figures_s=round(drawn, 1),
               predicting_by_forward={name: round(value, 3) for name, value in ratios.items()})  # fmt: skip


if __name__ == "__main__":
    main()
