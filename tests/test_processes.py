"""Several processes, or a batch in parts, learn what one process learns from the whole batch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from helpers.__main__ import main
from helpers.config import recipe
from helpers.runs.checkpoints import load_checkpoint
from helpers.runs.run import Run

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
"""What ``accelerate launch`` calls for several GPUs; for several processes on a CPU it would want MPI."""


def packed(store, workspace: Path) -> Path:
    """The store's folder, in a workspace."""
    (workspace / "faces").mkdir()
    os.symlink(store.folder, workspace / "faces" / "packed")
    return workspace / "faces" / "packed"


def call(command: list, **environment) -> str:
    command, environment = [str(part) for part in command], ENVIRONMENT | environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def steps(store, tmp_path_factory) -> dict[str, dict]:
    """One step of the whole batch, of its two halves in turn, and of two processes; BatchNorm in evaluation mode."""
    folder = tmp_path_factory.mktemp("steps")
    config = recipe("production", backbone="test_resnet", weights="none", img_size=32, batch_size=33,
                    workers=0, augment=0.0, mix_probability=0.0, dropout_in=0.0, dropout_hidden=0.0,
                    clip_norm=100.0, class_weights=1.0, warmup=0.0)  # fmt: skip
    config.save(folder / "config.json")
    script = [ROOT / "tests" / "one_step.py", store.folder, folder / "config.json"]
    call([sys.executable, *script, 1, folder / "whole.pt"])
    call([sys.executable, *script, 2, folder / "parts.pt"])
    call([*LAUNCH, *script, 1, folder / "processes.pt"])
    return {path.stem: torch.load(path, weights_only=False) for path in folder.glob("*.pt")}


@pytest.mark.parametrize("way", ["parts", "processes"])
def test_a_step_in_parts_or_in_processes_is_the_step_of_the_whole_batch(steps, way):
    whole, other = steps["whole"], steps[way]
    if way == "processes":
        share = other["known"] / whole["known"]
        assert (share < 1).all() and (share - 0.5).abs().max() > 0.04, "each has a part, and labels are unevenly shared"
    for name in ("weights", "moments"):
        first, second = (torch.cat([value.flatten() for value in step[name].values()]) for step in (whole, other))
        assert ((first - second).norm() / first.norm()).item() <= 1e-5, name


