"""The workspace survives lost machines and refused drives; the set-up changes nothing that is there."""

import dataclasses
import shutil
import sys
import types
from pathlib import Path

import pynvml
import pytest

from helpers.config import RECIPES, TRAINING_FACES, decide
from helpers.files import InputError
from helpers.runs.compare import runs_table
from helpers.session import gpu, install, runtime, workspace
from helpers.session.gpu import Gpu
from helpers.session.runtime import Machine, advice, describe_machine, fitted_to, inspect_machine, machine_table
from helpers.session.workspace import Workspace, open_workspace


@pytest.fixture
def drive(tmp_path):
    """A workspace with an archive, as on Colab."""
    return Workspace(tmp_path / "machine", tmp_path / "drive", "")


def filled(folder, text="hello"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file.txt").write_text(text)
    return folder


def test_a_saved_folder_comes_back_on_a_new_machine(drive, tmp_path):
    drive.save(filled(drive.run("a")))
    fresh = Workspace(tmp_path / "new", drive.archive, "")
    assert fresh.restore(fresh.run("a"))
    assert (fresh.run("a") / "file.txt").read_text() == "hello"
    assert not fresh.restore(fresh.run("b"))


def test_two_generations_are_kept_and_a_damaged_copy_gives_way_to_the_one_before(drive, tmp_path):
    for text in ("one", "two", "three"):
        drive.save(filled(drive.run("a"), text))
    copies = sorted(drive.archive.glob("*.tar"))
    assert len(copies) == 2
    copies[-1].write_bytes(b"damaged")
    fresh = Workspace(tmp_path / "new", drive.archive, "")
    assert fresh.restore(fresh.run("a")) and (fresh.run("a") / "file.txt").read_text() == "two"
    for copy in copies:
        copy.write_bytes(b"damaged")
    with pytest.raises(InputError, match="are damaged"):
        Workspace(tmp_path / "newer", drive.archive, "").restore(tmp_path / "newer" / "runs" / "a")


@pytest.mark.parametrize("number", [107, 5, 28])
def test_a_drive_that_fails_costs_nothing_and_ends_nothing_on_this_machine(drive, monkeypatch, number, capsys):
    # Incident: with a Drive that was full, "Run all" stopped before the export, and the machine's time ran out.
    folder = filled(drive.run("a"))

    def gone(*_):
        raise OSError(number, "drive is gone")

    monkeypatch.setattr(workspace.shutil, "copyfile", gone)
    drive.save(folder)
    said = capsys.readouterr().out
    assert said.startswith("WARNING: a could not be copied to") and "complete on this machine" in said
    assert (folder / "file.txt").exists() and not list(drive.folder.glob(".*.tar"))
    assert not list(drive.archive.iterdir())


def test_a_run_whose_name_begins_like_another_is_not_taken_for_it(drive, tmp_path):
    drive.save(filled(drive.run("a.b"), "other"))
    fresh = Workspace(tmp_path / "new", drive.archive, "")
    assert not fresh.restore(fresh.run("a")) and fresh.restore(fresh.run("a.b"))


def test_without_an_archive_saving_does_nothing(tmp_path):
    Workspace(tmp_path, None, "").save(filled(tmp_path / "runs" / "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


class MessageError(Exception):
    """Colab's own type for refused consent; it derives from Exception alone."""


def fake_colab(monkeypatch, tmp_path, mount):
    """Stand a google.colab in, which no index has, with a drive whose mount() does what is wanted."""
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_2026")
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path / "content"))
    monkeypatch.setattr(workspace, "_DRIVE", tmp_path / "drive")
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)


def test_colab_s_drive_is_mounted_once_and_used_as_the_archive(monkeypatch, tmp_path):
    calls = []

    def mount(folder):
        calls.append(folder)
        (tmp_path / "drive" / "MyDrive").mkdir(parents=True)

    fake_colab(monkeypatch, tmp_path, mount)
    assert open_workspace().archive == tmp_path / "drive" / "MyDrive" / "face-training"
    open_workspace()
    assert len(calls) == 1, "mount() would ask for consent again"
    assert open_workspace(use_drive=False).archive is None


