"""Results name their data, the verdict is strict, and the exported file answers as the model does."""

import json
import logging
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image
from tables import answered

from helpers import plots
from helpers.data.store import pack
from helpers.evaluation.figures import all_figures, task_figures
from helpers.evaluation.measures import details, measure, summary
from helpers.evaluation.predictions import read_predictions, write_predictions
from helpers.evaluation.verdict import verdict, verdict_table
from helpers.export import check
from helpers.export.check import check_graph
from helpers.export.graph import EXPORTS, export_graph, open_session
from helpers.export.latency import time_graph
from helpers.files import InputError
from helpers.metrics import proportion
from helpers.runs.checkpoints import fingerprint, load_checkpoint, previous, save_checkpoint
from helpers.runs.run import Run
from helpers.tasks import AGE, EMOTION, EMOTIONS, GENDER, GENDERS, TASKS
from helpers.training.model import FaceModel, Reader, create_model
from helpers.training.predict import load_best


def evaluate(run: Run, store) -> None:
    """What notebook 05 and the line's evaluate do."""
    table = write_predictions(run, store)
    run.write_metrics("evaluation", measure(table))
    plots.save_all(all_figures(run, measure(table), table), run.folder / "figures")


def export(run: Run, store) -> None:
    """What notebook 06 and the line's export do."""
    size = export_graph(run).stat().st_size
    run.write_metrics("export", check_graph(run, store) | time_graph(run, store) | {"bytes": size})


@pytest.fixture(scope="module")
def finished(store, trained, tmp_path_factory):
    """A copy of the trained run, evaluated and exported."""
    run = Run.open(shutil.copytree(trained.folder, tmp_path_factory.mktemp("finished") / "tiny"))
    evaluate(run, store)
    export(run, store)
    return run


def evaluation(run: Run) -> dict:
    return run.read_metrics()["evaluation"]


def copied(run: Run, folder) -> Run:
    """The same run in another folder, to be written to."""
    return Run.open(shutil.copytree(run.folder, folder))


def test_without_predictions_notebook_05_is_named(trained):
    with pytest.raises(InputError, match=r"^Run notebook 05 first, https.*predictions.parquet does not exist"):
        read_predictions(trained)


def test_metrics_agree_with_the_predictions_that_were_kept(finished, store):
    metrics, table = evaluation(finished), read_predictions(finished)
    for split in ("train", "validation", "test"):
        part = table[table["split"] == split]
        emotion, age = part[part["emotion"] >= 0], part[part["age_low"].notna()]
        assert metrics[split]["emotion"]["accuracy"]["n"] == len(emotion) > 0
        hits = (emotion[[f"p_{name}" for name in EMOTIONS]].to_numpy().argmax(1) == emotion["emotion"]).mean()
        assert metrics[split]["emotion"]["accuracy"]["value"] == pytest.approx(hits)
        assert metrics[split]["age"]["mae"]["value"] == pytest.approx((age["age_answer"] - age["age_low"]).abs().mean())
    assert len(table[table["split"] == "test"]) == len(store.rows("test"))
    gap = metrics["train"]["emotion"]["accuracy"]["value"] - metrics["validation"]["emotion"]["accuracy"]["value"]
    assert metrics["gap"]["value"] == pytest.approx(gap)


def test_pooled_counts_are_the_sum_of_the_datasets(finished):
    for split in ("train", "validation", "test"):
        for task in TASKS:
            found = evaluation(finished)[split][task]
            name = "mae" if task == "age" else "accuracy"
            assert found[name]["n"] == sum(part[name]["n"] for part in found["by_dataset"].values())


def test_fer2013_s_private_test_is_also_reported_by_itself(finished, store):
    found = evaluation(finished)["test"]["emotion"]
    for part in ("PublicTest", "PrivateTest"):
        rows = store.faces[(store.faces["split"] == "test") & (store.faces["part"] == part)]
        assert found["by_part"][f"fer2013 {part}"]["accuracy"]["n"] == len(rows) > 0
        assert rows["name"].str.contains(f"/{part}_").all()
    assert "fer2013 PrivateTest" in set(summary(evaluation(finished))["dataset"])


