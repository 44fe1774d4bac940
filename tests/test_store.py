"""The packed store holds what the folders held, and is either whole or not there."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from drawn_faces.face import draw_face
from helpers.config import PackConfig
from helpers.data import sources
from helpers.data import store as store_module
from helpers.data.images import decode
from helpers.data.layouts.files import Entry
from helpers.data.loaders import plain_loader
from helpers.data.store import FaceStore, describe, pack
from helpers.files import InputError
from helpers.tasks import EMOTIONS

ROOT = Path(__file__).resolve().parent.parent


def test_a_store_opens_without_the_folders_and_gives_back_every_pixel(sample_folders, tmp_path):
    copies = {name: shutil.copytree(folder, tmp_path / name) for name, folder in sample_folders.items()}
    packed = pack(copies, tmp_path / "faces")
    rows = range(0, len(packed), 7)
    expected = [decode((copies[packed.faces["dataset"][row]] / packed.faces["name"][row]).read_bytes()) for row in rows]
    for folder in copies.values():
        shutil.rmtree(folder)
    opened = FaceStore.open(tmp_path / "faces")
    assert all(np.array_equal(opened.image(row), pixels) for row, pixels in zip(rows, expected, strict=True))
    assert opened.identity == packed.identity


def test_the_audit_finds_the_traps_of_the_sample_faces(store, sample_folders):
    fer, utk = store.manifest["audit"]["fer2013"], store.manifest["audit"]["utkface"]
    assert store.drawn
    assert sum(fer["rejected"].values()) == 4 and "truncated image" in fer["rejected"]
    assert fer["identical"]["leaked"] >= 1 and fer["left_out_twin_in_test"] >= 1
    assert fer["identical"]["conflicting"] >= 2
    assert utk["rejected"]["name has 3 fields, not age_gender_race_time"] == 3
    assert utk["rejected"]["gender in the name is not 0 to 1"] == 1 and utk["identical"]["conflicting"] >= 2
    raf, affect = store.manifest["audit"]["rafdb"], store.manifest["audit"]["affectnet"]
    assert raf["rejected"]["train_labels.csv and the folder disagree"] == 2 and raf["identical"]["conflicting"] >= 2
    assert raf["identical"]["leaked"] >= 2 and affect["left_out_twin_in_test"] == 1, "across datasets too"
    assert affect["rejected"]["labels.csv and the folder disagree"] >= 3
    assert affect["rejected"]["contempt is not among the emotions"] >= 1
    for name, found in store.manifest["audit"].items():
        files = sum(path.is_file() and path.suffix != ".csv" for path in sample_folders[name].rglob("*"))
        gone = sum(count for reason, count in found["rejected"].items() if "there is no such file" in reason)
        assert found["rows"] + sum(found["rejected"].values()) == files + gone, "every file is a row or a reject"


def test_packing_again_opens_what_is_there_until_a_file_changes(sample_folders, tmp_path):
    folder = shutil.copytree(sample_folders["utkface"], tmp_path / "utkface")
    pack({"utkface": folder}, tmp_path / "faces")
    before = (tmp_path / "faces" / "manifest.json").stat().st_mtime_ns
    pack({"utkface": folder}, tmp_path / "faces")
    assert (tmp_path / "faces" / "manifest.json").stat().st_mtime_ns == before
    next((folder / "UTKFace").glob("2*.jpg")).unlink()
    pack({"utkface": folder}, tmp_path / "faces")
    assert (tmp_path / "faces" / "manifest.json").stat().st_mtime_ns != before


def test_a_store_is_not_replaced_by_one_that_lacks_a_dataset(sample_folders, store, tmp_path):
    packed = pack(sample_folders, tmp_path / "faces")
    with pytest.raises(InputError, match="also holds utkface"):
        pack({"fer2013": sample_folders["fer2013"]}, tmp_path / "faces")
    assert FaceStore.open(tmp_path / "faces").identity == packed.identity


def test_a_damaged_manifest_is_told_and_the_store_is_packed_anew_once_it_is_deleted(sample_folders, store, tmp_path):
    packed = pack(sample_folders, tmp_path / "faces")
    manifest = packed.folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    with pytest.raises(InputError, match=r"manifest\.json cannot be read as JSON .* or delete this file"):
        pack(sample_folders, tmp_path / "faces")
    manifest.unlink()
    assert pack(sample_folders, tmp_path / "faces").identity == store.identity


def test_a_store_with_a_missing_or_shortened_file_is_refused(store, tmp_path):
    copy = shutil.copytree(store.folder, tmp_path / "faces")
    file = next(copy.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"{file} is \d+ bytes long, not \d+; pack the datasets again"):
        FaceStore.open(copy)
    file.unlink()
    with pytest.raises(InputError, match=rf"{file} does not exist; pack the datasets again"):
        FaceStore.open(copy)
    with pytest.raises(InputError, match=r"^Run notebook 02 first, https.*/02_download_datasets.ipynb"):
        FaceStore.open(tmp_path / "nowhere")


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_bit_that_flips_in_a_packed_file_is_seen_and_packing_mends_it(sample_folders, tmp_path, keep_times):
    packed = pack(sample_folders, tmp_path / "faces")
    FaceStore.open(packed.folder)
    file, before = packed.folder / "faces-000.arrow", (packed.folder / "faces-000.arrow").stat()
    with open(file, "r+b") as opened:
        opened.seek(before.st_size // 2)
        byte = opened.read(1)[0]
        opened.seek(before.st_size // 2)
        opened.write(bytes([byte ^ 1]))
    if keep_times:  # nobody can set the time at which an inode was last changed
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=r"faces-000\.arrow is damaged, since it has not the SHA-256 .*; pack"):
        FaceStore.open(packed.folder)
    assert pack(sample_folders, tmp_path / "faces").identity == packed.identity
    assert FaceStore.open(packed.folder).image(5).shape == packed.image(5).shape


def test_a_packed_file_is_read_once_on_a_machine_and_again_where_it_is_another_one(store, tmp_path, monkeypatch):
    folder, real, read = shutil.copytree(store.folder, tmp_path / "faces"), store_module._sha256, []
    monkeypatch.setattr(store_module, "_sha256", lambda path: read.append(path.name) or real(path))
    for _ in range(3):
        FaceStore.open(folder)
    assert read == ["faces-000.arrow"], "a copy of the store brings the word of another machine, which does not count"
    stamp = folder / ".checked.json"
    for content in (b"", b"{}", b"\x00", stamp.read_bytes().replace(b"faces-000", b"faces-001")):
        stamp.write_bytes(content)
        FaceStore.open(folder)
    assert len(read) == 5, "nor does one that is damaged"


def test_of_two_sessions_that_pack_the_same_store_the_second_is_told_and_the_first_goes_on(
    sample_folders, tmp_path, monkeypatch
):
    folders = {"utkface": sample_folders["utkface"]}
    first = multiprocessing.get_context("fork").Process(target=_pack_slowly, args=(folders, tmp_path / "faces"))
    first.start()
    while first.is_alive() and not list(tmp_path.glob(".faces.*.partial")):
        time.sleep(0.05)
    with pytest.raises(InputError, match=r"is being packed by another session on this machine; wait for it, or stop"):
        pack(folders, tmp_path / "faces")
    first.join()
    assert first.exitcode == 0 and [path.name for path in tmp_path.iterdir()] == ["faces"]
    assert len(FaceStore.open(tmp_path / "faces")) > 0


def _pack_slowly(folders, target):
    real = store_module._swap_in
    store_module._swap_in = lambda *places: time.sleep(2) or real(*places)
    pack(folders, target)


def test_where_the_new_store_cannot_take_its_place_the_old_one_stays(sample_folders, tmp_path, monkeypatch):
    first, real, calls = pack({"utkface": sample_folders["utkface"]}, tmp_path / "faces"), Path.rename, []

    def rename(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InputError, match=r"could not be written \(Permission denied\); get the permission"):
        pack(sample_folders, tmp_path / "faces")
    monkeypatch.undo()
    assert FaceStore.open(tmp_path / "faces").identity == first.identity
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_a_kill_between_the_two_steps_of_the_exchange_loses_no_dataset(sample_folders, tmp_path):
    first = pack({"utkface": sample_folders["utkface"]}, tmp_path / "faces")
    first.folder.rename(tmp_path / ".faces.old")
    with pytest.raises(InputError, match="also holds utkface"):
        pack({"fer2013": sample_folders["fer2013"]}, tmp_path / "faces")
    assert FaceStore.open(tmp_path / "faces").identity == first.identity


def test_a_store_packed_for_other_classes_is_refused_in_one_sentence_that_names_them(sample_folders, tmp_path):
    folders = {"affectnet": sample_folders["affectnet"]}
    path = pack(folders, tmp_path / "faces").folder / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["classes"]["emotion"] == list(EMOTIONS)
    manifest["classes"]["emotion"].append("contempt")
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError) as caught:
        FaceStore.open(tmp_path / "faces")
    found, now = ", ".join((*EMOTIONS, "contempt")), ", ".join(EMOTIONS)
    assert f"other classes of emotion ({found}) than there are now ({now})" in str(caught.value)
    assert str(caught.value).startswith(f"The store {tmp_path / 'faces'} ") and "\n" not in str(caught.value)
    again = pack(folders, tmp_path / "faces")
    assert again.manifest["classes"]["emotion"] == list(EMOTIONS), "packed again instead of opened"


def test_packing_no_dataset_at_all_is_told_in_one_sentence_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match=r"^There is no dataset to pack; name one, or .*\.$"):
        pack({}, tmp_path / "faces")
    assert not list(tmp_path.iterdir())


def test_an_age_that_is_known_as_an_interval_goes_from_its_entry_to_a_batch(tmp_path, monkeypatch):
    given = [(20, 29), (60, 116), (7, 7), None, (0, 2), (33, 33)]
    for number in range(len(given)):
        face = draw_face(np.random.default_rng(number), number, 30, 0, 48)
        Image.fromarray(face).save(tmp_path / f"{number}.png")

    def listed(folder, _):
        for number, age in enumerate(given):
            yield Entry(folder / f"{number}.png", labels={"gender": 1} | ({"age": age} if age else {}))

    ranges = sources.Source("Ranges", "some/where", "age, gender", 6, 1, "free", "nothing is lost", listed)
    monkeypatch.setitem(sources.SOURCES, "ranges", ranges)
    store = pack({"ranges": tmp_path}, tmp_path / "faces")
    wanted = np.array([age or (np.nan, np.nan) for age in given], np.float32)
    order = [int(Path(name).stem) for name in store.faces["name"]]
    assert sorted(order) == list(range(6)) and store.labels("age").dtype == np.float32
    assert np.array_equal(store.labels("age"), wanted[order], equal_nan=True)
    assert store.known("age").tolist() == [given[number] is not None for number in order]
    words = ["20-29, female", "60-116, female", "7, female", "female", "0-2, female", "33, female"]
    assert describe(store.faces) == [words[number] for number in order]
    decades = store.manifest["audit"]["ranges"]["age"].values()
    counted = {name: sum(counts[name] for counts in decades) for name in next(iter(decades))}
    assert {name: count for name, count in counted.items() if count} == {"0s": 2, "20s": 1, "30s": 1, "80s": 1}
    (batch,) = plain_loader(store, np.arange(6), 6, workers=0)
    assert np.array_equal(batch.labels["age"], store.labels("age")[batch.rows], equal_nan=True)
    assert batch.labels["age"].shape == (6, 2) and batch.known == {"emotion": 0, "age": 5, "gender": 6}


def test_a_failed_pack_leaves_the_old_store_and_nothing_half_written(sample_folders, tmp_path, monkeypatch):
    first = pack({"utkface": sample_folders["utkface"]}, tmp_path / "faces")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_files", full_disk)
    with pytest.raises(InputError, match=r"could not be written \(No space left"):
        pack(sample_folders, tmp_path / "faces")
    assert FaceStore.open(tmp_path / "faces").identity == first.identity
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def _pack_and_die(folders, target):
    """Kill this process when all data is written but the manifest is not."""
    store_module.to_json = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    pack(folders, target)


def test_a_kill_while_packing_leaves_no_store_to_be_mistaken_for_a_good_one(sample_folders, tmp_path):
    target = tmp_path / "faces"
    process = multiprocessing.get_context("spawn").Process(target=_pack_and_die, args=(sample_folders, target))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(InputError):
        FaceStore.open(target)
    assert len(pack(sample_folders, target)) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["faces"], "what the dead process left is cleared away"


def test_files_stay_below_the_limit_and_rows_cross_their_borders(sample_folders, tmp_path, monkeypatch, store):
    monkeypatch.setattr(store_module, "_FILE_BYTES", 200_000)
    monkeypatch.setattr(store_module, "_BATCH_ROWS", 16)
    many = pack(sample_folders, tmp_path / "faces")
    assert len(many.manifest["files"]) > 3
    assert many.identity == store.identity
    assert all(np.array_equal(many.image(row), store.image(row)) for row in range(len(store)))


def test_a_store_travels_to_a_worker_by_its_folder(store):
    twin = pickle.loads(pickle.dumps(store))
    assert np.array_equal(twin.image(5), store.image(5))


def test_a_fixed_sample_holds_rows_of_every_task_and_does_not_depend_on_order(store):
    sample = store.fixed_sample("train", 20)
    assert (store.faces["split"][sample] == "train").all()
    for task in ("emotion", "age", "gender"):
        assert store.known(task)[sample].sum() >= 20
    assert json.dumps(sample.tolist()) == json.dumps(store.fixed_sample("train", 20).tolist())
    assert len(store.fixed_sample("validation", 10**6)) == len(store.rows("validation"))


def test_larger_faces_are_reduced_once_and_stay_in_their_split(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    shapes = [(400, 300), (300, 600), (100, 100), (288, 288)]
    for number, shape in enumerate(shapes):
        face = draw_face(rng, number, 30, 0, max(shape))[: shape[0], : shape[1]]
        Image.fromarray(face).save(tmp_path / "mine" / f"{number}.png")
    table = tmp_path / "mine" / "faces.csv"
    table.write_text("file,age\n" + "".join(f"{number}.png,{20 + number}\n" for number in range(4)))
    whole = pack({"mine": table}, tmp_path / "whole", PackConfig(max_side=1024))
    small = pack({"mine": table}, tmp_path / "small")
    assert [whole.image(row).shape[:2] for row in range(4)] == shapes
    assert [small.image(row).shape[:2] for row in range(4)] == [(288, 216), (144, 288), (100, 100), (288, 288)]
    assert small.faces["split"].tolist() == whole.faces["split"].tolist()
    assert small.faces["sha"].tolist() == whole.faces["sha"].tolist()
    assert sorted(small.sides) == [100, 288] and len(small) == 4
    reduced = cv2.resize(whole.image(0), (216, 288), interpolation=cv2.INTER_AREA)
    assert np.abs(small.image(0).astype(int) - reduced).mean() < 3, "what JPEG takes away, and no more"
    again = pack({"mine": table}, tmp_path / "small", PackConfig(max_side=64))
    assert again.sides == [64], "another cap packs the store again"


def test_a_file_size_limit_of_the_system_leaves_no_store(sample_folders, tmp_path):
    # A real refusal by the kernel while an Arrow file is being written, as of a full disk or a quota.
    code = (
        "import resource, signal, sys; from pathlib import Path; from helpers.data.store import pack;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "pack({'utkface': Path(sys.argv[1])}, Path(sys.argv[2]))"
    )
    place = [str(sample_folders["utkface"]), str(tmp_path / "faces")]
    found = subprocess.run([sys.executable, "-c", code, *place], capture_output=True, text=True, cwd=ROOT)
    assert "could not be written" in found.stderr and "File too large" in found.stderr
    assert not list(tmp_path.iterdir())
