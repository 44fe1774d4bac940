"""A batch is a function of the seed and the step, whatever the number of workers."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from drawn_faces.face import draw_face
from helpers.data import loaders
from helpers.data.augment import (
    GROUPS,
    TECHNIQUES,
    TOO_STRONG,
    Augmenter,
    features_kept,
    preview_techniques,
    show_technique,
    techniques,
)
from helpers.data.loaders import Batch, EpochSampler, plain_loader, train_loader
from helpers.data.store import FaceStore
from helpers.data.workers import loading
from helpers.files import InputError
from helpers.tasks import TASKS
from helpers.training.loop import fit


def same(first: Batch, second: Batch) -> bool:
    """Whether two batches are equal in everything."""
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("rows", "pixels", "warps")]
    pairs += [(first.labels[task], second.labels[task]) for task in TASKS]
    alike = all(getattr(first, name) == getattr(second, name) for name in ("step", "shapes", "size", "known"))
    return alike and all(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in pairs)


def batches(store: FaceStore, config, **options) -> list[Batch]:
    """The batches of an epoch, as training asks for them."""
    about = {"seed": config.run.seed, "size": config.model.img_size} | options
    return list(train_loader(store, store.rows("train"), config.data, config.augmentation, **about))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(store, tiny_config, workers):
    alone = batches(store, tiny_config.replace(workers=0))
    shared = batches(store, tiny_config.replace(workers=workers))
    assert len(alone) == len(shared) > 2
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_an_epoch_can_be_entered_at_any_step(store, tiny_config):
    whole = batches(store, tiny_config)
    rest = batches(store, tiny_config, first_step=2)
    assert [batch.step for batch in rest] == [batch.step for batch in whole[2:]]
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_each_epoch_shows_every_row_once_in_a_new_order():
    rows = np.arange(100, 164)
    orders = []
    for epoch in range(3):
        sampler = EpochSampler(rows, 16, seed=1, first_step=4 * epoch)
        steps, batches = zip(*sampler, strict=True)
        assert steps == tuple(range(4 * epoch, 4 * epoch + 4)) and len(sampler) == 4
        orders.append(np.concatenate(batches))
        assert sorted(orders[-1]) == rows.tolist()
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])


def test_a_batch_larger_than_the_data_takes_all_of_it():
    assert EpochSampler(np.arange(5), 64, seed=0).steps_per_epoch == 1


def test_labels_stay_with_their_faces_when_a_batch_is_grouped_by_size(store):
    for batch in plain_loader(store, np.arange(len(store)), 50, workers=0):
        images = [image for group in batch.faces for image in group.numpy()]
        for row, image, emotion in zip(batch.rows.tolist(), images, batch.labels["emotion"].tolist(), strict=True):
            assert np.array_equal(image, store.image(row)) and emotion == store.faces["emotion"][row]
        assert [batch.labels[task].dtype for task in TASKS] == [torch.int64, torch.float32, torch.int64]
        for task in ("age", "gender"):
            assert np.array_equal(batch.labels[task], store.labels(task)[batch.rows], equal_nan=True), task


def test_training_reduces_large_faces_and_leaves_small_ones(store, tiny_config):
    for size, wanted in ((32, {(32, 32)}), (64, {(48, 48), (64, 64)})):
        loaded = batches(store, tiny_config, size=size)
        assert {tuple(group.shape[1:3]) for batch in loaded for group in batch.faces} == wanted
        assert {batch.size for batch in loaded} == {size}, "which the step resizes them to"


@pytest.mark.parametrize("size", [16, 48, 200])
@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_each_technique_changes_a_face_and_keeps_its_shape(size, strength):
    # An argument that albumentations ignores is a warning there and an error in these tests (see pyproject.toml).
    face = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    images, captions, _ = preview_techniques([face], TECHNIQUES, strength)
    assert [caption.partition("\n")[0] for caption in captions] == ["original", *TECHNIQUES]
    for name in TECHNIQUES:
        images = [show_technique(name, face, strength, seed) for seed in range(6)]
        assert all(image.shape == face.shape and image.dtype == np.uint8 for image in images)
        # One draw may be next to nothing, and half of eight percent of 16 pixels is less than one of them.
        assert size == 16 or any(not np.array_equal(image, face) for image in images), f"{name} did nothing"


def test_an_argument_that_albumentations_ignores_is_an_error_here():
    with pytest.raises(UserWarning, match="not valid"):
        A.HorizontalFlip(p=1.0, probability=0.5)


def test_there_are_more_than_twenty_different_transforms_in_the_five_groups_of_the_field():
    kinds = {type(t.build(t.limit, 1.0, 64)) for t in TECHNIQUES.values() if t.build}
    assert len(kinds) >= 20 and len(TECHNIQUES) >= len(kinds) + 4, "and four warps"
    wanted = {
        "geometric": {"rotate", "scale", "shift", "elastic", "grid distortion", "optical distortion"},
        "colour": {"brightness", "contrast", "hue", "saturation", "gamma", "CLAHE"},
        "noise": {"Gaussian noise", "ISO noise", "multiplicative noise"},
        "blur": {"motion blur", "Gaussian blur", "median blur"},
        "cutout": {"coarse dropout"},
    }
    groups = {group: {n for n, t in TECHNIQUES.items() if t.group == group} for group in wanted}
    assert all(names <= groups[group] for group, names in wanted.items())
    assert tuple(wanted) == GROUPS and sum(map(len, groups.values())) == len(TECHNIQUES)
    holes = TECHNIQUES["coarse dropout"]
    assert holes.build(holes.limit, 1.0, 64).num_holes_range[1] == 8


@pytest.mark.parametrize("name", [n for n, t in TECHNIQUES.items() if t.group != "noise"])
def test_a_technique_changes_a_small_and_a_large_face_alike(name):
    # Noise is left out: it is meant to sit on each pixel of the sensor, and four times the pixels average it away.
    large = draw_face(np.random.default_rng(5), 3, 30, 1, 192)
    small = cv2.resize(large, (48, 48), interpolation=cv2.INTER_AREA)

    def change(face):
        found = []
        for seed in range(12):
            pair = [cv2.resize(i, (48, 48), interpolation=cv2.INTER_AREA).astype(int)
                    for i in (face, show_technique(name, face, 1.0, seed))]  # fmt: skip
            found.append(np.abs(pair[0] - pair[1]).mean())
        return np.mean(found)

    assert 0.5 < change(small) / change(large) < 2


def test_each_technique_can_be_switched_off_by_its_name(store, tiny_config):
    faces = [store.image(row) for row in range(40)]
    for name in TECHNIQUES:
        others = ", ".join(other for other in TECHNIQUES if other != name)
        assert list(techniques(others)) == [name]
    changed = Augmenter(1.0, "flip, scale")
    without = Augmenter(1.0, ", ".join(TECHNIQUES))
    assert any(not np.array_equal(changed(face), face) for face in faces)
    assert all(np.array_equal(without.whole(face), face) for face in faces)
    warps = changed.warps(500)
    assert np.allclose(np.linalg.det(warps[:, :, :2]), 1, atol=1e-5), "neither mirrored nor scaled"
    assert (warps[:, 0, 1] != 0).mean() == pytest.approx(TECHNIQUES["rotate"].probability, abs=0.07)
    batch, *_ = batches(store, tiny_config.replace(augment_without=", ".join(TECHNIQUES), img_size=256))
    images = [image.numpy() for group in batch.faces for image in group]
    assert all(np.array_equal(i, store.image(r)) for i, r in zip(images, batch.rows.tolist(), strict=True))
    assert torch.equal(batch.warps, torch.eye(2, 3).expand(len(images), 2, 3))


def test_a_technique_that_does_not_exist_is_refused_by_name():
    with pytest.raises(InputError, match="a technique 'clae' that does not exist; did you mean 'CLAHE'"):
        Augmenter(1.0, "flip, clae")
    assert "CLAHE" not in techniques("clahe") and "JPEG" in techniques("clahe")


def test_strength_zero_leaves_faces_alone_and_more_strength_changes_more():
    face = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    assert np.array_equal(Augmenter(0.0)(face), face)
    images, *_ = preview_techniques([face], TECHNIQUES, 0.0)
    assert all(np.array_equal(image, face) for image in images)
    change = {}
    for strength in (0.3, 1.5):
        images, *_ = preview_techniques([face] * 5, TECHNIQUES, strength)
        change[strength] = np.mean([np.abs(i.astype(int) - face).mean() for i in images])
    assert change[1.5] > change[0.3]


def test_ranks_share_each_batch_without_a_face_twice_and_draw_their_own_augmentation(store, tiny_config):
    whole = batches(store, tiny_config)
    shares = [batches(store, tiny_config, rank=rank, ranks=2) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert first.step == second.step == batch.step
        assert sorted([*first.rows.tolist(), *second.rows.tolist()]) == sorted(batch.rows.tolist())
        assert first.known == second.known == batch.known, "each knows how many labels the whole step has"
        assert batch.known == {task: int(TASKS[task].known(batch.labels[task]).sum()) for task in TASKS}
    assert not torch.equal(shares[0][0].warps, shares[1][0].warps)


def test_a_technique_that_goes_too_far_is_marked_and_one_that_does_not_is_not():
    faces = [draw_face(np.random.default_rng(seed), seed % 7, 30, seed % 2, 96) for seed in range(6)]
    share = {}
    for strength in (0.5, 2.0):
        *_, marks = preview_techniques(faces, TECHNIQUES, strength)
        share[strength] = np.mean(marks)
    assert share[0.5] < 0.03 and share[2.0] > 2 * share[0.5]
    face = faces[0]
    assert features_kept(face, face, "colour") == pytest.approx(1)
    assert features_kept(face, face[:, ::-1].copy(), "geometric") == pytest.approx(1, abs=1e-3)
    covered = face.copy()
    covered[30:70] = 90  # a bar over eyes and nose
    assert features_kept(face, covered, "cutout") < TOO_STRONG
    assert features_kept(face, cv2.GaussianBlur(face, (0, 0), 12), "blur") < TOO_STRONG
    assert features_kept(face, np.full_like(face, 128), "noise") < 0.5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, signal.SIGTERM])
def test_a_loader_process_that_is_killed_is_one_sentence_and_the_run_goes_on_from_its_checkpoint(
    store, tiny_config, tmp_path, number
):
    def kill(done, total):
        if done == total // 2 + 2:
            os.kill(max(child.pid for child in multiprocessing.active_children()), number)

    config = tiny_config.replace(workers=2, batch_size=4)  # so many steps that not all is loaded when it is killed
    with pytest.raises(InputError, match=r"A loader process was lost \(.*\).*: set workers = 0 and run this") as found:
        fit(config, store, tmp_path / "run", on_step=kill)
    assert "\n" not in str(found.value)
    run = fit(config.replace(workers=0), store, tmp_path / "run")
    assert len(run.history) == 2 and "go on at step" in (run.folder / "train.log").read_text()


def test_a_loader_process_that_is_killed_while_predicting_is_one_sentence(store):
    with pytest.raises(InputError, match="A loader process was lost"), loading():
        for _ in plain_loader(store, store.rows("train"), 2, workers=1):
            os.kill(max(child.pid for child in multiprocessing.active_children()), signal.SIGKILL)


def test_a_signal_that_comes_while_the_sentence_is_made_does_not_take_its_place():
    # Incident: torch's handler of a process's end raised within our own handling of its silence.
    class SilentError(ConnectionError):
        told = 0

        def __str__(self):
            self.told += 1
            if self.told == 1:
                raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
            return "reset by peer"

    with pytest.raises(InputError, match=r"A loader process was lost \(reset by peer\)"), loading():
        raise SilentError


def test_what_a_loader_process_refuses_arrives_as_the_sentence_that_it_is(store, monkeypatch):
    def refuse(self, row):
        raise InputError("The file x is damaged: pack again.")

    monkeypatch.setattr(FaceStore, "image", refuse)
    for workers in (0, 1):
        with pytest.raises(InputError, match=r"^The file x is damaged: pack again\.$"), loading():
            list(plain_loader(store, store.rows("train"), 8, workers))


def test_as_many_loader_processes_are_started_as_shared_memory_has_room_for(store, tiny_config, monkeypatch, capsys):
    rows, side = store.rows("train"), max(store.sides)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    loaders._say_once.cache_clear()
    for batches, wanted in ((1e9, 2), (6.5, 2), (5.0, 1), (3.0, 0), (0.0, 0)):
        free = batches * (128 * side**2 * 3 + loaders._PAGES)
        monkeypatch.setattr(loaders.shutil, "disk_usage", lambda path, free=free: types.SimpleNamespace(free=free))
        loader = plain_loader(store, rows, 128, workers=2)
        assert loader.num_workers == wanted
        assert plain_loader(store, rows, 128, workers=0).num_workers == 0
    assert "1 loader processes are started, not 2" in capsys.readouterr().out
    monkeypatch.setattr(loaders, "SHARED", Path("/nowhere"))
    assert plain_loader(store, rows, 128, workers=2).num_workers == 2


def test_no_more_loader_processes_are_started_than_there_are_cores(store, monkeypatch, recwarn):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    loader = plain_loader(store, store.rows("train"), 128, workers=8)  # of a run that came from a larger machine
    assert loader.num_workers == 2 and not recwarn.list


SMALL = """
import sys, types
from pathlib import Path
from helpers.config import recipe
from helpers.data import loaders
from helpers.data.store import FaceStore
from helpers.files import InputError
from helpers.training.loop import fit

if sys.argv[3] == "filled later":  # by another program, when the processes are already there
    loaders.shutil = types.SimpleNamespace(disk_usage=lambda path: types.SimpleNamespace(free=1e12))
config = recipe("demo", img_size=64, epochs=1, t_0=1, workers=2)
try:
    run = fit(config, FaceStore.open(Path(sys.argv[1])), Path(sys.argv[2]))
    print(len(run.history), "epoch")
except InputError as error:
    print("told:", error)
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="a private /dev/shm takes root and unshare"
)
@pytest.mark.parametrize(("when", "said"), [("from the start", "1 epoch"), ("filled later", "told: A loader process")])
def test_a_small_shared_memory_costs_processes_and_is_never_waited_for(store, tmp_path, when, said):
    (tmp_path / "small.py").write_text(SMALL)
    inside = ["bash", "-c", 'mount -t tmpfs -o size=700k tmpfs /dev/shm && exec "$@"', "-", sys.executable]
    command = ["unshare", "--mount", *inside, tmp_path / "small.py", store.folder, tmp_path / "run", when]
    root = Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore"}
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip("this container lets nobody mount")
    assert said in done.stdout and "Traceback" not in done.stderr, done.stdout + done.stderr
