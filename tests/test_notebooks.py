"""The notebooks run in order without a display or a click, each in its own process as on a new machine."""

import json
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from helpers.config import RECIPES
from helpers.data.augment import TECHNIQUES
from helpers.data.sources import SOURCES
from helpers.data.store import FaceStore
from helpers.runs.run import Run
from tools import pictures
from tools.build_notebooks import repository
from tools.run_notebooks import run_notebook

ROOT = Path(__file__).resolve().parent.parent
TINY = {"img_size": 32, "epochs": 2, "t_0": 2, "batch_size": 32, "workers": 0}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """All notebooks, executed with tiny settings; returns the workspace and the executed notebooks by number."""
    workspace = tmp_path_factory.mktemp("workspace")
    patch = pytest.MonkeyPatch()
    patch.setenv("FACE_WORKSPACE", str(workspace))
    changes = {"02": {"SOURCE": "sample", "SAMPLE_FACES": 400}, "04": {"RECIPE": "demo", "CHANGES": TINY}}
    changes["07"] = {"RUN": "run-1"}
    books = {}
    for path in sorted((ROOT / "notebooks").glob("0[1-9]_*.ipynb")):
        number = path.name[:2]
        books[number] = run_notebook(path, changes.get(number, {}), workspace / "executed" / path.name, echo=False)
    patch.undo()
    return workspace, books


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    """``00_run_all`` with its one switch set and tiny settings, on a machine of its own; the workspace and the book."""
    workspace = tmp_path_factory.mktemp("at_once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACE_WORKSPACE", str(workspace))
        path, tiny = ROOT / "notebooks" / "00_run_all.ipynb", {"SOURCE": "sample", "SAMPLE_FACES": 200, "CHANGES": TINY}
        return workspace, run_notebook(path, tiny, workspace / "executed" / path.name, echo=False)


def test_run_all_ends_with_a_finished_model(at_once):
    workspace, book = at_once
    run = workspace / "runs" / "run-1-sample"  # the real faces' run-1 would refuse to go on with drawn ones
    for name in ("results.json", "metrics.json", "model.onnx", "MODEL_CARD.md"):
        assert (run / name).stat().st_size > 0, name
    assert json.loads((run / "config.json").read_text())["backbone"] == RECIPES["demo"].model.backbone
    assert not [o for o in outputs(book) if o["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs(book)) >= 20


def test_every_figure_of_every_notebook_has_words_that_stand_for_it(executed, at_once):
    _, books = executed
    for number, book in {**books, "00": at_once[1]}.items():
        figures = [o for o in outputs(book) if "image/png" in o.get("data", {})]
        silent = [o for o in figures if not o["metadata"].get("image/png", {}).get("alt")]
        assert not silent, number


def test_the_pictures_of_readme_and_guide_are_drawn_from_a_run_and_small(executed):
    workspace, _ = executed
    store = FaceStore.open(workspace / "faces" / "faces")
    for figure in (pictures.strip(Run.open(workspace / "runs" / "run-1"), store), pictures.curves()):
        assert figure.png().startswith(b"\x89PNG")
    for name in ("strip", "curves"):
        size = (ROOT / "docs" / f"{name}.png").stat().st_size
        assert 10_000 < size < 300_000, name


def outputs(book) -> list[dict]:
    return [output for cell in book.cells for output in cell.get("outputs", [])]


def test_every_notebook_runs_and_leaves_what_it_promises(executed):
    workspace, books = executed
    assert sorted(books) == ["01", "02", "03", "04", "05", "06", "07"]
    assert set(json.loads((workspace / "dataset_paths.json").read_text())) == set(SOURCES)
    run = workspace / "runs" / "run-1"
    for name in (
        "config.json",
        "history.jsonl",
        "train.log",
        "results.json",
        "predictions.parquet",
        "MODEL_CARD.md",
        "metrics.json",
        "model.onnx",
        "run-1.zip",
    ):
        assert (run / name).stat().st_size > 0, name
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["evaluation"]) == {"train", "validation", "test", "gap", "weights", "calibration", "groups"}
    assert set(metrics["export"]) == {"difference", "agreement", "milliseconds", "bytes", "weights"}


def test_every_result_is_also_drawn(executed):
    _, books = executed
    pictures = {number: sum("image/png" in o.get("data", {}) for o in outputs(book)) for number, book in books.items()}
    assert pictures["02"] >= 2 and pictures["03"] == 7 and pictures["04"] >= 2
    assert pictures["05"] >= 14 and pictures["06"] == 2 and pictures["07"] >= 1


def test_the_first_notebook_meets_newcomers_with_little_to_read(executed):
    # Incident: it began with 46 knobs of five recipes, and said that a run costs "about $0".
    shown = [o.get("data", {}) for o in outputs(executed[1]["01"])]
    tables = [data["text/html"].count("<tr") for data in shown if "text/html" in data]
    assert tables and max(tables) <= 16
    printed = "".join(str(o.get("text", "")) for o in outputs(executed[1]["01"]))
    assert not any("$" in text for text in (printed, *map(str, shown))) and len(printed.splitlines()) <= 25


def test_training_leaves_the_four_places_of_its_view_and_no_bar_for_each_epoch(executed):
    (cell,) = [cell for cell in executed[1]["04"].cells if cell.cell_type == "code" and "train_step(" in cell.source]
    assert [output["output_type"] for output in cell.outputs] == ["display_data"] * 4


def test_a_technique_that_is_left_out_is_not_shown_and_all_others_are(executed, monkeypatch):
    workspace, _ = executed
    monkeypatch.setenv("FACE_WORKSPACE", str(workspace))
    path = ROOT / "notebooks" / "03_preview_augmentation.ipynb"
    names = ", ".join(name for name, technique in TECHNIQUES.items() if technique.group == "cutout")
    book = run_notebook(path, {"LEAVE_OUT": names}, workspace / "executed" / "03_without.ipynb", echo=False)
    assert sum("image/png" in output.get("data", {}) for output in outputs(book)) == 6, "four groups, draws and mixing"


def test_nothing_is_written_to_the_error_stream_but_progress(executed):
    _, books = executed
    for number, book in books.items():
        errors = [o["text"] for o in outputs(book) if o["output_type"] == "stream" and o["name"] == "stderr"]
        assert not [text for text in errors if "Warning" in text or "Error" in text], (number, errors)


def test_run_all_again_goes_on_instead_of_starting_anew(executed, monkeypatch):
    workspace, _ = executed
    monkeypatch.setenv("FACE_WORKSPACE", str(workspace))
    last = workspace / "runs" / "run-1" / "checkpoints" / "last.pt"
    before = last.stat().st_mtime_ns
    path = ROOT / "notebooks" / "04_train.ipynb"
    run_notebook(path, {"RECIPE": "demo", "CHANGES": TINY}, workspace / "executed" / "again.ipynb", echo=False)
    assert last.stat().st_mtime_ns == before


def test_a_mistake_is_shown_as_one_sentence_without_our_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path))
    with pytest.raises(CellExecutionError):
        run_notebook(ROOT / "notebooks" / "03_preview_augmentation.ipynb", {}, tmp_path / "x.ipynb", echo=False)
    executed_text = json.loads((tmp_path / "x.ipynb").read_text())
    (error,) = [o for c in executed_text["cells"] for o in c.get("outputs", []) if o["output_type"] == "error"]
    assert len(error["traceback"]) == 1 and "Run notebook 02 first, https" in error["traceback"][0]


