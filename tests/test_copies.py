"""Copies on Drive go by what they went on from, never by a clock, and no saved step is lost."""

import builtins
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.__main__ import main
from helpers.files import InputError, write_json
from helpers.session import workspace
from helpers.session.workspace import Workspace, checked_name

ROOT = Path(__file__).resolve().parent.parent


class Machine:
    """A machine with its own clock, on which the run ``a`` is trained; what it has learned is a list of steps."""

    def __init__(self, folder: Path, drive: Path, skew: int):
        self.space, self.skew = Workspace(folder, drive, ""), skew
        self.folder = self.space.run("a")

    @property
    def learned(self) -> list[str]:
        path = self.folder / "learned.json"
        return json.loads(path.read_text()) if path.exists() else []

    def train(self, name: str, steps: int = 1) -> "Machine":
        learned = self.learned + [f"{name}{number}" for number in range(steps)]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "learned.json").write_text(json.dumps(learned))
        write_json(self.folder / "results.json", {"step": len(learned)})
        return self

    def save(self) -> Path | None:
        """The copy that is new on Drive."""
        before = set(whole(self.space.archive))
        with mock.patch("time.time_ns", lambda: 10**18 + self.skew):
            self.space.save(self.folder)
        return next(iter(set(whole(self.space.archive)) - before), None)

    def restart(self) -> "Machine":
        """The kernel starts again, and the notebook looks what is there."""
        again = Machine(self.space.folder, self.space.archive, self.skew)
        again.space.restore(again.folder)
        return again


def whole(drive: Path) -> dict[Path, list[str]]:
    """What the copies hold whose content has its name's hash."""
    found = {}
    for path in drive.glob("*.tar"):
        if hashlib.sha256(path.read_bytes()).hexdigest() in path.name:
            with tarfile.open(path) as tar:
                found[path] = json.load(tar.extractfile("./learned.json"))
    return found


def went_on_from(later: list[str], earlier: list[str]) -> bool:
    return later[: len(earlier)] == earlier


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["train", "save", "restart", "lose", "damage"]), st.integers(0, 2), st.integers(1, 3)),
    max_size=25,
)


@given(actions=ACTIONS, skews=st.tuples(*[st.sampled_from([0, -5 * 3600 * 10**9, -3 * 10**9, 10**9])] * 3))
@example(
    # The second machine's clock is five hours behind, and it goes on with what the first one has saved.
    actions=[("train", 0, 2), ("save", 0, 1), ("restart", 1, 1), ("train", 1, 3), ("save", 1, 1), ("train", 1, 1),
             ("save", 1, 1), ("restart", 0, 1), ("restart", 2, 1)],
    skews=(0, -5 * 3600 * 10**9, 0),
)  # fmt: skip
@example(
    # Both go on from the same copy; then the newest is damaged again and again.
    actions=[("train", 0, 1), ("save", 0, 1), ("restart", 1, 1), ("train", 0, 1), ("train", 1, 2), ("save", 0, 1),
             ("save", 1, 1), ("train", 0, 3), ("save", 0, 1), ("damage", 0, 1), ("train", 0, 1), ("save", 0, 1),
             ("damage", 0, 1), ("lose", 2, 1), ("restart", 2, 1)],
    skews=(0, 0, 0),
)  # fmt: skip
def test_no_step_that_was_saved_is_lost_whatever_the_clocks_say(actions, skews):
    with tempfile.TemporaryDirectory() as scratch:
        drive = Path(scratch, "drive")
        machines = [Machine(Path(scratch, f"{number}"), drive, skew) for number, skew in enumerate(skews)]
        safe: list[list[str]] = []  # saved, and no damage since
        newest: Path | None = None
        for number, (action, at, steps) in enumerate(actions):
            machine = machines[at]
            if action == "train":
                machine.train(f"{at}.{number}.", steps)
            elif action == "save" and machine.learned:
                newest = machine.save() or newest
                safe.append(machine.learned)
            elif action == "restart":
                before = machine.learned
                try:
                    machines[at] = machine.restart()
                except InputError as error:
                    assert "damaged" in str(error) and not whole(drive)
                local = [path for path in machine.folder.parent.glob("a*/learned.json")]
                assert any(json.loads(path.read_text()) == before for path in local) or not before or before in safe
            elif action == "lose":
                shutil.rmtree(machine.space.folder, ignore_errors=True)
            elif action == "damage" and newest and newest.exists():
                held = whole(drive).get(newest)
                newest.write_bytes(newest.read_bytes()[:-1])
                safe = [learned for learned in safe if held is None or not went_on_from(learned, held)]
            kept = whole(drive).values() if drive.exists() else ()
            for learned in safe:
                assert any(went_on_from(other, learned) for other in kept), f"{action}: {len(learned)} steps are lost"
        fresh = Machine(Path(scratch, "fresh"), drive, 0)
        if safe:
            found = fresh.restart().learned
            assert len(found) >= max(map(len, safe)), "a new machine goes on with what is furthest"


