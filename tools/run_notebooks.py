"""Runs notebooks in order without a display or a click, as ``make demo`` and the tests do."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # the kernels would each print four lines about it

DEMO = {
    "02": {"SOURCE": "sample"},
    "04": {"RECIPE": "demo", "RUN": "demo"},
    "05": {"RUN": "demo"},
    "06": {"RUN": "demo"},
    "07": {"RUN": "demo"},
}
"""What the demo sets in the notebooks' parameters cells."""


class _EchoingClient(NotebookClient):
    """Shows on this terminal what the cells print."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream" and msg["content"]["name"] == "stdout":
            sys.stdout.write("   " + msg["content"]["text"].replace("\n", "\n   ").rstrip(" "))
            sys.stdout.flush()
        return super().process_message(msg, cell, cell_index)


def run_notebook(path: Path, parameters: dict, executed: Path, echo: bool = True) -> nbformat.NotebookNode:
    """Execute a notebook with some parameters set; the executed copy is written even when a cell fails.

    Args:
        path: the notebook.
        parameters: name -> value, set in a cell after each one tagged ``parameters`` that knows them.
        executed: where the executed copy goes.
        echo: show what the cells print.

    Raises:
        ValueError: parameters are given, but the notebook has no parameters cell or does not know one of them.
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    _set_parameters(notebook, parameters, path.name)
    client = (_EchoingClient if echo else NotebookClient)(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    try:
        client.execute()
    finally:
        executed.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, executed)
    return notebook


def _set_parameters(notebook: nbformat.NotebookNode, parameters: dict, name: str) -> None:
    """Put a cell that sets the parameters behind each cell that is tagged so and knows one of them."""
    cells, known = [], set()
    for cell in notebook.cells:
        cells.append(cell)
        if "parameters" in cell.metadata.get("tags", []):
            here = [parameter for parameter in parameters if f"{parameter} = " in cell.source]
            known |= set(here)
            lines = [f"{parameter} = {parameters[parameter]!r}" for parameter in here]
            cells += [nbformat.v4.new_code_cell("\n".join(lines))] if lines else []
    if unknown := [parameter for parameter in parameters if parameter not in known]:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}.")
    notebook.cells = cells


def main() -> int:
    """Run the notebooks 01 to 07 on sample faces and say where everything lies; returns the exit status."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    workspace = Path(os.environ.setdefault("FACE_WORKSPACE", str(ROOT / "workspace")))
    started = time.monotonic()
    for path in sorted((ROOT / "notebooks").glob("0[1-7]_*.ipynb")):
        print(f"-> {path.name}  ({time.monotonic() - started:.0f} s)", flush=True)
        try:
            run_notebook(path, DEMO.get(path.name[:2], {}), workspace / "executed" / path.name)
        except CellExecutionError as error:
            print(f"{path.name} stopped: {error.ename}: {error.evalue}", file=sys.stderr)
            return 1
        except BaseException as error:  # Ctrl-C ends the kernel first, and nbclient's own tidying fails of that
            if not _of_the_end(error):
                raise
            said = "was interrupted, or its kernel died, perhaps for want of memory; what is complete is kept"
            print(f"{path.name} {said}: run make demo again to go on.", file=sys.stderr)
            return 1
    return 0 if _say_where(workspace, time.monotonic() - started) else 1


def _of_the_end(error: BaseException | None) -> bool:
    """Whether an error is an interrupt's or a dead kernel's, or came of handling one."""
    while error is not None and not isinstance(error, KeyboardInterrupt | DeadKernelError):
        error = error.__context__
    return error is not None


def linear_emotion(workspace: Path) -> float:
    """Test accuracy of a linear classifier on raw grey 32x32 pixels: what can be had without learning to see."""
    import cv2
    import numpy as np
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from helpers.data.store import FaceStore

    store = FaceStore.open(workspace / "faces" / "faces")

    def pixels(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = store.rows(split)[store.known("emotion")[store.rows(split)]]
        small = [cv2.resize(store.image(row), (32, 32), interpolation=cv2.INTER_AREA) for row in rows]
        return np.stack(small).mean(axis=3).reshape(len(rows), -1), store.faces["emotion"].to_numpy()[rows]

    model = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(1, 5, 9)))
    return model.fit(*pixels("train")).score(*pixels("test"))


def _say_where(workspace: Path, seconds: float) -> bool:
    """The demo's last words: what was reached and where to look; returns whether the sample faces were learned."""
    from helpers.evaluation.measures import summary
    from helpers.evaluation.verdict import verdict, verdict_table
    from helpers.runs.run import Run

    run = workspace / "runs" / DEMO["04"]["RUN"]
    metrics, weights = Run.open(run).read_metrics(), Run.open(run).weights
    evaluation = metrics["evaluation"]
    table = summary(evaluation)
    print(f"\nDone in {seconds / 60:.1f} minutes. Reached on the test split of DRAWN faces:\n")
    print(table[table["split"] == "test"].to_string(index=False))
    test, linear = evaluation["test"], linear_emotion(workspace)
    median = test["age"]["median_mae"]["value"]
    print(f"\nFor comparison, emotion by a linear model on raw 32x32 pixels: {linear:.1%};")
    print(f"age error of always saying the median age of the training faces: {median:.1f} years.")
    emotion, gender = (test[task]["accuracy"]["value"] for task in ("emotion", "gender"))
    learned = min(emotion, gender) >= 0.85 and emotion - linear >= 0.15 and test["age"]["mae"]["value"] <= median / 2
    print("The sample faces were learned." if learned else
          "The sample faces were NOT learned: wanted emotion and gender of 85 %, 15 points more than the linear model, "
          "and half of the median's age error.")  # fmt: skip
    print("\n" + verdict_table(verdict(metrics, True, weights)).to_string(index=False) + "\n")
    places = {
        "curves": run / "figures" / "curves.png",
        "confusion matrices": run / "figures" / "confusion_emotion.png",
        "report": run / "metrics.json",
        "ONNX model": run / "model.onnx",
        "executed notebooks": workspace / "executed",
    }
    for what, where in places.items():
        print(f"{what:20} {where}")
    return learned


if __name__ == "__main__":
    sys.exit(main())
