"""What goes wrong while training costs minutes at most, and is told in one sentence."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from helpers import plots
from helpers.config import recipe
from helpers.files import InputError, write_json
from helpers.runs import checkpoints
from helpers.runs.checkpoints import load_checkpoint
from helpers.runs.compare import runs_table
from helpers.runs.run import Run
from helpers.session import workspace as workspace_module
from helpers.session.workspace import Workspace
from helpers.training import loop as loop_module
from helpers.training import objective
from helpers.training import state as state_module
from helpers.training.loop import fit
from helpers.training.loss_guard import EVERY, LossGuard
from helpers.training.model import FaceModel, answers, create_model
from helpers.training.predict import load_best, predict
from helpers.training.session import training_session
from helpers.ui.live import LiveTraining

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 98.00 MiB. GPU 0 has a total capacity of 14.74 GiB"


def failing(number: int):
    """What the kernel says with an error number."""
    return OSError(number, os.strerror(number))


def broken_losses(monkeypatch, factor: float, first: int) -> None:
    """Multiply the loss by a factor from the given step on."""
    calls, real = [], objective.Objective.total

    def broken(self, sums, counts=None):
        if counts is None:  # an epoch's mean, not a step's loss
            return real(self, sums)
        calls.append(1)
        return real(self, sums, counts) * (factor if len(calls) > first else 1.0)

    monkeypatch.setattr(objective.Objective, "total", broken)


@pytest.mark.parametrize(("factor", "words"), [(float("nan"), "the loss is nan"), (float("inf"), "the loss is inf"),
                                               (1e4, "where it was")])  # fmt: skip
def test_a_loss_that_goes_wrong_ends_the_run_names_the_batch_and_keeps_the_last_good_state(
    store, tiny_config, tmp_path, monkeypatch, factor, words
):
    steps = len(store.rows("train")) // tiny_config.data.batch_size
    broken_losses(monkeypatch, factor, first=steps + 3)
    said = rf"In step {steps + 3}, whose batch begins with .*{words}.*lower the learning rate"
    with pytest.raises(InputError, match=said) as error:
        fit(tiny_config, store, tmp_path / "run", save_every=0.0)
    named = str(error.value).partition("begins with ")[2].split(", ")[0]
    assert named in store.faces["name"].to_numpy(), "a file to look at"
    run = Run.open(tmp_path / "run")
    state = load_checkpoint(run.last_path)
    assert state["step"] <= steps + 3 and len(run.history) == 1
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    monkeypatch.undo()
    assert len(fit(tiny_config, store, run.folder).history) == 2, "what is kept can be gone on with"


def test_a_gradient_that_is_no_number_is_seen_in_its_own_step(store, tiny_config, tmp_path, monkeypatch):
    steps, real = [], loop_module.clip_grad_norm_

    def poisoned(parameters, most):
        parameters = list(parameters)
        if len(steps) == 5:
            parameters[0].grad.fill_(float("nan"))
        steps.append(1)
        return real(parameters, most)

    monkeypatch.setattr(loop_module, "clip_grad_norm_", poisoned)
    with pytest.raises(InputError, match=r"In step 5, .*the gradient is nan; nothing was written"):
        fit(tiny_config, store, tmp_path / "run")


def test_weights_that_are_no_finite_numbers_are_never_saved(store, tiny_config, tmp_path):
    opened = []

    def poison(done, total):
        if done == 5:
            with torch.no_grad():
                next(opened[0].measured.parameters())[0] = float("inf")

    with (
        pytest.raises(InputError, match=r"After step 5 the weights hold what is no finite number .* is kept: lower"),
        training_session(tiny_config, store, tmp_path / "run", save_every=0.0, on_step=poison) as session,
    ):
        opened.append(session.training)
        for batch in session.training.batches():
            loop_module.train_step(session.training, batch)
            session.after_step()
    assert load_checkpoint(tmp_path / "run" / Run.LAST)["step"] == 4
    with torch.no_grad():
        assert all(value.isfinite().all() for value in load_checkpoint(tmp_path / "run" / Run.LAST)["model"].values())


def limited(monkeypatch, most: int) -> list[int]:
    """A device whose memory takes ``most`` faces at a time in training; returns the sizes that it was asked for."""
    asked, real = [], FaceModel.forward

    def forward(self, pixels):
        if self.training:
            asked.append(len(pixels))
            if len(pixels) > most:
                raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return real(self, pixels)

    monkeypatch.setattr(FaceModel, "forward", forward)
    return asked


def test_out_of_memory_cuts_the_batch_and_keeps_its_size(store, tiny_config, tmp_path, monkeypatch):
    asked, lines = limited(monkeypatch, most=10), []
    config = tiny_config.replace(epochs=1)
    run = fit(config, store, tmp_path / "run", on_log=lines.append)
    assert asked[:6] == [32, 16, 8, 8, 8, 8] and set(asked[6:]) == {8}, "tried twice, then it fits for good"
    assert len([line for line in lines if "each batch is now cut into" in line]) == 2
    steps = len(store.rows("train")) // config.data.batch_size
    assert load_checkpoint(run.last_path)["step"] == steps == run.history[0]["step"], "as many steps as ever"
    assert load_checkpoint(run.last_path)["accumulation"] == 4, "a session that goes on need not try again"


def test_measuring_goes_on_in_halves_where_the_device_runs_out_of_memory(store, trained, monkeypatch):
    model, rows, sizes = load_best(trained), store.rows("validation"), []
    whole, real = predict(model, store, rows), FaceModel.forward

    def forward(self, pixels):
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return real(self, pixels)

    monkeypatch.setattr(FaceModel, "forward", forward)
    halved = predict(model, store, rows)
    assert max(sizes) > 3 and torch.allclose(halved.outputs["emotion"], whole.outputs["emotion"], atol=1e-5)
    monkeypatch.setattr(FaceModel, "forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError(OUT_OF_MEMORY)))
    with pytest.raises(torch.OutOfMemoryError):
        predict(model, store, rows)


def test_a_loss_that_exploded_is_not_taken_for_the_usual_one_after_a_resume(store, tiny_config, tmp_path, monkeypatch):
    for _ in range(2):
        broken_losses(monkeypatch, 1e4, first=6)
        with pytest.raises(InputError, match="where it was"):
            fit(tiny_config, store, tmp_path / "run", save_every=0.0)
        assert load_checkpoint(tmp_path / "run" / Run.LAST)["step"] <= 6
        monkeypatch.undo()
        broken_losses(monkeypatch, 1e4, first=0)  # the next session starts in the middle of it


def test_with_loss_scaling_a_few_skipped_steps_are_normal_and_many_are_not():
    for broken, wrong in ((2, False), (40, True)):
        guard = LossGuard(torch.device("cpu"), norms=False)
        for step in range(EVERY):
            guard.add(step, torch.tensor(1.0), torch.tensor(float("inf") if step < broken else 1.0))
        found = guard.check()
        assert (found is not None) == wrong and (not wrong or "no numbers in float16" in found[1])


def test_where_the_network_cannot_be_compiled_it_learns_without(store, tiny_config, trained, tmp_path, monkeypatch):
    def compiled(model, **_):
        def forward(*arguments):
            raise TorchDynamoException("no compiler")

        return forward

    monkeypatch.setattr(state_module.torch, "compile", compiled)
    lines = []
    config = tiny_config.replace(compile="on")
    run = fit(config, store, tmp_path / "run", on_log=lines.append)
    assert (
        sum("torch.compile failed (TorchDynamoException): training goes on without it" in line for line in lines) == 1
    )
    first, second = (load_checkpoint(one.last_path)["model"] for one in (run, trained))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_history_without_a_checkpoint_is_not_added_to(store, tiny_config, trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "run"))
    shutil.rmtree(run.folder / "checkpoints")
    assert [row["epoch"] for row in fit(tiny_config, store, run.folder).history] == [1, 2]


def test_weights_of_an_epoch_that_no_history_tells_of_give_way_to_those_before(store, trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "run"))
    good = load_checkpoint(run.best_path)
    checkpoints.save_checkpoint(run.best_path, good | {"epoch": 3, "model": {}})  # a kill before the last checkpoint
    assert all(torch.equal(value, good["model"][name]) for name, value in load_best(run).state_dict().items())


def test_half_precision_keeps_the_years(tiny_config):
    for kind in ("number", "distribution"):
        model = create_model(tiny_config.replace(age_head=kind).model).eval()
        with torch.autocast("cpu", torch.bfloat16):
            years = answers(model(torch.randn(64, 3, 32, 32)))["age"]
        assert years.dtype == torch.float32 and len(years.unique()) > 10, (
            "bfloat16 itself has two values between 32.75 and 33"
        )


def test_bfloat16_trains_and_is_measured_in_full_precision(store, tiny_config, tmp_path):
    run = fit(tiny_config.replace(precision="bfloat16"), store, tmp_path / "run")
    assert "in bfloat16" in (run.folder / "train.log").read_text()
    best = next(row for row in reversed(run.history) if row["best"])
    found = predict(load_best(run), store, store.rows("validation"))
    labels, years = found.known("age")
    assert abs(years - labels[:, 0]).mean() == pytest.approx(best["val_age_mae"], abs=1e-5)


def test_a_device_that_cannot_hold_two_faces_is_told_so(store, tiny_config, tmp_path, monkeypatch):
    limited(monkeypatch, most=1)
    with pytest.raises(InputError, match=r"out of memory even with 2 faces at a time; .* smaller img_size \(now 32\)"):
        fit(tiny_config, store, tmp_path / "run")


def test_on_a_full_disk_training_goes_on_and_writes_when_there_is_room(
    store, tiny_config, trained, tmp_path, monkeypatch
):
    calls, lines, real = [], [], os.fsync

    def fsync(file):
        calls.append(file)
        if 2 < len(calls) < 6:  # from the second epoch on, until its last attempt
            raise failing(errno.ENOSPC)
        real(file)

    monkeypatch.setattr(checkpoints.os, "fsync", fsync)
    run = fit(tiny_config, store, tmp_path / "run", on_log=lines.append, save_every=0.0)
    told = [line for line in lines if "could not be written (No space left on device)" in line]
    assert len(told) == 3 and "training goes on" in told[0]
    assert not list(run.folder.rglob("*.partial"))
    for path in (Run.LAST, Run.BEST):
        first, second = (load_checkpoint(folder / path) for folder in (run.folder, trained.folder))
        weights = [state["model"] for state in (first, second)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_disk_that_stays_full_is_told_at_the_end_and_costs_what_was_not_written(
    store, tiny_config, trained, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "fsync", lambda file: (_ for _ in ()).throw(failing(errno.ENOSPC)))
        with pytest.raises(InputError, match=r"could not be written \(No space left on device\); free some space"):
            fit(tiny_config, store, tmp_path / "run")
    again = fit(tiny_config, store, tmp_path / "run")
    assert [row["val_loss"] for row in again.history] == [row["val_loss"] for row in trained.history]


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EIO, errno.ENOSPC])
def test_a_drive_that_is_gone_or_full_does_not_end_training(store, tiny_config, tmp_path, monkeypatch, number):
    space = Workspace(tmp_path, tmp_path / "drive", "")
    copies, lines = [], []

    class Heard(LiveTraining):
        def log(self, line):
            lines.append(line)

    def copy(source, target):
        copies.append(target)
        target.write_bytes(b"torn")  # what had gone through by then
        raise failing(number)

    monkeypatch.setattr(workspace_module.shutil, "copyfile", copy)
    monkeypatch.setattr("helpers.ui.live.COPY_EVERY", 0.0)
    monkeypatch.setattr("helpers.ui.live.display", lambda *_, **__: SimpleNamespace(update=lambda content: None))
    run = fit(tiny_config, store, space.run("run"), **Heard(tiny_config, store, space).hooks)
    assert len(run.history) == 2 and run.best_path.exists() and len(copies) == 3
    said = "\n".join(lines)
    assert f"WARNING: run could not be copied to {tmp_path / 'drive'} " in said and os.strerror(number) in said
    assert "it is complete on this machine" in said
    monkeypatch.undo()
    space.save(run.folder)
    assert len(list((tmp_path / "drive").iterdir())) == 1, "once Drive is back, so are the copies"


def test_of_a_run_only_what_is_needed_to_go_on_is_copied(tmp_path):
    first, second = (Workspace(tmp_path / name, tmp_path / "drive", "") for name in ("first", "second"))
    folder = first.run("run")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("1")
    for name in ("last.pt", "last.previous.pt", "best.previous.pt", "last.damaged.pt", "last.partial", ".claim"):
        (folder / name).write_text(name)
    first.save(folder)
    assert second.restore(second.run("run"))
    arrived = {path.name for path in second.run("run").iterdir()}
    assert arrived == {"manifest.json", "last.pt", "best.previous.pt"}, "of each the newest that is whole"


def test_after_an_interrupt_in_the_first_epoch_the_next_cells_work(store, tiny_config, tmp_path):
    def interrupt(done, total):
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    run = fit(tiny_config, store, tmp_path / "runs" / "run", on_step=interrupt)
    assert run.history == [] and plots.curves(run.history).png().startswith(b"\x89PNG")
    assert len(runs_table(run.folder.parent)) == 0
    with pytest.raises(InputError, match=r"^Run notebook 04 first, https"):
        load_best(run)
    assert "start again to go on" in (run.folder / "train.log").read_text()


def test_a_changed_config_is_refused_with_the_difference_and_a_run_of_another_version_with_a_sentence(
    store, tiny_config, trained, tmp_path
):
    with pytest.raises(InputError, match=r"another config \(schedule 'cosine' -> 'restarts'; ema 0\.0 -> 0\.99\)"):
        fit(tiny_config.replace(ema=0.99, schedule="restarts"), store, trained.folder)
    other = Run.start(tmp_path / "run", tiny_config, store)
    checkpoints.save_checkpoint(other.last_path, {"step": 3, "model": {}, "history": []})
    with pytest.raises(InputError, match="were written by another version of this project; start a run under another"):
        fit(tiny_config, store, tmp_path / "run")


def test_a_run_of_an_earlier_version_is_refused_in_one_sentence(store, tiny_config, trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "run"))
    earlier = {name: value for name, value in run.manifest.items() if name not in ("format", "classes")}
    (run.folder / "manifest.json").write_text(json.dumps(earlier))
    (run.folder / "config.json").write_text(json.dumps(tiny_config.flat() | {"quotas": ""}))
    for attempt in (lambda: fit(tiny_config, store, run.folder), lambda: Run.open(run.folder)):
        with pytest.raises(InputError, match=r"was trained by another version of this project; start a run under"):
            attempt()


def test_a_run_of_other_classes_is_refused_by_their_names(trained, tmp_path):
    run = Run.open(shutil.copytree(trained.folder, tmp_path / "run"))
    other = run.manifest | {"classes": run.manifest["classes"] | {"gender": ["female", "male"]}}
    write_json(run.folder / "manifest.json", other)
    with pytest.raises(InputError, match=r"other classes of gender \(female, male\) than there are now \(m"):
        Run.open(run.folder)


def test_the_validation_loss_has_the_class_weights_of_training(store, tiny_config, tmp_path):
    losses = {}
    for power in (0.0, 1.0):
        run = fit(tiny_config.replace(class_weights=power, lr=1e-6, epochs=1), store, tmp_path / str(power))
        losses[power] = run.history[0]
    assert losses[0.0]["val_emotion_loss"] != pytest.approx(losses[1.0]["val_emotion_loss"], rel=1e-4)
    assert losses[0.0]["val_gender_loss"] == pytest.approx(losses[1.0]["val_gender_loss"], rel=1e-3)


def test_runs_stand_side_by_side_with_what_differs(store, tiny_config, trained, tmp_path):
    for name, lr in (("slow", 1e-5), ("fast", 1e-3)):
        fit(tiny_config.replace(lr=lr, epochs=1), store, tmp_path / name)
    (tmp_path / "broken").mkdir()
    for name in ("manifest.json", "config.json"):
        shutil.copy(tmp_path / "fast" / name, tmp_path / "broken")
    (tmp_path / "broken" / "results.json").write_text("{")
    table = runs_table(tmp_path)
    assert table["what differs"][0] in ("lr 1e-05", "lr 0.001")
    assert set(table["run"]) == {"fast (drawn faces)", "slow (drawn faces)", "broken"}
    assert "cannot be read as JSON" in table["what differs"][table["run"] == "broken"].item()
    best = json.loads((Path(tmp_path) / "fast" / "results.json").read_text())["best"]
    row = table[table["run"] == "fast (drawn faces)"].iloc[0]
    assert row["emotion %"] == round(100 * best["val_emotion_accuracy"], 1) and row["epochs"] == 1


def test_precision_that_this_device_has_not_is_refused(store, tmp_path):
    config = recipe("demo", precision="float16", workers=0)
    with pytest.raises(InputError, match="'precision' is 'float16', which needs a GPU"):
        fit(config, store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_float16_trains_with_loss_scaling_and_its_scale_is_in_the_checkpoint(store, tiny_config, tmp_path, monkeypatch):
    # On a CPU, where it is slow and refused: the path that a T4 takes.
    monkeypatch.setattr(state_module, "precision_on", lambda device, choice: torch.float16)
    config = tiny_config.replace(epochs=4)
    run = fit(config, store, tmp_path / "run")
    assert "in float16" in (run.folder / "train.log").read_text()
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]
    state = load_checkpoint(run.last_path)
    assert state["scaler"]["scale"] > 1 and all(torch.isfinite(value).all() for value in state["model"].values())
    stopped = fit(
        config, store, tmp_path / "other", on_step=lambda done, _: done == 9 and Run.ask_to_stop(tmp_path / "other")
    )
    assert len(stopped.history) == 1
    assert [row["val_loss"] for row in fit(config, store, tmp_path / "other").history] == [
        row["val_loss"] for row in run.history
    ]


def test_a_run_goes_on_where_the_precision_is_another_gpu_s(store, tiny_config, tmp_path, monkeypatch):
    # Begun on a T4 with float16 and its scale, gone on with on an A100 in bfloat16, and back.
    config, kinds = tiny_config.replace(epochs=3), iter([torch.float16, torch.bfloat16, torch.float16])
    for epochs in (1, 2, 3):
        kind = next(kinds)
        monkeypatch.setattr(state_module, "precision_on", lambda device, choice, kind=kind: kind)
        run = fit(config.replace(max_minutes=1e-6), store, tmp_path / "run")
        assert len(run.history) == epochs