def test_a_machine_whose_clock_is_behind_neither_deletes_nor_hides_newer_work(tmp_path):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0)
    first.train("x", 2).save()
    second = Machine(tmp_path / "2", tmp_path / "drive", -5 * 3600 * 10**9).restart()
    for _ in range(3):
        second.train("y", 2).save()
    assert len(list((tmp_path / "drive").iterdir())) == 2, "the newest and the one before"
    assert Machine(tmp_path / "3", tmp_path / "drive", 0).restart().learned == second.learned


def test_a_kernel_that_starts_again_goes_on_with_what_another_machine_has_saved_and_puts_its_own_aside(
    tmp_path, capsys
):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0).train("x", 2)
    first.save()
    second = Machine(tmp_path / "2", tmp_path / "drive", 0).restart().train("y", 2)
    second.save()
    (first.folder / "train.log").write_text("looked at")
    first = first.restart()
    assert first.learned == second.learned
    said = capsys.readouterr().out
    assert "a was behind the archive's and is now" in said and "step 4 by" in said
    (aside,) = first.folder.parent.glob("a.before-*")
    assert (aside / "train.log").read_text() == "looked at"


def test_a_fork_is_told_once_and_both_sides_stay(tmp_path, capsys):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0).train("x", 2)
    first.save()
    second = Machine(tmp_path / "2", tmp_path / "drive", 0).restart()
    for _ in range(2):
        second.train("y").save()
    assert capsys.readouterr().out == ""
    first.train("z", 5)
    first.save()
    said = capsys.readouterr().out
    assert said.startswith("a also went on elsewhere: step 4 by ") and said.count("\n") == 1
    assert "Here it is at step 7. Everything is kept. To choose another, move the unwanted copies out of" in said
    first.train("z")
    first.save()
    assert capsys.readouterr().out == "", "once"
    assert {len(learned) for learned in whole(tmp_path / "drive").values()} == {3, 4, 7, 8}
    assert second.restart().learned == second.learned and "step 8 by" in capsys.readouterr().out
    third = Machine(tmp_path / "3", tmp_path / "drive", 0).restart()
    assert third.learned == first.learned and "step 4 by" in capsys.readouterr().out
    for path in (tmp_path / "drive").glob("*.step[78].*"):
        path.rename(tmp_path / path.name)
    shutil.rmtree(third.folder)
    assert third.restart().learned == second.learned, "as the sentence says"


def test_an_empty_folder_here_does_not_hide_the_archive_s(tmp_path):
    Machine(tmp_path / "1", tmp_path / "drive", 0).train("x").save()
    second = Machine(tmp_path / "2", tmp_path / "drive", 0)
    (second.folder / "checkpoints").mkdir(parents=True)
    (second.folder / ".claim").touch()
    assert second.restart().learned == ["x0"]


