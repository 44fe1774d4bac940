"""Training resumes exactly, keeps the best epoch and refuses what it cannot use."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from drawn_faces.face import draw_face
from helpers.config import PackConfig, decide, recipe
from helpers.data.store import pack
from helpers.files import InputError
from helpers.runs.checkpoints import load_checkpoint, save_checkpoint
from helpers.runs.run import Run
from helpers.runs.tensorboard import log_to_tensorboard
from helpers.session.gpu import Gpu
from helpers.training import loop as loop_module
from helpers.training import predict as predict_module
from helpers.training import session as session_module
from helpers.training import state as state_module
from helpers.training.estimate import estimate
from helpers.training.loop import fit, train_step
from helpers.training.messages import gap_advice
from helpers.training.model import FaceModel, Reader, create_model, parameter_counts
from helpers.training.predict import load_best, predict
from helpers.training.state import build


def weights(run: Run) -> dict:
    return load_checkpoint(run.last_path)["model"]


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def interrupt_at(step: int):
    """A step callback that sends the interrupt of Ctrl-C at a step."""

    def on_step(done, total):
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return on_step


@pytest.mark.parametrize(("workers", "step"), [(0, 3), (1, 11), (2, 15)])
def test_an_interrupted_run_goes_on_to_the_same_weights_as_one_never_stopped(
    store, tiny_config, trained, tmp_path, workers, step
):
    config = tiny_config.replace(workers=workers)
    run = fit(config, store, tmp_path / "run", on_step=interrupt_at(step))
    assert load_checkpoint(run.last_path)["step"] == step
    resumed = fit(config.replace(workers=1, max_minutes=60.0), store, tmp_path / "run")
    assert resumed.config.data.workers == 1, "how fast it goes on may change, what it learns may not"
    assert equal(weights(resumed), weights(trained))
    assert [row["val_loss"] for row in resumed.history] == [row["val_loss"] for row in trained.history]
    assert [row["train_loss"] for row in resumed.history] == [row["train_loss"] for row in trained.history]


def test_a_kill_before_the_history_is_written_costs_no_epoch(store, tiny_config, trained, tmp_path):
    def die(run):
        raise SystemError("killed")

    for _ in range(tiny_config.schedule.epochs):
        with pytest.raises(SystemError):
            fit(tiny_config, store, tmp_path / "run", on_epoch=die)
        (tmp_path / "run" / "history.jsonl").write_text("")
    resumed = fit(tiny_config, store, tmp_path / "run")
    assert equal(weights(resumed), weights(trained)) and len(resumed.history) == tiny_config.schedule.epochs
    assert resumed.history_path.read_text().count("\n") == tiny_config.schedule.epochs


def test_a_run_killed_before_its_first_checkpoint_still_starts_from_the_weights_it_asked_for(
    store, tiny_config, tmp_path, monkeypatch
):
    asked = []

    def watched(config, sizes, fetch_weights, folder):
        asked.append(fetch_weights)
        return create_model(config, sizes, fetch_weights, folder)

    monkeypatch.setattr(state_module, "create_model", watched)
    Run.start(tmp_path / "run", tiny_config, store)  # all that a kill at this moment leaves
    fit(tiny_config, store, tmp_path / "run", on_step=interrupt_at(2))
    fit(tiny_config, store, tmp_path / "run", on_step=interrupt_at(3))
    assert asked == [True, False]


def test_a_finished_run_is_not_trained_further(store, tiny_config, trained):
    before = trained.last_path.stat().st_mtime_ns
    assert fit(tiny_config, store, trained.folder).history == trained.history
    assert trained.last_path.stat().st_mtime_ns == before


def test_another_config_or_other_faces_are_refused_with_the_difference(
    store, tiny_config, trained, sample_folders, tmp_path
):
    with pytest.raises(InputError, match=r"another config \(lr 0.001 -> 0.004; seed 42 -> 7\)"):
        fit(tiny_config.replace(lr=4e-3, seed=7), store, trained.folder)
    other = pack({"utkface": sample_folders["utkface"]}, tmp_path / "faces")
    with pytest.raises(InputError, match="was trained on other faces"):
        Run.start(trained.folder, tiny_config, other)


def test_the_history_names_every_measure_and_marks_the_best_epoch(trained):
    rows = [json.loads(line) for line in trained.history_path.read_text().splitlines()]
    assert rows == trained.history and [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        for name in (
            "loss",
            "emotion_loss",
            "age_loss",
            "gender_loss",
            "emotion_accuracy",
            "gender_accuracy",
            "age_mae",
        ):
            assert np.isfinite([row[f"train_{name}"], row[f"val_{name}"]]).all()
        assert row["lr"] > 0 and row["minutes"] > 0
    best = max(row["val_emotion_accuracy"] for row in rows)
    assert [row for row in rows if row["best"]][-1]["val_emotion_accuracy"] == best


def test_the_best_checkpoint_is_the_best_epoch_s_weights(store, trained):
    model = load_best(trained)
    found = predict(model, store, store.rows("validation"))
    labels, answers = found.known("emotion")
    best = [row for row in trained.history if row["best"]][-1]
    assert (labels == answers).mean() == pytest.approx(best["val_emotion_accuracy"])


def test_early_stopping_waits_for_the_patience_and_the_best_stays(store, tiny_config, tmp_path, monkeypatch):
    values = iter([0.5, 0.6, 0.6005, 0.6004, 0.1, 0.9])

    def scripted(training):
        return validate(training) | {"val_emotion_accuracy": next(values), "val_loss": 1.0}

    validate = loop_module.validate
    monkeypatch.setattr(loop_module, "validate", scripted)
    run = fit(tiny_config.replace(epochs=9, patience=3), store, tmp_path / "run")
    assert len(run.history) == 5, "0.6005 and 0.6004 are no gain of min_delta, 0.1 is the third epoch without one"
    assert [row["best"] for row in run.history] == [True, True, True, False, False]


def test_a_tie_goes_to_the_lower_loss(store, tiny_config, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5])

    def scripted(training):
        return validate(training) | {"val_emotion_accuracy": 0.5, "val_loss": next(losses)}

    validate = loop_module.validate
    monkeypatch.setattr(loop_module, "validate", scripted)
    run = fit(tiny_config.replace(epochs=3), store, tmp_path / "run")
    assert [row["best"] for row in run.history] == [True, True, False]


def test_the_minutes_end_a_run_after_a_whole_epoch(store, tiny_config, tmp_path):
    run = fit(tiny_config.replace(epochs=50, max_minutes=0.001), store, tmp_path / "run")
    assert len(run.history) == 1 and run.best_path.exists()
    assert "0.001 minutes are used up; start again" in (run.folder / "train.log").read_text()
    assert json.loads((run.folder / "results.json").read_text())["finished"] is False
    assert len(fit(run.config, store, run.folder).history) == 2, "each session gets on by an epoch at least"
    other = Run.open(run.folder).config.replace(max_minutes=0.001, workers=1)
    assert len(fit(other, store, run.folder).history) == 3, "these two may change"


def test_the_learning_rate_follows_the_cosine_with_warm_restarts(store, tiny_config, tmp_path):
    run = fit(tiny_config.replace(epochs=4, schedule="restarts", t_0=1, t_mult=2), store, tmp_path / "run")
    steps = len(store.rows("train")) // tiny_config.data.batch_size
    lowest = tiny_config.optimiser.lr / 100

    def cosine(share):  # arXiv 1608.03983, equation 5
        return lowest + (tiny_config.optimiser.lr - lowest) * 0.5 * (1 + np.cos(np.pi * share))

    last = 1 - 1 / steps  # the rate of an epoch's last step, in epochs since its start
    expected = [cosine(last), cosine(last / 2), cosine((1 + last) / 2), cosine(last / 4)]
    assert [row["lr"] for row in run.history] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "efficientnet_b22"}, "timm has no backbone 'efficientnet_b22'; did you mean"),
        ({"backbone": "eva02_tiny_patch14_224", "img_size": 32}, "cannot read faces of 32 pixels"),
        (
            {"backbone": "pit_ti_224", "img_size": 128, "first_size": 0.5, "epochs": 4},
            "cannot read faces of 64 pixels, with which first_size begins .* set first_size = 1",
        ),
        ({"backbone": "test_resnet", "select_by": "age_mae"}, "no validation face carries that label"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_no_run(sample_folders, tiny_config, tmp_path, changes, words):
    folders = {"fer2013": sample_folders["fer2013"]} if "select_by" in changes else sample_folders
    store = pack(folders, tmp_path / "faces")
    with pytest.raises(InputError, match=words):
        fit(tiny_config.replace(**changes), store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def faces_of(tmp_path: Path, labels: list[str], splits: list[str], alike: bool = False):
    """A store of drawn faces with these emotions and published splits."""
    for number in range(len(labels)):
        face = draw_face(np.random.default_rng(0 if alike else number), 0 if alike else number % 7, 30, 0, 48)
        Image.fromarray(face).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{label},{split}" for number, (label, split) in enumerate(zip(labels, splits, strict=True))]
    (tmp_path / "faces.csv").write_text("\n".join(["file,emotion,split", *rows]))
    return pack({"own": tmp_path / "faces.csv"}, tmp_path / "packed" / "faces")


@pytest.mark.parametrize(
    ("count", "splits", "words"),
    [
        (1, ["validation"], "has 0 training and 1 validation faces that differ, but needs 2 of each"),
        (3, ["train", "validation", "test"], r"has \d training and 1 validation faces"),
        (5, ["test"], "has 0 training and 0 validation faces"),
        (30, ["test", "validation"], "has 0 training and 15 validation faces"),
    ],
)
def test_too_few_faces_are_one_sentence_before_the_estimate_and_before_anything_is_written(
    tiny_config, tmp_path, count, splits, words
):
    labels, splits = ["happy", "sad"] * count, splits * count
    store = faces_of(tmp_path, labels[:count], splits[:count])
    for step in (estimate, fit):
        with pytest.raises(InputError, match=words) as caught:
            step(tiny_config, store, tmp_path / "run")
        assert "pack more faces" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_copies_of_one_picture_are_one_face_to_learn_from(tiny_config, tmp_path):
    store = faces_of(tmp_path, ["happy"] * 30, ["train"] * 30, alike=True)
    with pytest.raises(InputError, match=r"has [01] training and [01] validation faces that differ"):
        estimate(tiny_config, store, tmp_path / "run")


def test_faces_whose_labels_all_contradict_each_other_leave_no_store(tmp_path):
    with pytest.raises(InputError, match="Not one face of own is left: the labels of all contradict each other"):
        faces_of(tmp_path, ["happy", "sad"] * 10, ["train"] * 20, alike=True)
    assert not (tmp_path / "packed" / "faces").exists()


def test_one_class_alone_is_refused_since_its_100_percent_would_mean_nothing(tiny_config, tmp_path):
    store = faces_of(tmp_path, ["happy"] * 40, ["train", "validation"] * 20)
    for measure in ("emotion_accuracy", "loss"):
        with pytest.raises(InputError, match=r"have one class only \(emotion happy\), so 100 % would mean nothing"):
            estimate(tiny_config.replace(select_by=measure), store, tmp_path / "run")
    with pytest.raises(InputError, match="no validation face carries that label"):
        estimate(tiny_config.replace(select_by="age_mae"), store, tmp_path / "run")


def test_weights_that_cannot_be_fetched_are_told_in_one_sentence(tiny_config, monkeypatch):
    import timm

    def offline(name, pretrained, **_):
        from huggingface_hub.errors import LocalEntryNotFoundError

        assert pretrained
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"'imagenet' weights of 'resnet18' cannot be fetched.*weights = 'none'"):
        create_model(tiny_config.replace(backbone="resnet18", weights="imagenet").model)


def test_a_run_opened_again_starts_from_its_own_config_and_the_changes_that_are_asked_for(
    store, trained, tiny_config, tmp_path
):
    assert Run.configs(tmp_path / "none", {}) == {"origin": None}
    mine = Run.configs(trained.folder, {})["existing"]
    assert decide(None, {}, existing=mine) == decide("auto", {}, existing=mine) == trained.config
    more = decide(None, {"max_minutes": 3.0, "workers": 2}, existing=mine)
    assert more == trained.config.replace(max_minutes=3.0, workers=2)
    with pytest.raises(InputError, match=r"another config \(epochs 2 -> 9\)"):
        fit(decide(None, {"epochs": 9}, existing=mine), store, trained.folder)
    with pytest.raises(InputError, match=r"another config .*backbone 'test_resnet' -> 'efficientnet_b2'"):
        fit(decide("production", {"weights": "none"}, existing=mine), store, trained.folder)


def test_a_damaged_history_is_told_and_comes_back_from_the_checkpoint(store, trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "run"))
    run.history_path.write_bytes(b"\xff garbage\n")
    with pytest.raises(InputError, match=r"history\.jsonl cannot be read as text .*: train again"):
        _ = Run.open(run.folder).history
    assert fit(run.config, store, run.folder).history == trained.history
    assert Run.open(run.folder).history == trained.history


def test_weights_of_another_network_are_refused_with_the_version_that_made_them(trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "run"))
    epoch = load_checkpoint(run.best_path)["epoch"]
    save_checkpoint(run.best_path, {"model": {"other": torch.zeros(1)}, "epoch": epoch})
    with pytest.raises(InputError, match=r"do not fit the network that timm .* was started with timm"):
        load_best(run)


def test_heads_are_as_documented(tiny_config):
    model = create_model(tiny_config.replace(dropout_in=0.5, dropout_hidden=0.4).model)
    for head, outputs in zip(model.heads.values(), (7, 1, 2), strict=True):
        kinds = [type(layer).__name__ for layer in head]
        assert kinds == ["Dropout", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
        assert (head[0].p, head[4].p, head[5].out_features) == (0.5, 0.4, outputs)
        assert head[5].bias.abs().sum() == 0 and head[5].weight.std() < 0.02
    total, trainable = parameter_counts(model)
    assert total == trainable == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "resnet18", "efficientnet_b0", "vit_tiny_patch16_224"])
def test_any_common_backbone_fits_between_preprocessing_and_heads(backbone):
    model = create_model(recipe("small", backbone=backbone, img_size=32).model)
    emotion, age, years, gender = Reader(model).eval()(torch.zeros(3, 50, 40, 3, dtype=torch.uint8))
    assert emotion.shape == (3, 7) and age.shape == (3,) and years.shape == (3, 2) and gender.shape == (3, 2)
    assert torch.allclose(emotion.sum(1), torch.ones(3)) and torch.allclose(gender.sum(1), torch.ones(3))


def test_a_vision_transformer_trains_while_its_faces_grow(store, tiny_config, tmp_path):
    config = tiny_config.replace(backbone="test_vit", img_size=128, first_size=0.5, epochs=2, batch_size=64)
    run = fit(config, store, tmp_path / "run")
    assert [row["size"] for row in run.history] == [64, 128]


def test_while_the_heads_learn_alone_the_backbone_stays_as_it_is_and_then_learns(store, tiny_config):
    training = build(tiny_config.replace(head_epochs=1, epochs=2), store)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}

    def epoch() -> set[str]:
        for batch in training.batches():
            train_step(training, batch)
        now = training.model.state_dict()
        return {name.partition(".")[0] for name in before if not torch.equal(before[name], now[name])}

    assert epoch() == {"heads"}, "neither the backbone's weights nor the statistics of its BatchNorm"
    assert not any(p in training.optimizer.state for p in training.model.backbone.parameters()), "no backward pass"
    assert epoch() == {"heads", "backbone"}


def test_preprocessing_normalises_as_the_backbone_was_pretrained(tiny_config):
    model: FaceModel = create_model(tiny_config.replace(backbone="tf_efficientnet_b0").model)
    white = model.preprocess(torch.full((1, 9, 9, 3), 255, dtype=torch.uint8))
    mean, std = (torch.tensor(model.backbone.pretrained_cfg[name]) for name in ("mean", "std"))
    assert torch.allclose(white[0, :, 5, 5], (1 - mean) / std, atol=1e-5)


def test_predictions_come_back_in_the_order_that_was_asked_for(store, trained, monkeypatch):
    model = load_best(trained)
    rows = np.random.default_rng(0).permutation(len(store))[:60]
    monkeypatch.setattr(predict_module, "BATCH_SIZE", 7)
    together = predict(model, store, rows)
    for place in (0, 13, 59):
        alone = predict(model, store, rows[place : place + 1])
        assert torch.allclose(together.outputs["emotion"][place], alone.outputs["emotion"][0], atol=1e-4)
        assert together.labels["emotion"][place] == store.faces["emotion"][rows[place]]


def test_a_finished_run_leaves_its_results_its_log_and_its_parameters(trained, store):
    results = json.loads((trained.folder / "results.json").read_text())
    assert results["epochs"] == 2 and results["finished"] is True and results["last"] == trained.history[-1]
    assert results["best"] == max(trained.history, key=lambda row: (row["val_emotion_accuracy"], -row["val_loss"]))
    total, trainable = parameter_counts(load_best(trained))
    assert (results["parameters"], results["trainable_parameters"]) == (total, trainable)
    assert results["training_faces"] == len(store.rows("train"))
    lines = (trained.folder / "train.log").read_text().splitlines()
    assert f"{total:,} parameters, {trainable:,} of them trainable" in lines[0]
    assert [line for line in lines if "epoch 2, loss" in line] and "GPU" not in lines[-1]


def test_a_network_that_asks_for_more_than_the_store_holds_is_told_so(sample_folders, tiny_config, tmp_path):
    small = pack({"utkface": sample_folders["utkface"], "rafdb": sample_folders["rafdb"]}, tmp_path / "faces",
                 PackConfig(max_side=32))  # fmt: skip
    lines: list[str] = []
    config = tiny_config.replace(epochs=1, img_size=40)
    fit(config, small, tmp_path / "run", on_log=lines.append)
    assert any("stored with 32 pixels a side at most" in line and "max_side = 40" in line for line in lines)
    fit(config.replace(img_size=32), small, tmp_path / "other", on_log=lines.append)
    assert sum("at most" in line for line in lines) == 1


def test_each_line_of_the_log_is_also_handed_out(store, tiny_config, tmp_path):
    lines = []
    fit(tiny_config.replace(epochs=1), store, tmp_path / "run", on_log=lines.append)
    assert [line[21:] for line in (tmp_path / "run" / "train.log").read_text().splitlines()] == lines
    assert lines[0].startswith("start with step 0") and lines[1].startswith("epoch 1")


def measured(gap, faces, validation=0.5):
    """An epoch with a gap in points, on so many training and validation faces."""
    counts = {"train_faces": faces, "val_faces": faces, "val_emotion_accuracy": validation}
    return counts | {"gap": None if gap is None else gap / 100, "train_emotion_accuracy": validation + (gap or 0) / 100}


@pytest.mark.parametrize(
    ("faces", "validation", "gap", "told"),
    [
        (43, 0.2, 15, False),  # epoch 1 of 43 faces: the interval reaches below the bound
        (43, 0.5, 25, False),
        (43, 0.4, 55, True),
        (5000, 0.5, 11, False),
        (5000, 0.5, 15, True),
        (5000, 0.14, 60, False),  # what validation knows may be chance
    ],
)
def test_learning_by_heart_is_told_only_where_the_faces_suffice_to_know_it(faces, validation, gap, told):
    # Incident: "begins to learn by heart" in the first epoch on 43 faces.
    said = gap_advice([measured(gap, faces, validation)], recipe("production"))
    assert ("by heart" in said) == told
    older = {"gap": gap / 100, "train_emotion_accuracy": validation + gap / 100, "val_emotion_accuracy": validation}
    assert gap_advice([older], recipe("production")) == "", "epochs of an older version do not tell of how many faces"


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ([5, 9.9], None),
        ([5, 11], "begins to learn its training faces by heart"),
        ([11, 12], None),
        ([11, 21], "stop here, since the best epoch is kept"),
        ([25, 22], None),
        ([25, 15], None),
        ([None, 30], "has learned its training faces by heart"),
        ([30, None], None),
    ],
)
def test_a_gap_that_passes_ten_or_twenty_points_is_told_once_with_what_to_change(gaps, words):
    history = [measured(gap, faces=10**6) for gap in gaps]
    said = gap_advice(history, recipe("production"))
    assert (words in said and "augment (now 1)" in said) if words else said == ""


def test_the_gap_s_sentence_stands_in_the_log(store, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "gap_advice", lambda history, config: f"the gap of epoch {len(history)}")
    lines = []
    fit(tiny_config, store, tmp_path / "run", on_log=lines.append)
    assert [line for line in lines if "the gap of epoch" in line] == ["the gap of epoch 1", "the gap of epoch 2"]


def test_a_hot_gpu_stands_in_the_history_and_in_the_log(store, tiny_config, tmp_path, monkeypatch):
    gpus = (Gpu("Tesla T4", 16.1, 61), Gpu("Tesla T4", 16.1, 89, "heat"))
    monkeypatch.setattr(session_module, "read_gpus", lambda: gpus)
    run = fit(tiny_config.replace(epochs=1), store, tmp_path / "run")
    assert (run.history[0]["gpu_temperature"], run.history[0]["gpu_slowed_by"]) == (89, "heat")
    assert "GPU 89 °C, slowed down by heat" in (tmp_path / "run" / "train.log").read_text()


def test_tensorboard_shows_the_history_and_nothing_else_after_a_resume(trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "run"))
    whole, run.history = run.history, run.history[:1]
    log_to_tensorboard(run)
    run.history = whole
    log_to_tensorboard(run)
    log_to_tensorboard(run)  # the run goes on in another process
    found = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert {"loss/train", "loss/val", "emotion_accuracy/val", "age_mae/train", "run/lr"} <= set(found.Tags()["scalars"])
    for tag, name in (("loss/val", "val_loss"), ("run/lr", "lr")):
        points = [(event.step, event.value) for event in found.Scalars(tag)]
        assert points == [(row["epoch"], pytest.approx(row[name])) for row in whole]


def test_without_tensorboard_its_switch_is_refused_in_one_sentence(store, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="TensorBoard is not installed; run: pip install tensorboard"):
        fit(tiny_config, store, tmp_path / "run", on_open=log_to_tensorboard)


def test_a_technique_that_does_not_exist_is_refused_before_anything_is_written(store, tiny_config, tmp_path):
    with pytest.raises(InputError, match="'augment_without' names a technique 'snow'"):
        fit(tiny_config.replace(augment_without="snow"), store, tmp_path / "run")
    assert not (tmp_path / "run").exists()
