"""The bundle runs alone, and what 06 shows of a finished run is true."""

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from graphs import tiny_detector
from PIL import Image

from helpers import plots
from helpers.evaluation.measures import measure
from helpers.evaluation.predictions import write_predictions
from helpers.export import finish
from helpers.export.bundle import EXAMPLE, write_bundle
from helpers.export.check import check_graph
from helpers.export.finish import answered_faces, finish_card
from helpers.export.graph import export_graph, unsure_below
from helpers.export.latency import time_graph
from helpers.export.predictor import Predictor
from helpers.files import InputError
from helpers.runs.run import Run
from helpers.tasks import EMOTIONS, GENDERS, TASKS

ALONE = """
import runpy, sys
class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "helpers", "onnx", "cv2", "pandas", "scipy", "matplotlib"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["example.py", *sys.argv[1:]]
sys.path.insert(0, ".")
runpy.run_path("example.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def finished(store, trained, tmp_path_factory) -> Run:
    """A copy of the trained run, evaluated and exported."""
    run = Run.open(shutil.copytree(trained.folder, tmp_path_factory.mktemp("finished") / "tiny"))
    run.write_metrics("evaluation", measure(write_predictions(run, store)))
    path = export_graph(run)
    run.write_metrics("export", check_graph(run, store) | time_graph(run, store) | {"bytes": path.stat().st_size})
    return run


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    return tiny_detector(tmp_path_factory.mktemp("detector") / "detector.onnx")


def test_the_bundle_holds_what_its_user_needs_in_the_same_bytes_each_time(finished, detector):
    page = finished.folder / "try_it.html"
    page.write_text("<html>")
    path = write_bundle(finished, detector)
    first = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = {name.removeprefix("tiny/") for name in archive.namelist()}
        assert json.loads(archive.read("tiny/labels.json")) == {
            "emotion": list(EMOTIONS), "age": "years", "gender": list(GENDERS)}  # fmt: skip
        card = archive.read("tiny/MODEL_CARD.md").decode()
        assert archive.read("tiny/model.onnx") == (finished.folder / "model.onnx").read_bytes()
    assert names == {"model.onnx", "detector.onnx", "labels.json", "MODEL_CARD.md", "metrics.json", "try_it.html",
                     "predictor.py", "example.py", "LICENSE-detector"}  # fmt: skip
    assert "Time for one face" in card and "not measured" not in card.split("Time for one face")[1].splitlines()[0]
    page.touch()
    assert write_bundle(finished, detector).read_bytes() == first
    page.unlink()
    with zipfile.ZipFile(write_bundle(finished, detector.with_name("none.onnx"))) as archive:
        assert {"tiny/try_it.html", "tiny/detector.onnx", "tiny/none.onnx"}.isdisjoint(archive.namelist())


def test_the_example_runs_alone(finished, detector, store, tmp_path):
    with zipfile.ZipFile(write_bundle(finished, detector)) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "tiny"
    Image.fromarray(store.image(0)).save(folder / "a.png")
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, "a.png", "none.png"], cwd=folder, capture_output=True,
                          text=True, check=True)  # fmt: skip
    wanted = Predictor(finished.folder / "model.onnx", detector).predict(folder / "a.png")[0]
    first, second = done.stdout.splitlines()
    assert first == str(wanted).replace(str(folder / "a.png"), "a.png") and second.startswith("none.png is not a file")
    assert max(Image.open(folder / "answer_1.png").size) >= 640 and not (folder / "answer_2.png").exists()
    assert len(EXAMPLE.read_text().splitlines()) <= 15
    done = subprocess.run([sys.executable, "-I", "-c", ALONE], cwd=folder, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 1 and done.stderr.strip() == ast.get_docstring(ast.parse(EXAMPLE.read_text()))


def test_a_bundle_of_a_run_that_was_not_exported_or_not_evaluated(trained, finished, detector, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "tiny"))
    with pytest.raises(InputError, match=r"^Run notebook 06 first, https.*model.onnx does not exist"):
        write_bundle(run, detector)
    shutil.copy(finished.folder / "model.onnx", run.folder)
    with zipfile.ZipFile(write_bundle(run, detector)) as archive:
        assert "tiny/MODEL_CARD.md" not in archive.namelist()
    assert "has no model card: Run notebook 05 first, https://" in (run.folder / "train.log").read_text()


def test_a_bundle_whose_model_does_not_open_is_never_put_in_place(finished, detector, tmp_path):
    run = Run.open(shutil.copytree(finished.folder, tmp_path / "tiny"))
    (run.folder / "tiny.zip").unlink(missing_ok=True)
    (run.folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged"):
        write_bundle(run, detector)
    assert not list(run.folder.glob("*.zip")) and not list(run.folder.glob(".*.partial"))


def test_the_exported_file_knows_below_what_its_answer_is_unsure(finished):
    wanted = unsure_below(finished.read_metrics()["evaluation"]["calibration"])
    assert set(wanted) == {"emotion", "gender"} and Predictor(finished.folder / "model.onnx").thresholds == wanted


def test_eight_different_faces_are_shown_with_truth_probability_and_colour(finished, store, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        finish.plots,
        "faces",
        lambda *given: shown.update(zip(("images", "captions", "columns", "title", "marks"), given, strict=True)),
    )
    twice = np.repeat(store.examples("validation", 8), 2)  # one face may serve for several classes
    monkeypatch.setattr(type(store), "examples", lambda *_: twice)
    answered_faces(finished, store)
    assert len({image.tobytes() for image in shown["images"]}) == 8
    assert "drawn faces" in shown["title"]
    rows = {store.image(row).tobytes(): row for row in store.rows("validation")}
    for image, caption, mark in zip(shown["images"], shown["captions"], shown["marks"], strict=True):
        face, row = (
            Predictor(finished.folder / "model.onnx", threshold=0.0).predict(image)[0].faces[0],
            rows[image.tobytes()],
        )
        assert mark == ("✗" in caption) and "%" in caption
        for line, (name, task) in zip(caption.splitlines(), TASKS.items(), strict=True):
            label = store.labels(name)[row]
            if not task.known(store.labels(name)[[row]])[0]:
                assert line[0] not in "✓✗"
            elif task.classes:
                assert (line[0] == "✓") == (getattr(face, name) == task.classes[label])
                assert line[0] == "✓" or line.endswith(f"is {task.classes[label]}")
            else:
                assert (line[0] == "✓") == (abs(face.age - np.clip(face.age, *label)) <= 5)


def test_copies_of_one_picture_are_shown_as_one_face(finished, store, monkeypatch):
    shown = []
    monkeypatch.setattr(finish.plots, "faces", lambda images, *_: shown.extend(images))
    copies = np.flatnonzero(store.faces["sha"].duplicated(keep=False))  # other rows, the same pixels
    monkeypatch.setattr(type(store), "examples", lambda *_: copies)
    answered_faces(finished, store, len(copies))
    assert len(copies) > len(shown) == len({image.tobytes() for image in shown}) > 0


def test_the_finish_card_tells_scores_time_size_speed_and_place(finished, detector):
    bundle = write_bundle(finished, detector)
    card = finish_card(finished, bundle)
    exported = finished.read_metrics()["export"]
    for text in (str(bundle), f"{exported['bytes'] / 1e6:.1f} MB", f"{exported['milliseconds']['value']:.1f} ms",
                 "2 epochs", "minutes", "emotion accuracy", "drawn faces", "equal to PyTorch: pass"):  # fmt: skip
        assert text in card.alt, text
    assert isinstance(card, plots.Picture) and card.png().startswith(b"\x89PNG")
