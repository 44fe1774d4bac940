"""A run that is killed again and again ends with the same weights, bit for bit, as one that never was.

KILLS in the environment sets how many kills there are (3 unless set), shared out over 0, 1 and 2 loader processes.
"""

import multiprocessing
import os
import shutil
import threading
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.config import recipe
from helpers.data.store import FaceStore
from helpers.files import InputError
from helpers.runs import checkpoints
from helpers.runs.checkpoints import load_checkpoint, previous, save_checkpoint
from helpers.runs.run import Run
from helpers.training import session as session_module
from helpers.training.loop import fit

KILLS = int(os.environ.get("KILLS", "3"))

# The server has imported everything and computed nothing, so what forks from it starts at once and has no threads.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["helpers.training.loop"])


@pytest.fixture(scope="module")
def config():
    """Everything that production has, small enough for seconds."""
    return recipe("production", backbone="test_resnet", weights="none", img_size=48, epochs=max(3, KILLS),
                  batch_size=32, workers=0, mix_probability=0.5)  # fmt: skip


@pytest.fixture(scope="module")
def unkilled(store, config, tmp_path_factory):
    """The run that was never killed."""
    return fit(config, store, tmp_path_factory.mktemp("unkilled") / "run")


def train(config, faces, folder, started, saving, slow):
    """Train in this process; ``saving`` is set while a checkpoint is being written, for long enough to be hit."""

    def fsync(file):
        saving.set()
        time.sleep(slow)
        sync(file)
        saving.clear()

    sync, checkpoints.os.fsync = os.fsync, fsync

    def on_step(done, total):
        started.set()
        time.sleep(0.02)

    fit(config, FaceStore.open(faces), folder, on_step=on_step, save_every=0.1)


def start(config, store, folder, slow=0.0):
    started, saving = SERVER.Event(), SERVER.Event()
    process = SERVER.Process(target=train, args=(config, store.folder, folder, started, saving, slow))
    process.start()
    return process, started, saving


def learned(path: Path) -> dict:
    """What a checkpoint holds but the times, and the guard's level, which follows the looks of a session."""
    aside = ("seconds", "history", "guard")
    return {name: value for name, value in load_checkpoint(path).items() if name not in aside}


