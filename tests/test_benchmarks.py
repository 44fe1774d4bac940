"""The benchmarks run and end with one JSON line; what they measure is not judged here, since machines are noisy."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from graphs import tiny_model
from tables import answered, blank

from benchmarks import peers
from benchmarks.onnx import EACH, GROUPS, Place, megabytes, parity, torch_way
from benchmarks.peers import as_predictions, report, score
from helpers.export.graph import build_graph
from helpers.files import InputError
from helpers.tasks import EMOTION, GENDER, Classes

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("name", "options", "figures"),
    [
        ("loader", ["--batches", "2", "--workers", "0"], {"loader_ratio", "float_batch_ratio"}),
        (
            "store",
            ["--sizes", "400", "800", "--workers", "1"],
            {"packing_faces_per_s", "first_batch_s", "first_batch_ratio", "memory_ratio"},
        ),
        (
            "evaluation",
            ["--predictions", "2000", "--predict", "64", "--backbone", "test_resnet", "--size", "64"],
            {"measures_s", "figures_s", "predicting_by_forward"},
        ),
        (
            "onnx",
            ["--backbone", "test_resnet", "--size", "32", "--calls", "3", "--threads", "1"],
            {"fp32_ratio", "best_ratio"},
        ),
        ("detector", ["--most", "3", "--scenes", "1"], {"threshold", "ms_640x480"}),
        (
            "training",
            ["--part", "speed", "--steps", "2", "--backbone", "test_resnet", "--size", "32", "--workers", "0"],
            {"end_to_end_ratio"},
        ),
        (
            "training",
            [
                "--part",
                "learn",
                "ablation",
                "--minutes",
                "0.01",
                "--seeds",
                "1",
                "--backbone",
                "test_resnet",
                "--size",
                "32",
                "--workers",
                "0",
            ],
            {"emotion_gain", "over_bare_loop", "estimate_ratio", "worth"},
        ),
    ],
)
def test_a_benchmark_ends_with_its_ratios(store, name, options, figures):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--faces", str(store.folder), "--rounds", "1", *options]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    last = json.loads(found.stdout.splitlines()[-1])
    assert figures <= set(last) and (name in ("training", "evaluation") or all(last[figure] > 0 for figure in figures))
    assert last["faces"] == len(store) and last["drawn"] is True
    assert not list(store.folder.parent.glob("tmp*")), "nothing is left behind"


def test_an_exported_graph_is_compared_with_the_network_face_by_face(trained, store, tmp_path):
    whole, other = build_graph(trained), build_graph(trained, img_size=24)
    paths = {"fp32": tmp_path / "fp32.onnx", "24 px": tmp_path / "24.onnx"}
    for path, model in zip(paths.values(), (whole, other), strict=True):
        path.write_bytes(model.SerializeToString())
    found = parity(trained, paths, store)
    assert {one["faces"] for one in found.values()} == {len(store.fixed_sample("validation", EACH))}
    for size in GROUPS:
        assert found[f"fp32, batch {size}"]["difference"] < 1e-4 and found[f"fp32, batch {size}"]["changed"] == 0
        assert found[f"24 px, batch {size}"]["difference"] > 1e-3


def test_a_class_that_changed_is_counted(trained, store, tmp_path, monkeypatch):
    network = torch_way(trained, Place(1))

    def turned(faces):
        return [said[:, ::-1] if said.ndim == 2 else said for said in network(faces)]

    monkeypatch.setattr("benchmarks.onnx.session_way", lambda *_: turned)
    assert {one["changed"] for one in parity(trained, {"turned": tmp_path}, store).values()} == {1.0}


def test_peak_memory_is_that_of_the_fresh_process_and_not_of_the_one_that_starts_it(tmp_path):
    held = np.ones(300_000_000, np.uint8)
    assert 20 < megabytes(tiny_model(tmp_path / "tiny.onnx"), (1, 8, 8, 3)) < len(held) / 1e6


def test_peak_memory_grows_with_the_faces_that_are_answered(tmp_path):
    model = tiny_model(tmp_path / "tiny.onnx")
    one, many = (megabytes(model, (count, 500, 500, 3)) for count in (1, 64))
    assert many - one > 63 * 500 * 500 * 3 / 2**20, "as uint8 alone, which the graph makes floats of"


def made_up(labels: dict[str, list], **columns) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test faces with these labels, in a store's rows from 100 on, and answers of these columns for them."""
    count = len(next(iter(labels.values())))
    faces = blank(count, copied=False, **labels).set_index(np.arange(100, 100 + count))
    return faces, pd.DataFrame({"row": faces.index, "ms": 2.0, **columns})