def test_a_step_that_leaves_each_process_one_face_is_refused_in_one_sentence(store, tmp_path):
    os.symlink(store.folder.parent, tmp_path / "faces")
    knobs = ["--recipe", "demo", "--img_size", "32", "--workers", "0", "--batch_size", "3"]
    where = ["--faces", store.folder.name, "--save_dir", str(tmp_path)]
    command = [*LAUNCH, "--module", "helpers", "train", *where, *knobs]
    environment = ENVIRONMENT | {"FACE_WORKSPACE": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode and "error: A step of 3 faces leaves fewer than 2 for each of 2 processes" in done.stderr
    assert not (tmp_path / "run-1").exists()


def test_the_command_line_trains_in_two_processes_and_goes_on_in_one(store, tmp_path):
    config = recipe("demo", img_size=32, epochs=2, t_0=2, workers=0)
    values = {name: value for name, value in config.flat().items() if value != ""}
    (tmp_path / "config.json").write_text(json.dumps(values))
    command = ["helpers", "train", "--config", tmp_path / "config.json", "--save_dir", tmp_path, "--faces"]
    os.symlink(store.folder.parent, tmp_path / "faces")
    said = call([*LAUNCH, "--module", *command, store.folder.name], FACE_WORKSPACE=str(tmp_path))
    assert said.count("epoch 2, loss") == 1 and "in 2 processes" in said, "one of them speaks"
    run = Run.open(tmp_path / "run-1")
    assert [row["epoch"] for row in run.history] == [1, 2] and run.best_path.exists()
    before = load_checkpoint(run.last_path)["step"]
    said = call([sys.executable, "-m", *command, store.folder.name], FACE_WORKSPACE=str(tmp_path))
    assert f"go on at step {before} of {before}" in said


NOTEBOOK = """
import sys
from pathlib import Path
from helpers.config import TrainConfig
from helpers.data.store import FaceStore
from helpers.files import InputError
from helpers.training.launch import launch

LAUNCHER = [sys.executable, str(Path(__file__).with_name("launcher.py"))]
config, store = TrainConfig.load(Path(sys.argv[2])), FaceStore.open(Path(sys.argv[1]))
run = launch(config, store, Path(sys.argv[3]), 2, launcher=LAUNCHER)
print(len(run.history), "epochs")
try:
    launch(config.replace(lr=0.05), store, Path(sys.argv[3]), 2, launcher=LAUNCHER)
except InputError as error:
    print("told:", error)
"""


LAUNCHER = """
import sys
from torch.distributed.run import main

processes, module, *words = sys.argv[1:]
assert module == "-m"
main(["--standalone", "--nproc_per_node", processes, "--module", "--", *words])  # takes --run for its own without --
"""
"""Stands for accelerate launch, which wants MPI for several processes on a CPU."""


def test_a_notebook_trains_in_as_many_processes_as_it_has_gpus_and_tells_what_went_wrong_in_them(store, tmp_path):
    # With heads that learn alone at first, when the processes have no gradient of the backbone to share.
    recipe("demo", img_size=32, epochs=2, t_0=2, head_epochs=1, workers=1).save(tmp_path / "config.json")
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    where = [packed(store, tmp_path), tmp_path / "config.json", tmp_path / "run"]
    said = call([sys.executable, tmp_path / "notebook.py", *where], OMP_NUM_THREADS="2")
    assert "2 epochs" in said and said.count("epoch 1, loss") == 1 and "in 2 processes" in said
    assert "error: The run 'run' was started with another config (lr 0.001 -> 0.05)" in said
    assert "told: Training in 2 processes ended early; the reason stands above" in said


@pytest.mark.parametrize("early", [True, False])
def test_an_interrupt_stops_all_processes_together_and_keeps_what_was_learned(store, tmp_path, early):
    recipe("demo", img_size=32, epochs=900, workers=0, patience=900).save(tmp_path / "config.json")
    (tmp_path / "notebook.py").write_text(NOTEBOOK.partition("try:")[0])
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    command = [sys.executable, "-u", tmp_path / "notebook.py", packed(store, tmp_path), tmp_path / "config.json",
               tmp_path / "run"]  # fmt: skip
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, env=ENVIRONMENT, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    log = tmp_path / "run" / "train.log"
    if early:  # before the run has a folder: the launcher is up, and its processes are importing torch
        while not subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True).stdout:
            time.sleep(0.05)
        time.sleep(1)
    for _ in range(0 if early else 1800):
        if log.exists() and "epoch 1" in log.read_text():
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as Jupyter sends it: to the kernel and all that it has started
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    run = Run.open(tmp_path / "run")
    step = load_checkpoint(run.last_path)["step"]
    assert f"stopped by the user at step {step}" in log.read_text() and (early or len(run.history) >= 1)
    assert not (run.folder / "stop").exists()


def test_several_processes_do_not_pack_the_same_store_at_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path))
    assert main(["train", "--data_paths", "paths.json", "--recipe", "demo"]) == 2
    assert "Several processes cannot pack at once; run python -m helpers preview" in capsys.readouterr().err


@pytest.mark.parametrize("left", [{"WORLD_SIZE": "2"}, {"RANK": "0"}, {"RANK": "1", "WORLD_SIZE": "4"},
                                  {"PMI_SIZE": "8"}, {"LOCAL_RANK": "0", "MASTER_ADDR": "node7"}])  # fmt: skip
def test_what_another_launcher_has_left_in_the_environment_is_not_waited_for(left):
    code = "from helpers.training.processes import make_accelerator; "
    code += "print(make_accelerator(False).num_processes, 'process')"
    assert call([sys.executable, "-W", "ignore", "-c", code], **left).startswith("1 process")