def equal(first, second) -> bool:
    """Whether two trees of tensors and numbers are the same to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[name], second[name]) for name in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def without_times(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "minutes"}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_run_killed_at_any_moment_ends_with_the_weights_of_one_never_killed(
    store, config, unkilled, tmp_path, workers
):
    rng, folder = np.random.default_rng(workers), tmp_path / "run"
    config = config.replace(workers=workers)
    kills = [number for number in range(KILLS) if number % 3 == workers]
    for number in kills:
        in_a_save = number % 2 == 1
        process, started, saving = start(config, store, folder, slow=0.3 if in_a_save else 0.0)
        assert started.wait(60)
        if in_a_save:
            assert saving.wait(60)
        time.sleep(rng.uniform(0, 0.2 if in_a_save else 1.0))
        process.kill()
        process.join()
        assert process.exitcode == -9, "it was still at work"
    process, *_ = start(config, store, folder)
    process.join()
    assert process.exitcode == 0
    killed, whole = (learned(run / Run.LAST) for run in (folder, unkilled.folder))
    assert equal(killed, whole), "weights, averaged weights and the optimiser's state"
    assert equal(load_checkpoint(folder / Run.BEST), load_checkpoint(unkilled.best_path))
    assert [*map(without_times, Run.open(folder).history)] == [*map(without_times, unkilled.history)]
    log = (folder / "train.log").read_text()
    assert log.count("start with step 0") + log.count("go on at step") == len(kills) + 1


def test_a_checkpoint_cut_short_or_changed_by_a_bit_gives_way_to_the_one_before(store, config, unkilled, tmp_path):
    run = Run.open(shutil.copytree(unkilled.folder, tmp_path / "run"))
    content = run.last_path.read_bytes()
    with zipfile.ZipFile(run.last_path) as archive:
        largest = max(archive.infolist(), key=lambda about: about.file_size)
        place = content.index(archive.read(largest)) + largest.file_size // 2
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for damaged in (content[: len(content) // 2], b"", flipped):
        run.last_path.write_bytes(damaged)
        lines = []
        again = fit(config, store, run.folder, on_log=lines.append)
        assert "is damaged" in lines[0] and "the generation before it is used" in lines[0]
        assert equal(learned(again.last_path), learned(unkilled.last_path))
        assert [*map(without_times, again.history)] == [*map(without_times, unkilled.history)]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_byte_of_a_checkpoint_changes_it_is_read_right_or_the_one_before_is(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / "last.pt"
    for step in (1, 2):
        save_checkpoint(path, {"step": step, "weights": torch.arange(100.0) + step})
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    found = load_checkpoint(path)
    assert found["step"] in (1, 2) and torch.equal(found["weights"], torch.arange(100.0) + found["step"])


def test_where_no_generation_is_whole_one_sentence_says_so(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(InputError, match=r"^Run notebook 04 first, https"):
        load_checkpoint(path)
    for step in (3, 4):
        save_checkpoint(path, {"step": step, "weights": torch.arange(1000)})
    assert load_checkpoint(path)["step"] == 4 and not path.with_suffix(".partial").exists()
    path.write_bytes(b"PK")
    assert load_checkpoint(path)["step"] == 3
    path.unlink()
    assert load_checkpoint(path)["step"] == 3, "a kill between the two renames leaves this one"
    path.write_bytes(b"PK")
    previous(path).write_bytes(b"")
    with pytest.raises(InputError, match=r"last\.pt is damaged .*last\.previous\.pt is damaged .*: bring back a copy"):
        load_checkpoint(path)


def test_reading_while_another_session_saves_finds_a_whole_checkpoint_and_moves_nothing(tmp_path):
    path, said = tmp_path / "last.pt", []
    save_checkpoint(path, {"step": 0})
    saving = threading.Thread(target=lambda: [save_checkpoint(path, {"step": step}) for step in range(300)])
    saving.start()
    while saving.is_alive():
        assert load_checkpoint(path, on_damage=said.append)["step"] >= 0
    assert not said and {each.name for each in tmp_path.iterdir()} == {"last.pt", "last.previous.pt"}


def test_only_the_session_that_goes_on_sets_a_damaged_checkpoint_aside(unkilled, tmp_path):
    run = Run.open(shutil.copytree(unkilled.folder, tmp_path / "run"))
    run.last_path.write_bytes(b"PK")
    names = {path.name for path in run.folder.rglob("*.pt")}
    assert load_checkpoint(run.last_path)["step"] and {path.name for path in run.folder.rglob("*.pt")} == names
    assert run.last_state()["step"] and not run.last_path.exists()
    assert run.last_path.with_suffix(".damaged.pt").read_bytes() == b"PK"


def test_a_checkpoint_holds_numbers_text_and_tensors_only(unkilled):
    kinds = set()

    def visit(tree):
        kinds.add(type(tree))
        for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ():
            visit(part)

    visit(torch.load(unkilled.last_path, weights_only=True))
    assert kinds <= {OrderedDict, dict, list, tuple, torch.Tensor, int, float, bool, str, type(None)}


def test_a_second_session_on_the_same_run_is_refused_and_the_first_goes_on(store, config, unkilled, tmp_path):
    folder = tmp_path / "run"
    process, started, _ = start(config, store, folder)
    assert started.wait(60)
    with pytest.raises(InputError, match=r"'run' is being trained by another session on this machine; stop that one"):
        fit(config, store, folder)
    process.join()
    assert process.exitcode == 0
    assert equal(learned(folder / Run.LAST), learned(unkilled.last_path))


def test_the_stop_file_ends_a_run_after_the_step_and_is_taken_away(store, config, tmp_path):
    folder = tmp_path / "run"

    def ask(done, total):
        if done == 5:
            (folder / "stop").touch()

    run = fit(config, store, folder, on_step=ask)
    assert load_checkpoint(run.last_path)["step"] == 5 and run.history == [] and not (folder / "stop").exists()
    (folder / "stop").touch()  # asked of a session that had ended already
    assert len(fit(config, store, folder).history) == config.schedule.epochs


def test_a_stop_that_is_asked_for_while_training_starts_up_counts(store, config, tmp_path, monkeypatch):
    real = session_module.build

    def build(*arguments, **options):
        Run.ask_to_stop(tmp_path / "run")  # the folder is not there yet
        return real(*arguments, **options)

    monkeypatch.setattr(session_module, "build", build)
    run = fit(config, store, tmp_path / "run")
    assert load_checkpoint(run.last_path)["step"] == 1 and not (run.folder / "stop").exists()


def test_a_stop_in_the_last_step_of_an_epoch_still_measures_it(store, config, unkilled, tmp_path):
    steps = unkilled.history[0]["step"]

    def ask(done, total):
        if done == steps:
            Run.ask_to_stop(tmp_path / "run")

    run = fit(config, store, tmp_path / "run", on_step=ask)
    assert [row["step"] for row in run.history] == [steps]
    assert [*map(without_times, fit(config, store, run.folder).history)] == [*map(without_times, unkilled.history)]