@pytest.mark.parametrize("error", [ValueError("mount failed"), NotImplementedError(), MessageError("refused")])
def test_a_refused_drive_does_not_end_the_work_and_is_said_loudly(monkeypatch, tmp_path, error):
    def mount(folder):
        raise error

    fake_colab(monkeypatch, tmp_path, mount)
    found = open_workspace()
    assert found.archive is None and "GO WITH THIS MACHINE" in found.note and type(error).__name__ in found.note


def test_the_machine_is_given_back_on_colab_alone_and_only_where_its_files_are_on_drive(monkeypatch, tmp_path):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert Workspace(tmp_path, None, "Files are kept here.").release_machine().endswith("Files are kept here.")
    done = []
    fake_colab(monkeypatch, tmp_path, lambda folder: (tmp_path / "drive" / "MyDrive").mkdir(parents=True))
    colab = sys.modules["google.colab"]
    colab.drive.flush_and_unmount = lambda: done.append("unmounted")
    colab.runtime = types.SimpleNamespace(unassign=lambda: done.append("released"))
    said = open_workspace(use_drive=False).release_machine()
    assert done == [] and "GO WITH THIS MACHINE" in said, "the only copy of the run lies on it"
    there, run = open_workspace(), filled(tmp_path / "content" / "runs" / "a")
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "_is_whole", lambda *_: False)
        there.save(run)
        assert "the last copy of a failed" in there.release_machine() and done == []
    there.save(run)
    assert there.release_machine() == "The machine is given back."
    assert done == ["unmounted", "released"], "what is still on its way to Drive arrives first"


@pytest.mark.parametrize(
    ("variable", "place"), [("COLAB_RELEASE_TAG", "colab"), ("KAGGLE_KERNEL_RUN_TYPE", "kaggle"), ("HOME", "local")]
)
def test_the_place_is_read_from_the_environment(monkeypatch, variable, place):
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "x")
    assert runtime.place() == place


def test_this_machine_can_be_inspected_and_shown(tmp_path):
    machine = inspect_machine(tmp_path)
    assert machine.cores >= 1 and machine.memory > 0.5 and machine.disk_free > 0
    table = machine_table(machine)
    assert table.loc["torch", "found"] != "missing"
    line = describe_machine(machine)
    assert "\n" not in line and f"{machine.cores} CPU cores" in line and ("no GPU" in line) == (not machine.gpus)


