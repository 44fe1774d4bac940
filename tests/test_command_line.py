"""The same steps without a notebook, and one clear sentence for each wrong input."""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from graphs import CLASSES, tiny_detector, tiny_model
from PIL import Image

from drawn_faces.group import draw_group
from helpers import plots
from helpers.__main__ import _parser, _train_config, main
from helpers.config import RECIPES, recipe
from helpers.export import predictor
from helpers.files import InputError, write_json
from helpers.runs.compare import runs_table
from helpers.runs.run import FORMAT
from helpers.session import runtime
from helpers.session.gpu import Gpu
from helpers.tasks import TASKS, label_classes

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--recipe", "demo", "--img_size", "32", "--epochs", "1", "--batch_size", "32", "--workers", "0"]


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path))
    return tmp_path


@pytest.fixture
def paths_file(sample_folders, tmp_path) -> Path:
    path = tmp_path / "dataset_paths.json"
    path.write_text(json.dumps({name: str(folder) for name, folder in sample_folders.items()}))
    return path


def test_every_step_runs_in_order_from_the_paths_of_four_folders(workspace, paths_file, capsys):
    assert main(["check"]) == 0
    assert main(["train", "--data_paths", str(paths_file), *TINY]) == 0
    assert main(["preview"]) == 0
    assert main(["evaluate"]) == 0
    assert main(["export"]) == 0
    run = workspace / "runs" / "run-1"
    model = onnx.load(run / "model.onnx")
    about = {each.key: each.value for each in model.metadata_props}
    assert (model.ir_version, model.opset_import[0].version) == (8, 18), "what ONNX Runtime reads since 1.14"
    assert "RGB" in about["faces"] and about["onnxruntime"] == "tried from 1.15.1 on"
    assert {path.stem for path in (workspace / "preview").iterdir()} == {"class_balance", *(
        f"augmentation_{group}" for group in ("geometric", "colour", "noise", "blur", "cutout"))}  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) - {"checksum"} == {"evaluation", "export"}
    assert metrics["evaluation"]["weights"] == metrics["export"]["weights"] == about["weights"]
    assert set(metrics["evaluation"]) == {"train", "validation", "test", "gap", "weights", "calibration", "groups"}
    assert set(metrics["export"]) == {"difference", "agreement", "milliseconds", "bytes", "weights"}
    drawn = {"curves", "age", "scores", "groups_age", "groups_gender", "faces_age"}
    kinds = ("confusion", "classes", "confidence", "faces", "mistakes")
    drawn |= {f"{kind}_{task}" for kind in kinds for task in ("emotion", "gender")}
    assert {path.stem for path in (run / "figures").iterdir()} == drawn
    assert "Its faces are drawn" in (run / "MODEL_CARD.md").read_text()
    assert json.loads(about["calibration"]) == metrics["evaluation"]["calibration"]["fitted"]
    printed = capsys.readouterr().out
    assert "epoch 1" in printed and "Emotion accuracy" in printed and "drawn faces" in printed


def test_a_run_goes_where_save_dir_says(workspace, paths_file, tmp_path):
    where = ["--save_dir", str(tmp_path / "mine"), "--run", "a"]
    assert main(["train", "--data_paths", str(paths_file), *where, *TINY]) == 0
    assert (tmp_path / "mine" / "a" / "checkpoints" / "best.pt").exists()


METHOD_2 = "train --data_paths dataset_paths.json --epochs 100 --batch_size 64 --backbone efficientnet_b2 --patience 15"
"""The document's second method, word for word after the module's name."""


