"""Results name their data, the verdict is strict, and the exported file answers as the model does."""

import json
import math
import shutil

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from helpers.config import EMOTIONS, TASKS, InputError
from helpers.evaluation.report import evaluate, summary
from helpers.evaluation.verdict import verdict, verdict_table
from helpers.export.onnx_export import export, open_session
from helpers.metrics import proportion
from helpers.training.checkpoints import previous
from helpers.training.fit import load_best
from helpers.training.model import Reader
from helpers.training.run import Run


@pytest.fixture(scope="module")
def finished(store, trained, tmp_path_factory):
    """A copy of the trained run, evaluated and exported."""
    run = Run.open(shutil.copytree(trained.folder, tmp_path_factory.mktemp("finished") / "tiny"))
    evaluate(run, store)
    export(run, store)
    return run


def test_metrics_agree_with_the_predictions_that_were_kept(finished, store):
    metrics, table = finished.read_metrics(), pd.read_parquet(finished.folder / "predictions.parquet")
    for split in ("train", "validation", "test"):
        part = table[table["split"] == split]
        emotion, age = part[part["emotion"] >= 0], part[part["age"].notna()]
        assert metrics[split]["emotion"]["accuracy"]["n"] == len(emotion) > 0
        hits = (emotion[[f"p_{name}" for name in EMOTIONS]].to_numpy().argmax(1) == emotion["emotion"]).mean()
        assert metrics[split]["emotion"]["accuracy"]["value"] == pytest.approx(hits)
        assert metrics[split]["age"]["mae"]["value"] == pytest.approx((age["age_answer"] - age["age"]).abs().mean())
    assert len(table[table["split"] == "test"]) == len(store.rows("test"))
    gap = metrics["train"]["emotion"]["accuracy"]["value"] - metrics["validation"]["emotion"]["accuracy"]["value"]
    assert metrics["gap"]["value"] == pytest.approx(gap)


def test_pooled_counts_are_the_sum_of_the_datasets(finished):
    for split in ("train", "validation", "test"):
        for task in TASKS:
            found = finished.read_metrics()[split][task]
            name = "mae" if task == "age" else "accuracy"
            assert found[name]["n"] == sum(part[name]["n"] for part in found["by_dataset"].values())


def test_fer2013_s_private_test_is_also_reported_by_itself(finished, store):
    found = finished.read_metrics()["test"]["emotion"]
    for part in ("PublicTest", "PrivateTest"):
        rows = store.faces[(store.faces["split"] == "test") & (store.faces["part"] == part)]
        assert found["by_part"][f"fer2013 {part}"]["accuracy"]["n"] == len(rows) > 0
        assert rows["name"].str.contains(f"/{part}_").all()
    assert "fer2013 PrivateTest" in set(summary(finished.read_metrics())["dataset"])


def test_figures_are_written_and_the_table_names_split_dataset_and_count(finished):
    names = {path.name for path in (finished.folder / "figures").iterdir()}
    wanted = {"curves", "confusion_emotion", "confusion_gender", "classes_emotion", "classes_gender", "age"}
    assert {f"{name}.png" for name in wanted} <= names
    table = summary(finished.read_metrics())
    assert {"train", "validation", "test"} == set(table["split"]) and (table["faces"] > 0).all()


def test_a_run_is_not_measured_on_other_faces_than_it_was_split_from(finished, sample_folders, tmp_path):
    from helpers.data.store import pack

    other = pack({"fer2013": sample_folders["fer2013"]}, tmp_path / "faces")
    with pytest.raises(InputError, match="was trained on other faces"):
        evaluate(finished, other)
    with pytest.raises(InputError, match="was trained on other faces"):
        export(finished, other)


def test_evaluating_or_exporting_too_early_says_which_notebook_comes_first(store, trained, tmp_path):
    with pytest.raises(InputError, match="notebook 04 makes it"):
        Run.open(tmp_path / "none")
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "tiny"))
    with pytest.raises(InputError, match="notebook 05 makes them"):
        export(run, store)
    assert not (run.folder / "model.onnx").exists()
    run.best_path.unlink()
    load_best(run)
    assert "the weights of epoch 2, the best, are gone; those of epoch 1 are" in (run.folder / "train.log").read_text()
    previous(run.best_path).unlink()
    with pytest.raises(InputError, match="until one epoch is complete"):
        evaluate(run, store)


