"""Whatever happens to a file of the workspace: it is read right, or one sentence names it and a harmless mend."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_faces.datasets import _is_finished
from helpers import files, plots
from helpers.config import TrainConfig
from helpers.data.sources import load_paths
from helpers.data.store import FaceStore, pack
from helpers.evaluation.measures import measure
from helpers.evaluation.predictions import read_predictions, write_predictions
from helpers.evaluation.verdict import verdict
from helpers.export.graph import open_session
from helpers.files import InputError, only_writer, read_json, whole, write_file, write_json
from helpers.runs import checkpoints
from helpers.runs.compare import runs_table
from helpers.runs.run import Run
from helpers.training.loop import fit
from helpers.training.model import create_model
from helpers.training.pretrained import earlier_weights

ROOT = Path(__file__).resolve().parent.parent
FACES, RUN = Path("faces", "faces"), Path("runs", "tiny")


@pytest.fixture(scope="module")
def workspace(store, trained, sample_folders, tmp_path_factory):
    """A small workspace in which everything has been done once."""
    root = tmp_path_factory.mktemp("workspace")
    shutil.copytree(store.folder, root / FACES)
    shutil.copytree(trained.folder, root / RUN)
    write_file(root / "dataset_paths.json", json.dumps({name: str(path) for name, path in sample_folders.items()}))
    shutil.copy(next(iter(sample_folders.values())).parent / "sample_faces.json", root)
    run = Run.open(root / RUN)
    table = write_predictions(run, FaceStore.open(root / FACES))
    run.write_metrics("evaluation", measure(table))
    faces = onnx.helper.make_tensor_value_info("faces", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["faces"], ["same"])
    graph = onnx.helper.make_graph([node], "graph", [faces], [same])
    onnx.save(onnx.helper.make_model(graph, ir_version=9), root / RUN / "model.onnx")
    return root


def best(root: Path) -> str:
    return Run.open(root / RUN).weights


def last(root: Path) -> list:
    state = Run.open(root / RUN).last_state()
    return [state["step"], checkpoints.fingerprint(state["model"])]


def metrics(root: Path) -> list:
    run = Run.open(root / RUN)
    return [run.read_metrics(), [finding.found for finding in verdict(run.read_metrics(), True, run.weights)]]


def results(root: Path) -> list:
    runs_table(root / "runs")
    return [Run.open(root / RUN).read_results()]


def config(root: Path) -> dict:
    """Without the knobs that a user may set anew."""
    found = Run.open(root / RUN).config.flat()
    return {name: value for name, value in found.items() if name not in TrainConfig.knobs(resumable=True)}


@dataclass(frozen=True)
class Kind:
    """A file of the workspace, what reads it, and whether something else may be right too: what a user may write."""

    path: Path
    read: Callable
    free: bool = False


KINDS = {
    "store manifest": Kind(FACES / "manifest.json", lambda root: FaceStore.open(root / FACES).manifest),
    "arrow": Kind(FACES / "faces-000.arrow", lambda root: FaceStore.open(root / FACES).table.slice(0, 5).to_pylist()),
    "paths": Kind(Path("dataset_paths.json"), lambda root: load_paths(root / "dataset_paths.json"), free=True),
    "drawn record": Kind(Path("sample_faces.json"), lambda root: _is_finished(root, {}), free=True),
    "run manifest": Kind(RUN / "manifest.json", lambda root: Run.open(root / RUN).manifest),
    "config": Kind(RUN / "config.json", config),
    "history": Kind(RUN / "history.jsonl", lambda root: Run.open(root / RUN).history),
    "results": Kind(RUN / "results.json", results),
    "metrics": Kind(RUN / "metrics.json", metrics),
    "predictions": Kind(RUN / "predictions.parquet",
                        lambda root: read_predictions(Run.open(root / RUN)).to_json(default_handler=str)),
    "best": Kind(RUN / Run.BEST, best),
    "last": Kind(RUN / Run.LAST, last),
    "onnx": Kind(RUN / "model.onnx", lambda root: open_session(root / RUN / "model.onnx").run(
        None, {"faces": np.ones(1, np.float32)})[0].tolist()),
}  # fmt: skip

DEEP = "[" * 100_000 + "]" * 100_000


def places(tree, at=()):
    """Every path into a tree of JSON values."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, part in parts:
        yield (*at, key)
        yield from places(part, (*at, key))


def changed(text: str, at: tuple, value: str | None) -> str:
    """JSON with another text at a place, or without what is there."""
    tree = json.loads(text)
    node = tree
    for key in at[:-1]:
        node = node[key]
    if value is None:
        del node[at[-1]]
    else:
        node[at[-1]] = "@@@"
    return json.dumps(tree).replace('"@@@"', value or "")