def test_a_home_folder_that_no_shell_has_filled_in_is_filled_in_here(
    workspace, paths_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("paths.json", "config.json"):
        (tmp_path / name).write_text(paths_file.read_text() if name == "paths.json" else '{"epochs": 1}')
    given = ["--data_paths=~/paths.json", "--config=~/config.json", "--save_dir=~/runs"]
    assert main(["train", *given, *TINY]) == 0
    assert (tmp_path / "runs" / "run-1" / "results.json").exists() and not (tmp_path / "~").exists()
    monkeypatch.setenv("FACE_WORKSPACE", "~/elsewhere")
    assert main(["runs"]) == 0 and (tmp_path / "elsewhere").is_dir() and not (tmp_path / "~").exists()
    for arguments in (["--save_dir=~no such user/runs"], ["--data_paths=~no such user/paths.json"]):
        assert main(["train", *arguments, *TINY]) == 2
        assert "begins with ~, but there is no such home folder; give the whole path" in capsys.readouterr().err


def test_method_2_asks_for_what_the_document_says_and_is_tried_with_little(workspace, capsys):
    given = [*METHOD_2.split(), "--lr", "0.0001", "--img_size", "224", "--save_dir", "out"]
    asked = {"epochs": 100, "batch_size": 64, "backbone": "efficientnet_b2", "patience": 15, "lr": 1e-4}
    asked["img_size"] = 224
    for options, name in (([], "production"), (["--recipe", "seed"], "seed")):
        assert _train_config(_parser().parse_args([*given, *options]), workspace / "none") == recipe(name, **asked)
    assert recipe("seed", **asked) == RECIPES["seed"]
    assert main(["download", "--source", "sample", "--sample_faces", "200"]) == 0
    little = METHOD_2.replace("100", "1").replace("64", "32").replace("efficientnet_b2", "test_efficientnet").split()
    assert main([*little, "--weights", "none", "--img_size", "32", "--workers", "0", "--tensorboard"]) == 0
    run, printed = workspace / "runs" / "run-1", capsys.readouterr()
    assert "contempt is not among the emotions" in printed.out, "the paths file is found in the workspace"
    assert "test_efficientnet with" in printed.out + printed.err and "of them trainable" in printed.out + printed.err
    assert json.loads((run / "results.json").read_text())["epochs"] == 1
    assert "epoch 1, loss" in (run / "train.log").read_text() and list((run / "tensorboard").iterdir())


def test_a_run_goes_on_with_its_own_config_unless_a_knob_says_otherwise(workspace, paths_file, capsys):
    assert main(["train", "--data_paths", str(paths_file), *TINY]) == 0
    assert main(["train"]) == 0, "the recipe and the knobs are those of the run"
    assert main(["train", "--lr", "0.004"]) == 2
    assert "was started with another config (lr 0.001 -> 0.004)" in capsys.readouterr().err
    assert main(["train", "--recipe", "seed"]) == 2


def test_a_run_goes_on_with_its_batch_size_on_a_gpu_of_another_size(workspace, monkeypatch):
    args = _parser().parse_args(["train", "--recipe", "seed"])
    for name, memory, existing, size in (("T4", 16.1, False, 64), ("A100", 42.9, True, 64), ("A100", 42.9, False, 128)):
        monkeypatch.setattr(runtime, "read_gpus", lambda name=name, memory=memory: (Gpu(name, memory),))
        folder = workspace / ("run" if existing or name == "T4" else "other")
        config = _train_config(args, folder)
        assert config.data.batch_size == size
        folder.mkdir(exist_ok=True)
        config.save(folder / "config.json")
        manifest = {"format": FORMAT, "classes": label_classes(), "store": "", "drawn": True, "sources": {}}
        write_json(folder / "manifest.json", manifest | {"libraries": {"timm": ""}})


def test_own_faces_and_the_choice_of_labels_come_from_the_line(workspace, sample_folders, capsys):
    mine = workspace / "mine"
    mine.mkdir()
    images = sorted((sample_folders["utkface"] / "UTKFace").glob("3*.jpg"))[:20]
    for path in images:
        shutil.copy(path, mine / path.name)
    (mine / "faces.csv").write_text("\n".join(["file,age", *(f"{path.name},30" for path in images)]))
    assert main(["download", "--datasets", "--own_faces", str(mine / "faces.csv")]) == 0
    assert json.loads((workspace / "dataset_paths.json").read_text()) == {"own": str(mine / "faces.csv")}
    own = json.loads((workspace / "faces" / "faces" / "manifest.json").read_text())["sources"]["own"]
    assert own["handle"] == "a CSV file" and not own["drawn"]
    (workspace / "paths.json").write_text(json.dumps({"affectnet": str(sample_folders["affectnet"])}))
    for labels in ("agree", "folder"):
        where = ["--data_paths", str(workspace / "paths.json"), "--faces", labels, "--affectnet_labels", labels]
        assert main(["preview", *where]) == 0
    rows = [json.loads((workspace / "faces" / labels / "manifest.json").read_text())["rows"]
            for labels in ("agree", "folder")]  # fmt: skip
    assert rows[0] < rows[1]
    capsys.readouterr()
    assert main(["preview", "--faces", "agree", "--affectnet_labels", "csv"]) == 2
    assert "give --data_paths with it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("{", "cannot be read as JSON"),
        ('{"fer2014": "x"}', "There is no dataset 'fer2014'"),
        ('{"fer2013": "/nowhere"}', "/nowhere, does not exist"),
        ('{"fer2013": "empty"}', "is empty"),
        ('{"fer2013": "wrong"}', "does not hold FER2013: found readme.txt"),
    ],
)
def test_wrong_paths_are_one_sentence_and_leave_no_store_and_no_run(workspace, capsys, content, words):
    (workspace / "empty").mkdir()
    (workspace / "wrong").mkdir()
    (workspace / "wrong" / "readme.txt").write_text("x")
    path = workspace / "paths.json"
    if content is not None:
        path.write_text(content)
    assert main(["train", "--data_paths", str(path), *TINY]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (workspace / "faces" / "faces").exists() and not (workspace / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "0"], "'epochs' is 0"),
        (["--lr", "7"], "'lr' is 7.0"),
        (["--backbone", "resnet1"], "timm has no backbone 'resnet1'"),
        (["--augment_without", "blur"], "names a technique 'blur' that does not exist"),
        (["--affectnet_labels", "both"], "'affectnet_labels' is 'both'"),
    ],
)
def test_wrong_knobs_are_one_sentence_and_leave_no_run(workspace, paths_file, capsys, arguments, words):
    assert main(["train", "--data_paths", str(paths_file), *TINY, *arguments]) == 2
    assert words in capsys.readouterr().err and not (workspace / "runs" / "run-1").exists()