def test_a_parameter_that_a_notebook_does_not_know_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no parameter EPOCHS"):
        run_notebook(ROOT / "notebooks" / "04_train.ipynb", {"EPOCHS": 3}, tmp_path / "x.ipynb")


@pytest.mark.parametrize("variable", ["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", None])
def test_the_set_up_cell_gets_the_code_on_an_empty_machine(tmp_path, monkeypatch, variable):
    book = nbformat.read(ROOT / "notebooks" / "01_setup_gpu_check.ipynb", as_version=4)
    origin = tmp_path / "origin.git"  # stands for the repository's address, which tests do not reach
    for command in (
        ["init", "--quiet", "--bare", str(origin)],
        ["-C", str(origin), "config", "receive.shallowUpdate", "true"],
        ["-C", str(ROOT), "push", "--quiet", str(origin), "HEAD:refs/heads/main"],
    ):
        subprocess.run(["git", *command], check=True)
    cell = book.cells[1].source.replace(repository(), f"file://{origin}")
    assert f"file://{origin}" in cell
    show = 'print(ROOT, install.missing("requirements.txt"))'
    book.cells = [nbformat.v4.new_code_cell(cell), nbformat.v4.new_code_cell(show)]
    nbformat.write(book, tmp_path / "empty.ipynb")
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path / "files"))
    if variable:
        monkeypatch.setenv(variable, "x")
    done = run_notebook(tmp_path / "empty.ipynb", {}, tmp_path / "done.ipynb", echo=False)
    assert f"{tmp_path / 'face-training'} []" in done.cells[1].outputs[0]["text"]
    assert (tmp_path / "face-training" / "helpers" / "config.py").exists()
    note = done.cells[0].outputs[0]["text"]
    # Kaggle keeps nothing by itself, and Drive cannot be mounted here: the user is told loudly, and the work goes on.
    assert ("GO WITH THIS MACHINE" in note) == (variable is not None)