def mutated(path: Path, data) -> bytes:
    """One of the faults in the file's bytes or, where it is JSON, in one of its values."""
    content = bytearray(path.read_bytes())
    kinds = ["flip", "cut", "empty", "zeros", "other"]
    kinds += ["field"] * 6 if path.suffix in (".json", ".jsonl") else []
    kind = data.draw(st.sampled_from(kinds))
    if kind == "flip":
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    elif kind == "empty":
        content.clear()
    elif kind == "zeros":
        content = bytearray(len(content))
    elif kind == "other":
        content = bytearray(
            data.draw(st.sampled_from([b"[]", b"3", b"null", b"{}", DEEP.encode(), b"\xff\xfe", b"9" * 5000]))
        )
    else:
        lines = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
        number = data.draw(st.integers(0, len(lines) - 1))
        # The classes are no part of the checksum: every reader compares them with its own.
        at = data.draw(st.sampled_from([at for at in places(json.loads(lines[number])) if at[0] != "classes"]))
        odd = [None, "[]", "{}", '"x"', "null", "true", "-1", "1e999", "NaN", "Infinity", "9" * 5000, DEEP]
        lines[number] = changed(lines[number], at, data.draw(st.sampled_from(odd)))
        content = bytearray("".join(f"{line}\n" for line in lines).encode())
    return bytes(content)


def listing(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.name not in ("train.log", ".checked.json")}


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_happens_to_a_file_it_is_read_right_or_refused_in_one_sentence(workspace, name, data):
    kind = KINDS[name]
    path, good = workspace / kind.path, (workspace / kind.path).read_bytes()
    wanted, there = kind.read(workspace), listing(workspace)
    try:
        path.write_bytes(mutated(path, data))
        found = kind.read(workspace)
    except InputError as error:
        said = str(error)
        assert path.name in said or name in ("paths", "run manifest", "store manifest"), said
        assert "\n" not in said and len(said) < 1000 and "delete the run" not in said
    else:
        not_measured = name == "metrics" and set(found[1]) == {"-"}  # which the verdict says
        assert kind.free or name in ("best", "last") or not_measured or found == wanted
    finally:
        left = listing(workspace)
        path.with_suffix(".damaged.pt").unlink(missing_ok=True)
        path.write_bytes(good)
    assert left == there or name == "last", "only the session that goes on from it sets anything aside"


@pytest.mark.parametrize(
    "name", [name for name, kind in KINDS.items() if kind.path.suffix == ".json" and not kind.free]
)
def test_a_field_that_is_missing_or_of_another_type_is_named_with_its_file(workspace, name):
    path = workspace / KINDS[name].path
    good = path.read_text()
    try:
        for field in json.loads(good):
            for value in (None, '{"x": []}'):
                if (name == "metrics" and value is None) or field in (
                    "checksum",
                    "workers",
                    "max_minutes",
                    "format",
                    "classes",
                ):
                    continue
                path.write_text(changed(good, (field,), value))
                if name == "config" and value is None and TrainConfig().flat()[field] == json.loads(good)[field]:
                    continue  # what is left out stands at its default
                with pytest.raises(InputError) as caught:
                    KINDS[name].read(workspace)
                assert path.name in str(caught.value), caught.value
                assert field in str(caught.value) or name == "results" or "checksum" in str(caught.value)
    finally:
        path.write_text(good)