def test_the_details_hold_every_measure_of_the_test_split_and_that_of_faces_without_a_copy(finished):
    table, found = details(evaluation(finished)).set_index(["test faces", "measure"]), evaluation(finished)["test"]
    for name, measured in (("emotion", "balanced_accuracy"), ("emotion", "macro_f1"), ("age", "cs5"), ("age", "bias")):
        for faces, part in (("all", found[name]), ("without copies", found[name]["without_copies"])):
            line = table.loc[faces, f"{name} {measured.replace('_', ' ')}"]
            scale = 1 if measured == "bias" else 100
            assert line["value"].startswith(f"{scale * part[measured]['value']:.1f}")
            assert line["faces"] == part[measured]["n"]
    assert ("fer2013 PrivateTest", "emotion accuracy") in table.index


def test_figures_are_written_and_the_table_names_split_dataset_and_count(finished):
    names = {path.name for path in (finished.folder / "figures").iterdir()}
    wanted = {"curves", "confusion_emotion", "confusion_gender", "classes_emotion", "classes_gender", "age"}
    assert {f"{name}.png" for name in wanted} <= names
    table = summary(evaluation(finished))
    assert {"train", "validation", "test"} == set(table["split"]) and (table["faces"] > 0).all()


def test_a_run_is_not_measured_on_other_faces_than_it_was_split_from(finished, sample_folders, tmp_path):
    other = pack({"fer2013": sample_folders["fer2013"]}, tmp_path / "faces")
    for measured in (write_predictions, check_graph):
        with pytest.raises(InputError, match="was trained on other faces"):
            measured(finished, other)


def test_evaluating_or_exporting_too_early_says_which_notebook_comes_first(store, trained, tmp_path):
    with pytest.raises(InputError, match=r"^Run notebook 04 first, https.*/04_train.ipynb"):
        Run.open(tmp_path / "none")
    run = copied(trained, tmp_path / "tiny")
    epoch = load_checkpoint(run.best_path)["epoch"]
    save_checkpoint(previous(run.best_path), load_checkpoint(run.best_path) | {"epoch": 7})
    run.best_path.unlink()
    load_best(run)
    said = f"the weights of epoch {epoch}, the best, are gone; those of epoch 7 are used"
    assert said in (run.folder / "train.log").read_text()
    previous(run.best_path).unlink()
    for step in (evaluate, export):
        with pytest.raises(InputError, match=r"^Run notebook 04 first, https.*no epoch of it is complete"):
            step(run, store)
    assert not (run.folder / "model.onnx").exists() and not (run.folder / "metrics.json").exists()


def test_a_run_may_be_exported_before_it_is_evaluated(store, trained, tmp_path):
    run = copied(trained, tmp_path / "tiny")
    export(run, store)
    assert set(run.read_metrics()) == {"export"}
    assert [status == "not measured" for status in statuses(run.read_metrics())] == [True] * 4 + [False] * 2


def test_a_run_that_was_trained_for_other_classes_is_refused_in_one_sentence_that_names_them(trained, tmp_path):
    path = copied(trained, tmp_path / "tiny").folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["classes"]["gender"] = ["female", "male"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError) as caught:
        Run.open(path.parent)
    assert str(caught.value).startswith(f"The run {path.parent} ") and "\n" not in str(caught.value)
    assert "other classes of gender (female, male) than there are now (male, female)" in str(caught.value)