@pytest.fixture
def driver(monkeypatch):
    """A driver with two GPUs behind NVML's own functions; set ``driver.reasons`` and ``driver.temperature``."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = types.SimpleNamespace(reasons=0, temperature=71, shut=0)

    def answer(name, value):
        def ask(*_):
            current = value()
            if isinstance(current, Exception):
                raise current
            return current

        monkeypatch.setattr(pynvml, name, ask)

    answer("nvmlInit", lambda: None)
    answer("nvmlDeviceGetCount", lambda: 2)
    answer("nvmlDeviceGetHandleByIndex", lambda: "handle")
    answer("nvmlDeviceGetName", lambda: "Tesla T4")
    answer("nvmlDeviceGetMemoryInfo", lambda: types.SimpleNamespace(total=15360 * 2**20))
    answer("nvmlDeviceGetTemperature", lambda: found.temperature)
    answer("nvmlDeviceGetCurrentClocksThrottleReasons", lambda: found.reasons)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: setattr(found, "shut", found.shut + 1))
    return found


def test_gpus_are_read_through_the_driver_with_temperature_and_what_slows_them_down(driver):
    first, second = gpu.read_gpus()
    assert first == second == Gpu("Tesla T4", pytest.approx(16.1, abs=0.1), 71, "")
    for reasons, words in ((0x01, ""), (0x04, "power limit"), (0x20, "heat"), (0x44, "heat"), (0x80, "power limit")):
        driver.reasons = reasons
        assert gpu.read_gpus()[0].slowed_by == words
    assert gpu.describe_gpu(gpu.read_gpus()[0]) == "Tesla T4 (16 GB, 71 °C, slowed down by power limit)"
    assert driver.shut == 7, "the driver is let go of each time"


def test_a_gpu_that_does_not_tell_its_temperature_or_clocks_is_still_found(driver):
    driver.temperature = driver.reasons = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert gpu.read_gpus()[0] == Gpu("Tesla T4", pytest.approx(16.1, abs=0.1))


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("GPU-8932f937", 2)])
def test_gpus_that_are_hidden_from_this_process_do_not_count(driver, monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(gpu.read_gpus()) == count


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName"])
def test_without_an_answering_driver_there_is_no_gpu(driver, monkeypatch, failing):
    def refuse(*_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, failing, refuse)
    assert gpu.read_gpus() == ()


T4, A100 = Gpu("Tesla T4", 16.1), Gpu("NVIDIA A100-SXM4-40GB", 42.9)


def test_advice_names_what_is_missing_and_what_to_do():
    assert advice(Machine("colab", 2, 12.7, 70.0, 5.0, (T4,))) == []
    text = " ".join(advice(Machine("colab", 2, 4.0, 2.0, 0.1, ())))
    for words in ("T4 GPU", "2.0 GB of disk", "4.0 GB of memory", "workers = 0"):
        assert words in text
    (said,) = advice(Machine("kaggle", 4, 30.0, 70.0, 5.0, (T4, T4)))
    assert "2 GPUs were found; notebook 04 trains on all of them together" in said
    (said,) = advice(Machine("colab", 2, 12.7, 70.0, 5.0, (dataclasses.replace(T4, slowed_by="heat"),)))
    assert "slowed down by heat" in said


def test_the_config_to_start_with_fits_the_machine_and_what_is_set_by_hand_wins():
    def config(*gpus, **changes):
        fitted = fitted_to(Machine("colab", 2, 12.7, 70.0, 5.0, gpus))
        return decide(changes.pop("recipe", "auto"), changes, fitted=fitted)

    assert config(T4) == RECIPES["production"] and config(T4).data.batch_size == 64
    assert config(A100) == RECIPES["production"].replace(batch_size=128)
    assert config(Gpu("GeForce", 8.6)).data.batch_size == 32
    assert config(A100, batch_size=50, epochs=3).data.batch_size == 50
    assert config() == RECIPES["small"] and config(recipe="production").data.batch_size == 64
    assert config(A100, recipe="demo") == RECIPES["demo"]
    with pytest.raises(InputError, match="There is no recipe 'best'"):
        config(recipe="best")
    with pytest.raises(InputError, match="unknown field 'machine'"):
        config(machine=1)


def test_the_table_of_gpus_is_text_without_blanks_and_agrees_with_the_code_and_with_itself():
    table = gpu.gpus_table().set_index("GPU")
    assert list(table.index) == ["T4", "L4", "A100", "H100", "P100", "two T4"], "V100 is gone from Colab"
    assert all(isinstance(cell, str) and cell for cell in table.to_numpy().ravel())
    assert table["batch_size"].to_dict() == {
        name: str(gpu.batch_size_for(float(memory))) for name, memory in table["memory GB"].items()
    }
    for name in ("T4", "L4", "A100"):
        hours, rate, units = (float(table.loc[name, column]) for column in ("hours", "units per hour", "compute units"))
        assert units == pytest.approx(hours * rate, abs=0.5 + 0.05 * rate), "both are rounded"
    assert table.loc["H100", "compute units"] == "not known" and table.loc["P100", "compute units"] == "-"


def test_the_hours_in_the_table_of_gpus_are_those_of_the_recipe_as_it_is():
    production = RECIPES["production"].flat()
    work = f"{production['epochs']} epochs of {TRAINING_FACES:,} faces at {production['img_size']} px"
    assert gpu.gpus_table()["source"].str.contains(work).all(), "the recipe has changed: compute gpus.csv again"


def test_the_units_of_a_gpu_are_found_by_the_driver_s_name():
    known = {"Tesla T4": 1.07, "NVIDIA L4": 4.82, "NVIDIA A100-SXM4-40GB": 11.77}
    assert {name: gpu.units_per_hour(name) for name in known} == known
    for name in ("NVIDIA H100 80GB HBM3", "Tesla P100-PCIE-16GB", "NVIDIA L40S", "NVIDIA GeForce RTX 3090", ""):
        assert gpu.units_per_hour(name) is None, name


def test_only_what_is_missing_is_installed_and_nothing_else_may_change(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# comment\nnumpy>=2\nno-such-thing>=1,<2  # why\ntorch>=999\n")
    assert install.missing(requirements) == ["no-such-thing>=1,<2", "torch>=999"]
    arguments = install.pip_arguments(["no-such-thing>=1,<2"])
    assert arguments.endswith("'no-such-thing>=1,<2'"), "unquoted, the shell would write a file named =1"
    import numpy

    pins = Path(arguments.split()[2]).read_text().splitlines()
    assert f"numpy=={numpy.__version__}" in pins
    upgrade = install.pip_arguments(["numpy>=99"])
    pins = Path(upgrade.split()[2]).read_text().splitlines()
    assert not [pin for pin in pins if pin.startswith("numpy==")], "what is to be replaced must not be held back"
    with pytest.raises(InputError, match=r"pip could not bring no-such-thing>=1,<2, torch>=999"):
        install.check(requirements)


def test_pip_is_heard_only_when_something_is_installed(tmp_path, monkeypatch):
    magics = []
    shell = types.SimpleNamespace(run_line_magic=lambda name, line: magics.append((name, line.split()[-1])))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    (requirements := tmp_path / "requirements.txt").write_text("numpy>=2\n-r more.txt\n")
    install.bring(requirements)
    assert magics == [], "what another file names is brought where that file is asked for"
    (tmp_path / "more.txt").write_text("no-such-thing>=1\n")
    with pytest.raises(InputError, match="pip could not bring no-such-thing"):
        install.bring(tmp_path / "more.txt")
    assert magics == [("pip", "'no-such-thing>=1'")]


def test_of_two_copies_of_a_library_the_imported_one_is_held(tmp_path, monkeypatch):
    for place, number in (("first", "2.0"), ("second", "1.0")):
        folder = tmp_path / place / f"shadowed-{number}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Shadowed\nVersion: {number}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), *sys.path])
    pins = Path(install.pip_arguments(["x"]).split()[2]).read_text().splitlines()
    assert [pin for pin in pins if pin.startswith("shadowed")] == ["shadowed==2.0"]


def test_a_library_replaced_under_the_kernel_asks_for_a_restart(monkeypatch):
    requirements = Path(__file__).parent.parent / "requirements.txt"
    install.check(requirements)
    import numpy

    monkeypatch.setattr(numpy, "__version__", "1.0.0")
    with pytest.raises(InputError, match=r"numpy 1\.0\.0 is loaded .* restart the runtime"):
        install.check(requirements)


def test_the_time_left_of_resumed_work_does_not_count_what_was_done_before(monkeypatch):
    from helpers.session import progress

    made = []

    class Watched(progress.tqdm):
        def __init__(self, *args, **options):
            made.append(self)
            super().__init__(*args, **options)

    monkeypatch.setattr(progress, "tqdm", Watched)
    show = progress.bar("Training")
    for done in (901, 902, 1000):
        show(done, 1000)
    assert (made[0].initial, made[0].n, made[0].total) == (901, 1000, 1000) and len(made) == 1


def test_versions_that_pip_does_not_understand_are_no_constraints_and_hold_nothing_up(tmp_path, monkeypatch):
    for name, number in (
        ("debian", "1.1build1"),
        ("odd name", "1.0"),
        ("unknown", "0.0.0-unknown-x"),
        ("good", "1.0+cu1"),
    ):
        folder = tmp_path / "site" / f"{name.replace(' ', '_')}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    pins = Path(install.pip_arguments(["x"]).split()[2]).read_text().splitlines()
    assert "good==1.0" in pins and not [pin for pin in pins if pin.startswith(("debian", "odd", "unknown"))]
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("debian>=1\ngood>=1\n")
    assert install.missing(requirements) == ["debian>=1"]


def test_a_new_machine_lists_the_runs_of_earlier_ones_without_bringing_them_back(drive, trained, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(trained.folder, drive.run(name))
        drive.save(drive.run(name))
    (drive.run("b") / "extra.txt").write_text("a second copy")
    drive.save(drive.run("b"))
    next(drive.archive.glob("runs-b.2.*")).write_bytes(b"damaged: the one before is whole")
    fresh = Workspace(tmp_path / "new", drive.archive, "")
    shutil.copytree(trained.folder, fresh.run("a"))
    table = runs_table(*fresh.run_folders())
    assert sorted(table["run"]) == ["a (drawn faces)", "b (drawn faces)"] and table["emotion %"].notna().all()
    assert not fresh.run("b").exists() and not list(fresh.folder.rglob("b/checkpoints"))