@pytest.mark.parametrize(
    ("option", "words"), [("--epocs", "--epocs 3; did you mean --epochs?"), ("--zebra", "--zebra 3\n")]
)
def test_an_option_that_there_is_not_is_named_with_the_nearest_that_there_is(capsys, option, words):
    with pytest.raises(SystemExit):
        main(["train", option, "3"])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"epoch": 3}', "unknown field 'epoch'; did you mean 'epochs'?"),
        ('{"dropout_in": 1.5}', "'dropout_in' is 1.5, but it takes a value from 0 to 0.95"),
        ("[1, 2]", "is an object with named fields"),
        ('{"weights": ["none"]}', "'weights' is ['none'], but it takes text"),
    ],
)
def test_a_wrong_config_file_is_one_sentence(workspace, capsys, content, words):
    (workspace / "config.json").write_text(content)
    assert main(["train", "--config", str(workspace / "config.json")]) == 2
    assert words in capsys.readouterr().err and not (workspace / "runs").exists()


def test_a_knob_on_the_line_wins_over_the_config_file_and_that_over_the_recipe(workspace, paths_file):
    (workspace / "config.json").write_text('{"epochs": 1, "lr": 0.004, "seed": 9, "img_size": 32, "workers": 0}')
    arguments = ["--recipe", "demo", "--config", str(workspace / "config.json"), "--seed", "3"]
    assert main(["train", "--data_paths", str(paths_file), *arguments]) == 0
    config = json.loads((workspace / "runs" / "run-1" / "config.json").read_text())
    assert (config["seed"], config["lr"], config["t_0"]) == (3, 0.004, RECIPES["demo"].schedule.t_0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "Run notebook 02 first, https://github.com"),
        (["evaluate"], "Run notebook 04 first, https://github.com"),
        (["export", "--run", "x"], "Run notebook 04 first, https://github.com"),
        (["download", "--datasets", "mnist"], "There is no dataset 'mnist'"),
    ],
)
def test_a_step_taken_too_early_says_what_comes_first(workspace, capsys, arguments, words):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("source", ["sample", "kaggle"])
def test_a_download_of_no_dataset_is_one_sentence_and_nothing_is_drawn(workspace, capsys, source):
    assert main(["download", "--source", source, "--datasets"]) == 2
    error = capsys.readouterr().err
    assert error == "error: No dataset was named; name one, or a CSV file of your own faces.\n"
    assert not list(workspace.iterdir())