def surely(task: Classes, codes: np.ndarray, words: dict[str, str] | None = None, sure: float = 0.9) -> dict:
    """The columns ``p_<word>`` of a reader that answers so; some classes go by its own words."""
    columns = answered(task, codes, sure)
    return {f"p_{(words or {}).get(name, name)}": columns[f"p_{name}"] for name in task.classes}


def test_a_readers_own_words_are_read_as_our_classes():
    truth = np.arange(70) % 7
    own = {"angry": "Anger", "disgust": "disgusted", "fear": "fearful", "surprise": "surprised", "happy": "joy"}
    faces, answers = made_up({"emotion": truth}, **surely(EMOTION, truth, own))
    backwards = answers[["row", "ms", *answers.columns[:1:-1]]].sample(frac=1, random_state=0)
    table = as_predictions(backwards, faces)
    assert (table["emotion_answer"] == truth).all() and np.allclose(table["p_fear"].max(), 0.9)
    answers["p_contempt"] = 0.0
    with pytest.raises(InputError, match="contempt"):
        as_predictions(answers, faces)


def test_a_class_that_a_reader_lacks_is_never_its_answer():
    truth = np.arange(70) % 7
    faces, answers = made_up({"emotion": truth}, **surely(EMOTION, np.full(70, 3)))
    table = as_predictions(answers.drop(columns="p_disgust"), faces)
    assert (table["emotion_answer"] == 3).all() and (table["p_disgust"] == 0).all()


def test_words_without_probabilities_have_an_accuracy_and_no_calibration_error():
    truth = np.arange(70) % 7
    faces, answers = made_up({"emotion": truth}, emotion=[EMOTION.classes[code] for code in truth])
    answers.loc[:13, "emotion"] = "happy"
    one = score(faces, {"peer": answers})["peer"]["emotion"]
    assert one["measures"]["accuracy"]["value"] == pytest.approx(58 / 70) and math.isnan(one["ece"]["value"])


def test_a_face_without_an_answer_counts_neither_for_nor_against_a_reader():
    truth = np.arange(80) % 2
    faces, answers = made_up({"gender": truth}, **surely(GENDER, truth))
    answers.loc[:9, ["p_male", "p_female"]] = math.nan
    accuracy = score(faces, {"peer": answers.iloc[:60]})["peer"]["gender"]["measures"]["accuracy"]
    assert (accuracy["n"], accuracy["value"]) == (50, 1.0)


def test_a_reader_without_emotions_has_no_line_among_them():
    ages = np.linspace(1, 90, 60)
    labels = {"emotion": np.arange(60) % 7, "age_low": ages, "age_high": ages}
    faces, answers = made_up(labels, **surely(EMOTION, labels["emotion"]), age=ages + 2.0)
    scores = score(faces, {"ours": answers, "peer": answers[["row", "ms", "age"]]})
    assert set(scores["peer"]) == {"age"} and set(scores["ours"]) == {"emotion", "age"}
    about = {name: {"package": name, "bytes": 3_000_000, "date": "2026-01-02"} for name in scores}
    emotion, _, age, bands, files = report(scores, about).split("\n\n")
    assert "| peer |" not in emotion and "| ours | 60 | 100.0 (" in emotion
    assert "| peer | 60 | 2.00 (2.00 to 2.00) |" in age and "| 10-19 |" in bands
    assert "| peer | peer | 3.00 |" in files