def test_the_exported_graph_is_one_file_with_free_sizes_and_names_its_labels(finished):
    path = finished.folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    assert not [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    (faces,) = model.graph.input
    assert faces.name == "faces" and faces.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = [d.dim_value or d.dim_param for d in faces.type.tensor_type.shape.dim]
    assert dims[3] == 3 and all(isinstance(d, str) for d in dims[:3])
    about = {p.key: p.value for p in model.metadata_props}
    assert about["emotion"].split(",") == list(EMOTIONS) and "drawn" in about["trained_on"]


@pytest.mark.parametrize("shape", [(1, 48, 48, 3), (5, 200, 200, 3), (2, 33, 61, 3), (3, 1, 1, 3)])
def test_the_exported_graph_answers_as_pytorch_for_any_size(finished, shape):
    faces = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with torch.inference_mode():
        expected = Reader(load_best(finished))(torch.from_numpy(faces))
    found = open_session(finished.folder / "model.onnx").run(["emotion", "age", "gender"], {"faces": faces})
    assert [f.shape for f in found] == [(shape[0], 7), (shape[0],), (shape[0], 2)]
    for want, got, tolerance in zip(expected, found, (1e-4, 1e-2, 1e-4), strict=True):
        assert np.abs(want.numpy() - got).max() <= tolerance


def test_export_reports_difference_time_and_size(finished):
    onnx_result = finished.read_metrics()["onnx"]
    assert 0 <= onnx_result["difference"]["value"] < 1e-3 and onnx_result["agreement"] > 0.99
    assert onnx_result["milliseconds"]["value"] > 0
    assert onnx_result["bytes"] == (finished.folder / "model.onnx").stat().st_size


def share(value, n=10_000):
    return {"accuracy": proportion(round(value * n), n)}


def metrics(fer=None, raf=None, gender=0.99, mae=3.0, half=0.1):
    """Results as evaluation writes them, with chosen values."""
    emotion = {name: share(value) for name, value in (("fer2013", fer), ("rafdb", raf)) if value is not None}
    age = {"mae": {"value": mae, "low": mae - half, "high": mae + half, "n": 900}}
    test = {"gender": {"by_dataset": {"utkface": share(gender)}}, "age": {"by_dataset": {"utkface": age}}}
    return {"test": test | ({"emotion": {"by_dataset": emotion}} if emotion else {})}


def statuses(results, drawn=False):
    return [finding.status for finding in verdict(results, drawn)]


def test_a_pass_needs_the_interval_on_the_safe_side():
    assert statuses(metrics(0.79, 0.79, 0.93, 3.8))[:3] == ["pass", "pass", "pass"]
    assert statuses(metrics(0.781, 0.781, 0.921, 3.95))[:3] == ["borderline", "borderline", "borderline"]
    assert statuses(metrics(0.779, 0.779, 0.919, 4.05))[:3] == ["fail", "fail", "fail"]


def test_emotion_is_pooled_by_rows_and_not_measurable_when_a_reference_set_is_missing():
    pooled = verdict(metrics(0.70, 0.90), drawn=False)[0]
    assert pooled.found.startswith("80 ") and "n = 20000" in pooled.found and pooled.status == "pass"
    alone = verdict(metrics(0.95), drawn=False)[0]
    assert alone.status == "not measurable" and alone.found.startswith("95") and "rafdb" in alone.note
    assert verdict(metrics(), drawn=False)[0].status == "not measured"


def test_drawn_faces_never_pass_a_measure_of_faces():
    results = metrics(0.99, 0.99, 0.99, 1.0) | {"gap": {"value": 0.0, "low": -0.01, "high": 0.01, "n": 5000}}
    assert statuses(results, drawn=True)[:4] == ["drawn faces"] * 4


def test_what_was_not_measured_is_said_so_and_a_table_can_be_made(finished):
    assert statuses({}) == ["not measured"] * 6
    table = verdict_table(verdict(finished.read_metrics(), drawn=True))
    assert len(table) == 6 and not table["verdict"].str.contains("not measured").any()


def test_metrics_are_json_that_any_reader_takes(trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "tiny"))
    alone = {"mae": {"value": 3.0, "low": -math.inf, "high": math.inf, "n": 1}, "none": math.nan}
    run.write_metrics({"test": {"age": {"by_dataset": {"utkface": alone}}}})
    text = (run.folder / "metrics.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert statuses(json.loads(text))[2] == "borderline", "one face proves nothing"