def test_as_a_process_it_ends_with_status_2_and_no_traceback(tmp_path):
    environment = os.environ | {"FACE_WORKSPACE": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-m", "helpers", "evaluate"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 2 and "Traceback" not in found.stderr and found.stderr.startswith("error: ")


def test_kaggle_s_refusal_of_one_dataset_leaves_the_other_usable(
    workspace, monkeypatch, capsys, sample_folders, tmp_path_factory
):
    by_hand = tmp_path_factory.mktemp("by_hand") / "utkface"  # a copy that is not known as drawn
    shutil.copytree(sample_folders["utkface"], by_hand)
    import kagglehub
    import requests
    from kagglehub.exceptions import KaggleApiHTTPError

    def download(handle):
        if "utkface" in handle:
            response = requests.Response()
            response.status_code = 403
            raise KaggleApiHTTPError("403 Client Error: you do not have access", response=response)
        return str(sample_folders["fer2013"])

    monkeypatch.setattr("helpers.data.download._WAITS", ())
    monkeypatch.setattr(kagglehub, "dataset_download", download)
    two = ["download", "--datasets", "fer2013", "utkface"]
    assert main(two) == 0
    printed = capsys.readouterr()
    assert "warning: Kaggle did not deliver jangedoo/utkface-new" in printed.err and "403" in printed.err
    assert list(json.loads((workspace / "dataset_paths.json").read_text())) == ["fer2013"]

    (workspace / "dataset_paths.json").write_text(json.dumps({"utkface": str(by_hand)}))
    assert main([*two, "--faces", "both"]) == 0, "the folder that was named by hand serves until then"
    assert f"Until then {by_hand} is used" in capsys.readouterr().err
    assert set(json.loads((workspace / "dataset_paths.json").read_text())) == {"fer2013", "utkface"}

    def nothing(handle):
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(kagglehub, "dataset_download", nothing)
    assert main(["download"]) == 2 and "did not deliver msambare/fer2013" in capsys.readouterr().err


def interrupted(arguments: list[str], workspace: Path, after: float, **environment) -> subprocess.CompletedProcess:
    """A step that gets Ctrl-C, as a terminal sends it: to the process and all that it has started."""
    command = [sys.executable, "-W", "ignore", "-m", "helpers", *arguments]
    environment = os.environ | {"FACE_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    if after:
        time.sleep(after)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_an_interrupt_waits_for_the_end_of_an_import(workspace, monkeypatch, capsys, tmp_path):
    # Incidents: "generic_type: type "ObjSense" is already registered!", and an abort, of imports that Ctrl-C came into.
    (tmp_path / "takes_its_time.py").write_text("import time\ntime.sleep(0.5)\ncomplete = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = []

    def runs(*_):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        told.append(importlib.import_module("takes_its_time").complete)
        time.sleep(5)
        told.append("went on")

    monkeypatch.setattr("helpers.__main__.runs", runs)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["runs"]) == 130 and capsys.readouterr().err.startswith("interrupted: what is complete is kept")
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == [True]


def test_an_interrupt_at_any_moment_is_one_line_and_leaves_nothing_half_written(trained, store, tmp_path):
    draws, cut = random.Random(4), 0
    (tmp_path / "runs").mkdir()
    (tmp_path / "faces").mkdir()
    shutil.copytree(trained.folder, tmp_path / "runs" / "run-1")
    shutil.copytree(store.folder, tmp_path / "faces" / "faces")
    new = ["--faces", "new", "--sample_faces", "900"]
    for arguments in (["download", "--source", "sample", *new], ["preview"], ["evaluate"], ["export"]):
        for longest in (2.0, 8.0):
            found = interrupted(arguments, tmp_path, draws.uniform(0.5, longest))
            assert found.returncode in (0, 130) and "Traceback" not in found.stdout + found.stderr, found
            if found.returncode:
                cut += 1
                assert found.stderr.splitlines()[-1].startswith("interrupted: what is complete is kept"), found.stderr
            kept = (".claim", ".checked.json")  # the lock of a run, and the note that a store's files were read
            left = [path for path in tmp_path.rglob(".*") if path.name not in kept]
            assert not left, (arguments, left)
    assert cut >= 4, "most of them were cut"


def test_an_interrupt_while_libraries_are_loaded_is_one_line(tmp_path):
    (tmp_path / "pynvml.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    found = interrupted(["check"], tmp_path, 0, PYTHONPATH=str(tmp_path))
    assert found.returncode == 130 and found.stderr.startswith("interrupted: ") and found.stderr.count("\n") == 1


def test_an_interrupt_while_a_figure_is_drawn_leaves_no_part_of_it_and_a_place_that_takes_none_is_told(tmp_path):
    class Torn(plots.Picture):
        def png(self, **options):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plots.save_all({"faces": Torn()}, tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"faces\.png could not be written \("):
        plots.save_all({"faces": plots.curves([])}, tmp_path / "file")


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0",
                         "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}])  # fmt: skip
def test_output_that_knows_few_letters_does_not_end_the_work(trained, tmp_path, environment):
    code = """
from helpers import __main__ as line
from helpers.evaluation.verdict import verdict, verdict_table

def check(args, workspace):
    print(verdict_table(verdict({}, False)).to_string(), chr(0x2265))

line.check = check
line.main(["check"])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LC_")} | environment
    environment |= {"FACE_WORKSPACE": str(tmp_path)}
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert found.returncode == 0 and b"\\u2265" in found.stdout, found.stderr


def test_a_run_s_name_is_drawn_as_it_is_written(trained):
    for name in ("$x^$", "$\\frac{$", "a_b^c", "$"):
        figures = [plots.curves(trained.history, f"Run {name}"), plots.class_balance({"own": trained_audit()}, name)]
        figures.append(plots.faces([np.zeros((8, 8, 3), np.uint8)], [name], title=name))
        for figure in figures:
            assert figure.png().startswith(b"\x89PNG") and name in figure.get_suptitle()


def trained_audit() -> dict:
    counts = {"train": {"a": 1}, "validation": {"a": 1}, "test": {"a": 1}}
    return {task: counts for task in TASKS}


BROKEN = ["", "{", "[]", "{}", "null", '{"best": null}', '{"best": [], "epochs": 1}', '{"best": {}, "epochs": 2}',
          "9" * 5000, "WHOLE minutes soon", "WHOLE minutes 1e999", "WHOLE epochs NaN", "WHOLE epochs many",
          "WHOLE best 3", "WHOLE finished"]  # fmt: skip


def test_one_broken_result_is_listed_with_its_reason_and_hides_no_other_run(trained, tmp_path):
    whole = json.loads(trained.results_path.read_text())
    for number, content in enumerate(BROKEN):
        run = shutil.copytree(trained.folder, tmp_path / f"broken-{number:02}")
        if content.startswith("WHOLE"):
            name, *value = content.split()[1:]
            content = json.dumps({key: each for key, each in whole.items() if key != name})
            for each in value:
                content = content[:-1] + f', "{name}": {each if each[0] in "1N3" else json.dumps(each)}' + "}"
        (run / "results.json").write_text(content)
    shutil.copytree(trained.folder, tmp_path / "good")
    table = runs_table(tmp_path)
    good = table[table["run"] == "good (drawn faces)"].iloc[0]
    assert good["epochs"] == 2 and good["emotion %"] >= 0 and len(table) == len(BROKEN) + 1
    told = table[table["run"].str.startswith("broken")]
    # A number too large for JSON's reader of floats is infinity, which is shown as what it is.
    assert (told["what differs"].str.contains("results.json") | (told["run"] == "broken-10 (drawn faces)")).all(), told


@pytest.fixture
def photo(tmp_path) -> Path:
    """A folder with a picture of drawn people."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(draw_group(2)).save(tmp_path / "photos" / "people.png")
    return tmp_path / "photos"


def test_predict_tells_draws_and_fails_for_what_it_could_not_read(workspace, photo, capsys):
    model = ["--model", str(tiny_model(workspace / "model.onnx")), "--no_detector"]
    (photo / "text.jpg").write_text("no picture")
    assert main(["predict", str(photo), str(photo / "people.png"), "none.png", *model]) == 1
    first, bad, again, missing = capsys.readouterr().out.splitlines()
    assert "people.png: the whole picture: " in first and again == first
    assert "text.jpg cannot be read" in bad and missing.startswith("none.png is not a file")
    drawn = sorted(path.name for path in (workspace / "predicted").iterdir())
    assert drawn == ["001_people.jpg", "003_people.jpg"]
    assert main(["predict", str(photo / "people.png"), "--to", str(workspace / "there"), *model]) == 0
    assert [path.name for path in (workspace / "there").iterdir()] == ["001_people.jpg"]


def test_predict_says_where_it_drew_and_keeps_videos_of_one_name_and_long_names_apart(workspace, photo, capsys):
    model = ["--model", str(tiny_model(workspace / "model.onnx")), "--no_detector"]
    long = photo / f"{'面' * 78}.png"
    (photo / "people.png").rename(long)
    assert main(["predict", str(photo), *model]) == 0
    assert str(workspace / "predicted") in capsys.readouterr().err
    videos = []
    for folder in ("a", "b"):
        (workspace / folder).mkdir()
        videos.append(str(workspace / folder / "clip.avi"))
        writer = cv2.VideoWriter(videos[-1], cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
        writer.write(np.zeros((64, 64, 3), np.uint8))
        writer.release()
    assert main(["predict", *videos, "--video", *model]) == 0
    drawn = sorted(path.name for path in (workspace / "predicted").iterdir())
    assert drawn == ["001_clip.webm", f"001_{'面' * 50}.jpg", "002_clip.webm"]


@pytest.mark.parametrize("step", ["predict", "page"])
def test_a_run_or_model_that_a_script_left_empty_is_no_reason_to_take_another(workspace, photo, capsys, step):
    pictures = [str(photo)] if step == "predict" else []
    for option in ("--run", "--model"):
        assert main([step, *pictures, option, ""]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_answers_that_nobody_reads_to_their_end_are_no_failure(workspace, photo):
    model = tiny_model(workspace / "model.onnx")
    line = f"{sys.executable} -W ignore -m helpers predict {photo} {photo} --no_detector --model {model} | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_answers_that_a_full_disk_does_not_take_end_in_one_sentence(workspace, photo):
    model = tiny_model(workspace / "model.onnx")
    line = f"{sys.executable} -W ignore -m helpers predict {photo} --no_detector --model {model} > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == "error: No space left on device; free some and run the same command again"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [None, b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_model_that_came_along_and_is_gone_or_a_pointer_comes_back_from_git(
    workspace, photo, capsys, monkeypatch, tmp_path, content
):
    path = tmp_path / "faces.onnx"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(predictor, "SHIPPED_MODEL", path)
    monkeypatch.setattr("helpers.export.page.SHIPPED_CAMERA_MODEL", path)
    for line in (["predict", str(photo)], ["page"]):
        assert main(line) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert str(path) in said and "git checkout models" in said


def test_predict_gives_json_and_takes_a_detector_that_comes_along(workspace, photo, capsys, monkeypatch):
    monkeypatch.setattr(predictor, "DETECTOR", tiny_detector(workspace / "detector.onnx"))
    monkeypatch.setattr(predictor, "SHIPPED_MODEL", tiny_model(workspace / "shipped.onnx"))
    assert main(["predict", str(photo), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert not (workspace / "predicted").exists(), "a program that reads the answers has not asked for pictures"
    told = json.loads(line)
    assert (
        told["faces"][0]["box"] == [0, 0, *(side // 2 for side in draw_group(2).shape[1::-1])]
        and not told["whole_picture"]
    )
    assert set(told["faces"][0]["emotion_probabilities"]) == set(CLASSES["emotion"])


def test_predict_reads_an_exported_run_and_says_what_is_missing(workspace, photo, capsys):
    folder = workspace / "runs" / "mine"
    folder.mkdir(parents=True)
    given = ["predict", str(photo), "--no_detector", "--run", "mine"]
    assert main(given) == 2
    assert "error:" in (said := capsys.readouterr().err) and "notebook 06" in said and "Traceback" not in said
    tiny_model(folder / "model.onnx")
    assert main(given) == 0 and main([*given, "--save_dir", str(workspace / "runs")]) == 0


def test_predict_draws_videos_and_tells_of_each_frame(workspace, capsys):
    path, frame = workspace / "clip.mp4", draw_group(1)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, frame.shape[1::-1])
    for _ in range(3):
        writer.write(frame[..., ::-1])
    writer.release()
    given = ["--video", "--no_detector", "--model", str(tiny_model(workspace / "model.onnx"))]
    assert main(["predict", str(path), "none.mp4", *given]) == 1
    *told, missing = capsys.readouterr().out.splitlines()
    assert len(told) == 3 and "frame 2" in told[-1] and "none.mp4 is missing" in missing
    assert cv2.VideoCapture(str(workspace / "predicted" / "001_clip.webm")).read()[0]
    assert main(["predict", str(path), "--json", *given]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["source"] for line in lines] == [f"{path}, frame {number}" for number in range(3)]