def test_json_is_read_with_a_byte_order_mark_and_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path):
    write_file(tmp_path / "file.json", b"\xef\xbb\xbf" + b'{"a": 1}')
    assert read_json(tmp_path / "file.json", "an object") == {"a": 1}
    for place, words in ((tmp_path, "Is a directory"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=words) as caught:
            read_json(place, "an object")
        assert "damaged" not in str(caught.value) and "remove" not in str(caught.value)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def copied(trained: Run, folder: Path) -> Run:
    return Run.open(shutil.copytree(trained.folder, folder))


def test_training_again_mends_its_own_records_and_loses_no_epoch(store, tiny_config, trained, tmp_path):
    run = copied(trained, tmp_path / "run")
    kept = run.history_path.read_bytes()
    for path in (run.history_path, run.results_path):
        damage(path)
    assert fit(tiny_config, store, run.folder).history == trained.history
    again = Run.open(run.folder)
    assert (
        run.history_path.read_bytes() == kept and again.read_results()["finished"] and again.history == trained.history
    )
    run.history_path.write_bytes(b"".join(kept.splitlines(keepends=True)[:1]))
    with pytest.raises(InputError, match=r"history\.jsonl is damaged, since results\.json tells of other epochs"):
        Run.open(run.folder).best_weights()


def test_a_damaged_manifest_of_a_run_is_written_anew_by_training_with_its_config(store, trained, tmp_path):
    run = copied(trained, tmp_path / "run")
    damage(run.folder / "manifest.json")
    with pytest.raises(InputError, match=r"manifest\.json .* delete it and train with --config config\.json"):
        Run.open(run.folder)
    (run.folder / "manifest.json").unlink()
    again = fit(TrainConfig.load(run.folder / "config.json"), store, run.folder)
    assert again.history == trained.history and Run.open(run.folder).weights == trained.weights


@pytest.mark.parametrize("content", [b"", b"PK", {}, [1]])
def test_damaged_best_weights_beside_a_whole_last_checkpoint_give_way_or_name_what_helps(trained, tmp_path, content):
    run = copied(trained, tmp_path / "run")
    before = checkpoints.previous(run.best_path)
    shutil.copy(run.best_path, before)
    before_best = set(run.folder.rglob("*.pt"))

    def spoil(path):
        torch.save(content, path) if not isinstance(content, bytes) else path.write_bytes(content)

    spoil(run.best_path)
    assert run.weights == trained.weights and set(run.folder.rglob("*.pt")) == before_best
    spoil(before)
    with pytest.raises(
        InputError, match=r"best\.pt is damaged .* train on.* or start a run under another name"
    ) as caught:
        run.best_weights()
    assert "delete" not in str(caught.value) and str(run.last_path) in str(caught.value)
    model = run.config.replace(weights=str(run.last_path)).model
    assert earlier_weights(model, run.folder).keys() == create_model(model).state_dict().keys(), "what it names helps"


def test_a_last_checkpoint_that_holds_nothing_is_damage_and_no_new_start(store, tiny_config, trained, tmp_path):
    run = copied(trained, tmp_path / "run")
    for path in (run.last_path, checkpoints.previous(run.last_path)):
        torch.save({}, path)
    with pytest.raises(
        InputError, match=r"last\.pt is damaged .* with weights = 'run:run', which begins with the best"
    ):
        fit(tiny_config, store, run.folder)
    assert run.last_path.exists() and run.weights == trained.weights
    assert earlier_weights(run.config.replace(weights="run:run").model, tmp_path / "other")


def test_a_checkpoint_that_cannot_be_read_or_is_missing_is_not_called_damaged(trained, tmp_path, monkeypatch):
    run = copied(trained, tmp_path / "run")
    run.last_path.unlink()
    (run.last_path).mkdir()
    with pytest.raises(InputError, match=r"last\.pt cannot be read \(Is a directory\)"):
        run.last_state()
    run.last_path.rmdir()
    assert run.last_state()["step"] == trained.history[0]["step"], "the one before"
    assert not list(run.folder.rglob("*.damaged.pt"))


@pytest.fixture
def disk(tmp_path):
    """A real disk of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place]).returncode:
        pytest.skip("mounting needs a superuser")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> None:
    with pytest.raises(OSError, match="No space"), open(place / "fill", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)


@pytest.mark.parametrize(("spoil", "words"), [
    (fill, r"could not be written \(.*No space left on device.*\); free some space and run this again"),
    (read_only, r"could not be written \(.*Read-only file system.*\); choose a place that is not read-only"),
])  # fmt: skip
def test_every_write_answers_a_full_or_read_only_disk_in_one_sentence(
    store, trained, sample_folders, disk, spoil, words
):
    from drawn_faces.datasets import write_sample_faces

    shutil.copytree(trained.folder, disk / "run", ignore=shutil.ignore_patterns("*.previous.pt", "last.pt"))
    run = Run.open(disk / "run")
    spoil(disk)
    there = listing(disk)
    figures = {"figure": plots.faces([np.zeros((48, 48, 3), np.uint8)] * 9, ["x"] * 9)}
    config = run.config
    for write in (
        lambda: write_predictions(run, store),
        lambda: run.write_metrics("export", {"weights": "0"}),
        lambda: plots.save_all(figures, disk / "preview"),
        lambda: write_file(run.folder / "model.onnx", bytes(10_000)),
        lambda: write_json(disk / "new" / "paths.json", {"a" * 5000: 1}),
        lambda: pack({"utkface": sample_folders["utkface"]}, disk / "faces" / "faces"),
        lambda: write_sample_faces(disk / "drawn", 60),
        lambda: fit(config, store, disk / "other"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            write()
        assert "\n" not in str(caught.value)
    assert {path for path in listing(disk) if path.is_file() and path.stat().st_size} <= there, "nothing is left"
    assert run.weights == trained.weights


def test_the_cause_decides_what_is_advised():
    for number, advice in ((errno.EDQUOT, "free some space"), (errno.EACCES, "permission"), (errno.EIO, "see to that")):
        said = str(files.unwritable("It", OSError(number, os.strerror(number))))
        assert advice in said and ("free some space" in said) == (number == errno.EDQUOT)


def test_one_process_writes_at_a_time_and_a_lock_ends_with_its_holder(tmp_path):
    path = tmp_path / ".lock"
    code = "import sys, time; from pathlib import Path; from helpers.files import only_writer, whole\n"
    code += "with only_writer(Path(sys.argv[1]), 'busy') as held, whole(Path(sys.argv[2])) as partial:\n"
    code += "    partial.mkdir(); print(held, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, path, tmp_path / "folder"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with pytest.raises(InputError, match="busy"), only_writer(path, "busy"):
        pass
    with whole(tmp_path / "folder") as mine:
        mine.mkdir()
        assert len(list(tmp_path.glob(".folder.*.partial"))) == 2, "each has a name of its own, and what lives stays"
    process.kill()
    process.wait()
    with only_writer(path, "busy") as held, whole(tmp_path / "folder"):
        assert held and not list(tmp_path.glob(".folder.*")), "what the dead one left is cleared away"
    assert not list(tmp_path.iterdir())