def test_work_that_never_was_in_the_archive_is_kept_and_the_archive_s_is_told(tmp_path, capsys):
    Machine(tmp_path / "1", tmp_path / "drive", 0).train("x", 3).save()
    second = Machine(tmp_path / "2", tmp_path / "drive", 0).train("y")
    assert second.restart().learned == ["y0"]
    assert "a also went on elsewhere: step 3 by" in capsys.readouterr().out


def test_what_has_not_changed_is_not_copied_again_and_is_the_same_from_every_machine(tmp_path):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0).train("x")
    copy = first.save()
    assert first.save() is None
    second = Machine(tmp_path / "2", tmp_path / "drive", 0).train("x")
    assert second.save() is None and list((tmp_path / "drive").iterdir()) == [copy]
    copy.write_bytes(b"damaged")
    assert first.save() is not None, "but where it is damaged"


def test_copies_of_an_earlier_version_are_restored_and_gone_on_from(tmp_path, capsys):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0)
    for number, time in enumerate((1764000000000000001, 1764000000000000002)):
        made = first.train("x").save()
        made.rename(made.with_name(f"runs-a.{time}.{made.name.split('.')[-2]}.tar"))
        (first.space.folder / ".runs-a.copy").unlink()
        assert len(list(made.parent.iterdir())) == number + 1
    capsys.readouterr()
    second = Machine(tmp_path / "2", tmp_path / "drive", 0).restart()
    assert second.learned == ["x0", "x0"]
    second.train("y").save()
    second.train("y").save()
    assert len(list((tmp_path / "drive").iterdir())) == 2 and capsys.readouterr().out == ""


@pytest.mark.parametrize("where", ["open", "copyfile"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_newest_copy_that_drive_does_not_give_is_passed_over_and_said(tmp_path, monkeypatch, capsys, where, number):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0)
    first.train("x").save()
    newest = first.train("y").save()
    module, name = (builtins, "open") if where == "open" else (shutil, "copyfile")
    true = getattr(module, name)

    def flaky(path, *args, **options):
        if os.fspath(path) == str(newest):
            raise OSError(number, os.strerror(number), str(path))
        return true(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, flaky)
        assert Machine(tmp_path / "2", tmp_path / "drive", 0).restart().learned == ["x0"]
    said = capsys.readouterr().out
    assert said.startswith("Passed over, since it cannot be read: runs-a.2.step2.") and os.strerror(number) in said
    assert newest.exists(), "it may answer another time"


def test_a_drive_that_is_gone_is_told_and_not_taken_for_an_empty_one(tmp_path, monkeypatch, capsys):
    first = Machine(tmp_path / "1", tmp_path / "drive" / "face-training", 0)
    with pytest.raises(InputError, match=r"face-training is out of reach \(.*\); mount Drive, then run this again"):
        first.restart()
    (tmp_path / "drive").mkdir()
    first.train("x").save()
    true = os.listdir

    def gone(path="."):
        if str(path).startswith(str(tmp_path / "drive")):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return true(path)

    monkeypatch.setattr(os, "listdir", gone)
    with pytest.raises(InputError, match="out of reach"):
        Machine(tmp_path / "2", first.space.archive, 0).restart()
    # Incident: a Drive that was lost in mid-run stopped "Run all" at the next notebook's first cell.
    assert first.restart().learned == ["x0"], "what is here needs no archive"
    first.space.save(first.folder)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and all(line.startswith("WARNING: ") and "out of reach" in line for line in told)
    assert list(first.space.run_folders()[0].iterdir()) == [first.folder]


def test_a_full_disk_here_is_not_blamed_on_the_archive(tmp_path, monkeypatch, capsys):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0).train("x")
    copy = first.save()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workspace, "unpack_folder", full)
    monkeypatch.setattr(workspace, "pack_folder", full)
    with pytest.raises(InputError, match=r"runs/a could not be written \(.*No space.*\); free some space on this disk"):
        Machine(tmp_path / "2", tmp_path / "drive", 0).restart()
    first.space.save(first.folder)
    assert re.match(r"WARNING: a could not be packed on this machine \(.*No space", capsys.readouterr().out)
    assert copy.exists() and not list((tmp_path / "2").rglob("*.*"))