def test_ours_is_compared_with_a_peer_on_the_faces_that_both_answered():
    truth = np.arange(200) % 2
    right, wrong = surely(GENDER, truth), surely(GENDER, 1 - truth)
    faces, ours = made_up({"gender": truth}, **right)
    peer = ours.assign(**{name: np.where(np.arange(200) < 50, wrong[name], right[name]) for name in right})
    line = score(faces, {"ours": ours, "peer": peer.iloc[:150]})["peer"]["gender"]["against"]
    assert line["n"] == 150 and line["difference"] == pytest.approx(1 / 3) and line["p"] < 1e-9
    assert line["low"] < 1 / 3 < line["high"] and line["low"] > 0.2


def test_answers_for_other_faces_are_refused():
    faces, answers = made_up({"gender": np.zeros(10, int)}, **surely(GENDER, np.zeros(10, int)))
    for strange in (answers.assign(row=answers["row"] + 1), pd.concat([answers, answers])):
        with pytest.raises(InputError, match="no test face"):
            as_predictions(strange, faces)


def test_of_faces_without_a_truth_it_is_told_how_often_readers_agree_in_their_own_words():
    _, ours = made_up({"emotion": np.zeros(40, int)}, **surely(EMOTION, np.full(40, EMOTION.code("happy"))))
    row = ours["row"].to_numpy()
    peer = pd.DataFrame({"row": row[::-1], "p_joy": np.where(row[::-1] < 130, 0.8, 0.1), "p_sadness": 0.3})
    ages = pd.DataFrame({"row": row, "age": 30.0, "p_male": 0.5, "p_female": 0.5})
    _, _, mine, theirs = peers.agreement({"ours": ours, "peer": peer, "of ages": ages}).splitlines()
    assert mine.startswith("| ours | 40 | 100.0 (") and "| 75.0 (" in mine
    assert theirs.startswith("| peer | 40 | 75.0 (") and theirs.endswith("| 0.68 |")


def test_faces_whose_emotion_nobody_knows_are_of_people_and_asked_for_nothing_else(store, tmp_path):
    folder = peers.export(store, tmp_path, unlabelled=5)
    asked = json.loads((folder / "faces.json").read_text())
    assert len(asked) == 5 == len(list(folder.glob("*.png"))) and folder != peers.export(store, tmp_path)
    for face in asked:
        assert face["tasks"] == ["emotion"] and not store.known("emotion")[face["row"]]
        assert store.labels("age")[face["row"], 0] >= 5


def test_a_peer_that_cannot_be_installed_is_left_out_with_its_reason(store, tmp_path, monkeypatch, capsys):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"weights")

    def run(*command, cwd=None):
        """Answers as ours would; installs nothing."""
        if "ours" not in command:
            raise subprocess.CalledProcessError(1, command, stderr="resolving\nno such package\n")
        rows = store.rows("test")
        Path(command[5]).write_text(
            pd.DataFrame({"row": rows, "age": 30.0, "ms": 1.0}).to_json(orient="records", lines=True)
        )

    monkeypatch.setattr(peers, "_run", run)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    options = ["--faces", str(store.folder), "--model", str(model), "--work", str(tmp_path), "--only", "fer"]
    for asked in (True, False):  # the second time what was answered is there
        monkeypatch.setattr(sys, "argv", ["peers", *options])
        peers.main()
        said = capsys.readouterr().out
        last = json.loads(said.splitlines()[-1])
        assert last["missing"] == {"fer": "no such package"} and set(last["readers"]) == {"ours"}
        assert last["readers"]["ours"]["age"]["n"] == store.known("age")[store.rows("test")].sum()
        assert ("Asking ours" in said) == asked