def test_the_exported_graph_is_one_file_with_free_sizes_and_names_its_labels(finished):
    path = finished.folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    assert not [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    (faces,) = model.graph.input
    assert faces.name == "faces" and faces.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = [d.dim_value or d.dim_param for d in faces.type.tensor_type.shape.dim]
    assert dims[3] == 3 and all(isinstance(d, str) for d in dims[:3])
    about = {p.key: p.value for p in model.metadata_props}
    assert about["emotion"].split(",") == list(EMOTIONS) and about["gender"].split(",") == list(GENDERS)
    assert about["age"] == "years" and "drawn" in about["trained_on"]


def test_the_exported_graph_does_not_tell_in_whose_folder_it_was_made(finished):
    # Incident: the exporter notes the file and line of each node's Python code, and so the user's folders.
    content = (finished.folder / "model.onnx").read_bytes()
    assert (
        str(Path(__file__).parent.parent).encode() not in content
        and b"stack_trace" not in content
        and b"site-packages" not in content
    )


@pytest.mark.parametrize("shape", [(1, 48, 48, 3), (5, 200, 200, 3), (2, 33, 61, 3), (3, 1, 1, 3)])
def test_the_exported_graph_answers_as_pytorch_for_any_size(finished, shape):
    faces = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    session = open_session(finished.folder / "model.onnx")
    fitted = json.loads(session.get_modelmeta().custom_metadata_map["calibration"])
    with torch.inference_mode():
        expected = Reader(load_best(finished), fitted)(torch.from_numpy(faces))
    found = session.run(["emotion", "age", "age_range", "gender"], {"faces": faces})
    assert [f.shape for f in found] == [(shape[0], 7), (shape[0],), (shape[0], 2), (shape[0], 2)]
    for want, got, tolerance in zip(expected, found, (1e-4, 1e-2, 1e-2, 1e-4), strict=True):
        assert np.abs(want.numpy() - got).max() <= tolerance


def test_export_reports_difference_time_and_size(finished):
    found = finished.read_metrics()["export"]
    assert 0 <= found["difference"]["value"] < 1e-3 and found["agreement"] > 0.99
    assert found["milliseconds"]["value"] > 0
    assert found["bytes"] == (finished.folder / "model.onnx").stat().st_size


def test_evaluating_again_keeps_what_the_export_measured_and_the_other_way_round(finished, store, tmp_path):
    run = copied(finished, tmp_path / "tiny")
    both = run.read_metrics()
    assert set(both) == {"evaluation", "export"}
    for again, other in ((evaluate, "export"), (export, "evaluation")):
        mine = ({"evaluation", "export"} - {other}).pop()
        run.write_metrics(mine, {"stale": 1})
        again(run, store)
        assert run.read_metrics()[other] == both[other] and set(run.read_metrics()[mine]) == set(both[mine])
    assert run.read_metrics()["evaluation"] == both["evaluation"], "the same network on the same faces"


class Session:
    """An exported graph that answers as the network does, but for what a test does to its answers."""

    def __init__(self, run: Run, spoil):
        self._reader, self._spoil = Reader(load_best(run)).eval(), spoil

    def get_modelmeta(self):
        return SimpleNamespace(custom_metadata_map={"weights": fingerprint(self._reader.model.state_dict())})

    def run(self, names, inputs):
        with torch.inference_mode():
            found = [output.numpy() for output in self._reader(torch.from_numpy(inputs["faces"]))]
        return self._spoil(dict(zip(EXPORTS, found, strict=True)), len(inputs["faces"]))


def checked(run: Run, store, monkeypatch, spoil) -> dict:
    """What the check says of an exported graph with spoiled answers."""
    monkeypatch.setattr(check, "open_session", lambda path: Session(run, lambda *found: list(spoil(*found).values())))
    return check_graph(run, store)


def test_the_agreement_counts_each_face_once_and_faces_that_are_given_alone_count_for_the_difference(
    finished, store, monkeypatch
):
    def wrong_when_alone(found, faces):
        return found | ({"emotion": np.roll(found["emotion"], 1, axis=1)} if faces == 1 else {})

    sizes = [store.image(row).shape for row in store.fixed_sample("validation", check.ROWS)]
    assert all(sizes.count(size) > 1 for size in sizes), "else a face is alone among those of its size"
    right = checked(finished, store, monkeypatch, lambda found, faces: found)
    assert right["difference"]["value"] == pytest.approx(0, abs=1e-6) and right["agreement"] == 1
    assert right["difference"]["n"] == len(sizes)
    found = checked(finished, store, monkeypatch, wrong_when_alone)
    assert found["difference"]["value"] > 1e-3 and found["agreement"] == 1

    def wrong_gender(found, faces):
        return found | {"gender": found["gender"][:, ::-1]}

    found = checked(finished, store, monkeypatch, wrong_gender)
    assert found["agreement"] == 0.5, "each face has an emotion and a gender, and an age that is no class"


def test_a_difference_in_years_counts_by_the_hundred(finished, store, monkeypatch):
    found = checked(finished, store, monkeypatch, lambda found, faces: found | {"age": found["age"] + 5})
    assert found["difference"]["value"] == pytest.approx(0.05, abs=1e-4) and found["agreement"] == 1


def test_a_graph_that_answers_with_no_number_is_not_called_equal(finished, store, monkeypatch):
    found = checked(finished, store, monkeypatch, lambda found, faces: found | {"age": found["age"] * np.nan})
    assert not found["difference"]["value"] < 1e-3
    run = copied(finished, finished.folder.parent / "spoiled")
    run.write_metrics("export", found)
    assert statuses(run.read_metrics())[4] == "fail"


@pytest.mark.parametrize("level", [logging.DEBUG, logging.CRITICAL])
def test_an_export_leaves_the_exporter_as_talkative_as_it_was_whether_it_succeeds_or_not(
    finished, tmp_path, monkeypatch, level
):
    run, logger, seen = copied(finished, tmp_path / "tiny"), logging.getLogger("torch.onnx"), []
    monkeypatch.setattr(logger, "level", level)
    exporting = torch.onnx.export

    def watched(*args, **options):
        seen.append(logger.level)
        return exporting(*args, **options)

    monkeypatch.setattr(torch.onnx, "export", watched)
    export_graph(run)
    assert (seen, logger.level) == ([logging.ERROR], level)

    def failing(*args, **options):
        raise torch.onnx.errors.OnnxExporterError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", failing)
    before = (run.folder / "model.onnx").read_bytes()
    with pytest.raises(
        InputError, match=r"^The backbone 'test_resnet' cannot be exported to ONNX: no such operator\.$"
    ):
        export_graph(run)
    assert logger.level == level and (run.folder / "model.onnx").read_bytes() == before
    assert not list(run.folder.glob(".*.partial"))


def test_the_figures_follow_from_the_predictions_and_the_metrics_that_were_written_alone(finished, tmp_path):
    metrics, table = evaluation(finished), read_predictions(finished)
    names = {"emotion": ["confusion_emotion", "classes_emotion"], "age": ["age"],
             "gender": ["confusion_gender", "classes_gender"]}  # fmt: skip
    for task, wanted in names.items():
        figures = task_figures(task, metrics, table, drawn=True)
        assert list(figures) == wanted
        plots.save_all(figures, tmp_path)
        for name in wanted:
            assert (tmp_path / f"{name}.png").read_bytes() == (finished.folder / "figures" / f"{name}.png").read_bytes()
    assert task_figures("age", metrics | {"test": {}}, table, drawn=True) == {}, "no test face carries its label"


def test_the_measures_follow_from_the_predictions_that_were_written_alone(finished, tmp_path):
    run = copied(finished, tmp_path / "tiny")
    run.write_metrics("evaluation", measure(read_predictions(run)))
    assert run.read_metrics() == finished.read_metrics()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_finite_numbers_are_never_loaded_measured_exported_or_learned_from(
    store, trained, tmp_path, value
):
    run = copied(trained, tmp_path / "tiny")
    best = load_checkpoint(run.best_path)
    best["model"]["heads.age.5.bias"][0] = value
    save_checkpoint(run.best_path, best)
    start = run.config.replace(weights="run:tiny").model
    file = run.config.replace(weights=str(run.best_path)).model
    for step in (evaluate, export, lambda run, store: create_model(start, folder=tmp_path / "next"),
                 lambda run, store: create_model(file), lambda run, store: run.weights):  # fmt: skip
        with pytest.raises(InputError, match=r"hold what is no finite number \(heads\.age\.5\.bias\)"):
            step(run, store)
    assert not {"metrics.json", "model.onnx", "predictions.parquet"} & {path.name for path in run.folder.iterdir()}


def test_answers_that_are_no_numbers_are_refused_with_the_first_face(store, trained, tmp_path, monkeypatch):
    real, rows = FaceModel.forward, store.rows("validation")

    def forward(self, pixels):
        found = real(self, pixels)
        found["gender"][-1, 0] = math.nan
        return found

    monkeypatch.setattr(FaceModel, "forward", forward)
    with pytest.raises(InputError, match=r"answer for gender is no finite number for \d+ of \d+ faces") as said:
        write_predictions(copied(trained, tmp_path / "tiny"), store)
    assert any(name in str(said.value) for name in store.faces["name"]) and len(rows)


def test_a_measure_that_is_no_number_never_passes_in_memory_or_in_a_file():
    for half, mae in ((0.1, math.nan), (math.nan, 3.0)):
        assert statuses(metrics(mae=mae, half=half))[2] in ("fail", "borderline")
    assert statuses(metrics(mae=math.nan))[2] == "fail"


def test_everything_that_is_measured_names_its_weights_and_the_verdict_joins_equal_ones_only(finished, tmp_path):
    run = copied(finished, tmp_path / "tiny")
    weights = run.weights
    assert read_predictions(run).attrs["weights"] == weights
    assert {name: section["weights"] for name, section in run.read_metrics().items()} == dict.fromkeys(
        ("evaluation", "export"), weights
    )
    for path in (run.folder / "figures").iterdir():
        assert Image.open(path).text["weights"] == weights, path
    about = onnx.load(run.folder / "model.onnx").metadata_props
    assert {prop.key: prop.value for prop in about}["weights"] == weights
    assert "not measured" not in [one.status for one in verdict(run.read_metrics(), True, weights)]

    best = load_checkpoint(run.best_path)
    save_checkpoint(run.best_path, best)
    assert run.weights == weights, "written again, they are the same"
    best["model"]["heads.age.5.bias"] += 1e-6
    save_checkpoint(run.best_path, best)  # as training goes on
    assert run.weights != weights
    for one in verdict(run.read_metrics(), True, run.weights):
        assert one.status == "not measured" and "other weights than the run has now: run notebook 0" in one.note
    run.write_metrics("export", run.read_metrics()["export"] | {"weights": run.weights})
    told = verdict(run.read_metrics(), True, run.weights)
    assert [one.status == "not measured" for one in told] == [True] * 4 + [False] * 2
    assert told[0].note.endswith("run notebook 05 (evaluate) again")
    assert [one.status for one in verdict(run.read_metrics(), True)] == ["not measured"] * 6, "not known which"


def test_a_graph_of_other_weights_is_not_compared_but_exported_again(finished, store, tmp_path):
    run = copied(finished, tmp_path / "tiny")
    best = load_checkpoint(run.best_path)
    best["model"]["heads.age.5.bias"] += 1e-6
    save_checkpoint(run.best_path, best)
    with pytest.raises(InputError, match=r"model\.onnx is of other weights than the best epoch has now"):
        check_graph(run, store)


def test_the_fingerprint_of_weights_follows_names_types_shapes_and_numbers_and_nothing_else():
    weights = {"a": torch.arange(6.0), "b": torch.tensor(3)}
    same = fingerprint(weights)
    assert fingerprint(dict(reversed(weights.items()))) == same
    others = [{"a": weights["a"]}, weights | {"a": weights["a"].view(2, 3)}, weights | {"a": weights["a"].double()},
              weights | {"a": weights["a"] + 1e-6}, {"c": weights["a"], "b": weights["b"]}]  # fmt: skip
    assert len({same, *map(fingerprint, others)}) == 6


def test_a_run_is_evaluated_and_exported_by_one_session_at_a_time(finished, store, tmp_path):
    run = copied(finished, tmp_path / "tiny")
    code = "import sys, time; from pathlib import Path; from helpers.files import only_writer\n"
    code += "with only_writer(Path(sys.argv[1]), ''), only_writer(Path(sys.argv[2]), ''):\n"
    code += "    print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, run.folder / ".evaluated.lock", run.folder / ".exported.lock"]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
    assert other.stdout.readline()
    try:
        for work, doing in (
            (lambda: write_predictions(run, store), "evaluated"),
            (lambda: export_graph(run), "exported"),
        ):
            with pytest.raises(
                InputError, match=f"'tiny' is being {doing} by another session on this machine; stop that"
            ):
                work()
    finally:
        other.kill()
        other.wait()


def predictions(splits: dict[str, list]) -> pd.DataFrame:
    """A table of predictions of ages: split -> (dataset, lowest, highest, answer) of each row."""
    rows = [(split, *row) for split, given in splits.items() for row in given]
    table = pd.DataFrame(rows, columns=["split", "dataset", "age_low", "age_high", "age_answer"])
    unknown = {column: -1 for task in TASKS.values() if task is not AGE for column in task.columns}
    table = table.assign(part=None, race=-1, age_spread=1.0, **unknown)
    for task in (EMOTION, GENDER):
        table = table.assign(**answered(task, np.zeros(len(table), int)))
    table.attrs["weights"] = "0123"
    return table


def test_an_answer_within_an_interval_has_no_error_in_the_metrics(tmp_path):
    unlabelled = ("own", math.nan, math.nan, 9.0)
    table = predictions({
        "train": [("utkface", 20, 20, 20.0), ("utkface", 40, 40, 40.0), ("own", 50, 60, 40.0)],
        "test": [("utkface", 20, 29, 25.0), ("utkface", 20, 29, 31.0), ("own", 30, 30, 27.0), unlabelled],
    })  # fmt: skip
    found = measure(table)
    assert set(found) == {"weights", "train", "test", "calibration", "groups"}, "no gap"
    assert list(found["test"]) == ["age"], "no task without a label"
    age = found["test"]["age"]
    assert (age["mae"]["value"], age["mae"]["n"], age["bias"]["value"]) == (
        pytest.approx(5 / 3),
        3,
        pytest.approx(-1 / 3),
    )
    assert age["median_mae"]["value"] == pytest.approx((11 + 11 + 10) / 3), "always saying 40, training's median"
    assert {name: part["mae"]["value"] for name, part in age["by_dataset"].items()} == {"utkface": 1.0, "own": 3.0}
    assert found["train"]["age"]["mae"]["value"] == pytest.approx(10 / 3)
    shown = summary(found).set_index(["split", "dataset"])["value"]
    assert shown["test", "all"] == "1.7 years" and shown["test", "utkface"] == "1.0 years"
    (figure,) = task_figures("age", found, table, drawn=False).values()
    plots.save_all({"age": figure}, tmp_path)
    points = figure.axes[0].collections[0].get_offsets()
    assert points.tolist() == [[24.5, 25], [24.5, 31], [30, 27]], "an interval stands at its middle"
    assert [bar.get_height() for bar in figure.axes[1].patches] == [1.0, 3.0], "by decade: how far off, not from there"


def test_test_faces_that_have_no_copy_in_training_data_are_also_measured_alone():
    table = predictions({"train": [("own", 20, 20, 20.0)] * 2, "test": [("own", 20, 20, 20.0), ("own", 30, 30, 36.0)]})
    assert "without_copies" not in measure(table)["test"]["age"], "the table does not tell"
    found = measure(table.assign(copied=[False, False, True, False]))
    assert found["test"]["age"]["mae"]["value"] == 3 and found["test"]["age"]["without_copies"]["mae"]["value"] == 6
    assert found["test"]["age"]["without_copies"]["cs5"]["n"] == 1 and "without_copies" not in found["train"]["age"]
    assert measure(table.assign(copied=True))["test"]["age"]["without_copies"] is None


def share(value, n=10_000):
    return {"accuracy": proportion(round(value * n), n)}


def metrics(fer=None, raf=None, gender=0.99, mae=3.0, half=0.1):
    """Results as evaluation writes them, with chosen values."""
    emotion = {name: share(value) for name, value in (("fer2013", fer), ("rafdb", raf)) if value is not None}
    age = {"mae": {"value": mae, "low": mae - half, "high": mae + half, "n": 900}}
    test = {"gender": {"by_dataset": {"utkface": share(gender)}}, "age": {"by_dataset": {"utkface": age}}}
    return {"evaluation": {"test": test | ({"emotion": {"by_dataset": emotion}} if emotion else {})}}


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
    results = metrics(0.99, 0.99, 0.99, 1.0)
    results["evaluation"]["gap"] = {"value": 0.0, "low": -0.01, "high": 0.01, "n": 5000}
    assert statuses(results)[:4] == ["pass"] * 4
    assert statuses(results, drawn=True)[:4] == ["drawn faces"] * 4


def test_what_was_not_measured_is_said_so_and_a_table_can_be_made(finished):
    assert statuses({}) == ["not measured"] * 6
    table = verdict_table(verdict(finished.read_metrics(), drawn=True))
    assert len(table) == 6 and not table["verdict"].str.contains("not measured").any()
    evaluated = {"evaluation": evaluation(finished)}
    assert [status == "not measured" for status in statuses(evaluated)] == [False] * 4 + [True] * 2


def test_metrics_are_json_that_any_reader_takes(trained, tmp_path):
    run = copied(trained, tmp_path / "tiny")
    alone = {"mae": {"value": 3.0, "low": -math.inf, "high": math.inf, "n": 1}, "none": math.nan}
    run.write_metrics("evaluation", {"test": {"age": {"by_dataset": {"utkface": alone}}}})
    text = (run.folder / "metrics.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert statuses(json.loads(text))[2] == "borderline", "one face proves nothing"