KILLED = """
import os, shutil, sys
from pathlib import Path
from helpers.session.workspace import Workspace

def torn(source, target):
    Path(target).write_bytes(Path(source).read_bytes()[:100])
    os._exit(9)

shutil.copyfile = torn
space = Workspace(Path(sys.argv[1]), Path(sys.argv[2]), "")
space.save(space.run("a"))
"""


def test_a_kill_in_the_middle_of_a_copy_costs_nothing_and_makes_no_fork(tmp_path, capsys):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0)
    first.train("x").save()
    first.train("y")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "1"), str(tmp_path / "drive")]
    assert subprocess.run(command, cwd=ROOT).returncode == 9
    assert Machine(tmp_path / "2", tmp_path / "drive", 0).restart().learned == ["x0"]
    assert "Passed over" in capsys.readouterr().out
    first = first.restart()
    assert first.learned == ["x0", "y0"]
    first.train("z").save()
    first.train("z").save()
    assert capsys.readouterr().out == "" and len(whole(tmp_path / "drive")) == 2
    assert not list((tmp_path / "1").glob(".*.tar"))


def test_an_interrupt_in_the_middle_of_a_copy_leaves_nothing(tmp_path, monkeypatch):
    first = Machine(tmp_path / "1", tmp_path / "drive", 0).train("x")

    def interrupted(source, target):
        Path(target).write_bytes(b"torn")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            first.save()
    assert not list((tmp_path / "drive").iterdir()) and not list((tmp_path / "1").glob(".*.tar"))
    first.save()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", interrupted)
        Machine(tmp_path / "2", tmp_path / "drive", 0).restart()
    assert not [path for path in (tmp_path / "2").rglob("*") if path.is_file()]


NAMES = ["..", ".", "", "/etc", "a/../b", "a//b", "a/", ".hidden", "a/.b", "a\0b", "a\nb", "x" * 300, "\\a", "a\\b",
         " a", "a ", "~", "é" * 60, "\udcff", None, 7]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_leads_elsewhere_or_fits_nowhere_is_refused(tmp_path, name):
    space = Workspace(tmp_path / "w", tmp_path / "drive", "")
    for folder_of, what in ((space.run, "run"), (space.faces, "store")):
        with pytest.raises(InputError, match=f"The name of a {what} is .* choose another one") as found:
            folder_of(name)
        assert len(str(found.value)) < 250 and "\n" not in str(found.value)


@given(st.text(max_size=90))
@example("a/b")
def test_every_name_is_refused_or_lies_within_the_workspace_under_a_name_of_its_own(name):
    try:
        folder = Workspace(Path("/w"), None, "").run(name)
    except InputError:
        return
    assert folder.parent == Path("/w/runs") and os.path.normpath(folder) == str(folder)
    assert checked_name(folder.name, "run") == folder.name, "what a folder is called names it too"
    assert len(os.fsencode(folder.name)) <= 80


def test_a_slash_and_a_dash_make_different_runs(tmp_path):
    space, fresh = (Workspace(tmp_path / name, tmp_path / "drive", "") for name in "12")
    for name in ("a/b", "a-b", "a.b", "a.1"):
        space.run(name).mkdir(parents=True)
        (space.run(name) / "file").write_text(name)
        space.save(space.run(name))
    for name in ("a/b", "a-b", "a.b", "a.1"):
        assert fresh.restore(fresh.run(name)) and (fresh.run(name) / "file").read_text() == name
    assert not fresh.restore(fresh.run("a"))


@pytest.mark.parametrize("name", ["../x", "/x", "x" * 300, "a\\b"])
def test_the_command_line_refuses_such_names_in_one_sentence(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path))
    attempts = (["evaluate", "--run", name], ["export", "--save_dir", str(tmp_path), "--run", name],
                ["preview", "--faces", name], ["train", "--recipe", "demo", "--weights", f"run:{name}"])  # fmt: skip
    for arguments in attempts:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: The name of a ") and error.count("\n") == 1
