"""The drawn faces and the four sample datasets made of them."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import signal
import threading
from collections import Counter, defaultdict
from itertools import pairwise

import cv2
import numpy as np
import pytest

from drawn_faces import datasets as sample_faces
from drawn_faces.datasets import uninterrupted, write_sample_faces
from drawn_faces.face import draw_face
from drawn_faces.group import draw_group
from drawn_faces.layouts.affectnet import AffectNet
from drawn_faces.layouts.fer2013 import Fer2013
from drawn_faces.layouts.rafdb import RafDb
from drawn_faces.layouts.utkface import MALFORMED
from helpers.data.sources import is_drawn
from helpers.files import InputError, write_json
from helpers.tasks import EMOTIONS

FACES, FEWEST, SEED = 180, 60, 3
DATASETS = {"fer2013", "utkface", "rafdb", "affectnet"}
RAFDB = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happy", "5": "sad", "6": "angry", "7": "neutral"}
AFFECTNET = {"anger": "angry", **{name: name for name in ("disgust", "fear", "happy", "neutral", "sad", "surprise")}}


def _digests(root) -> dict[str, str]:
    """SHA-256 of every file below ``root`` by its path."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _places(root) -> dict[str, list[str]]:
    """The paths below ``root`` that share one content, by its digest."""
    places = defaultdict(list)
    for path, digest in _digests(root).items():
        places[digest].append(path)
    return places


def _decodes(path) -> bool:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    return data.size > 0 and data[-2:].tobytes() == b"\xff\xd9" and cv2.imdecode(data, cv2.IMREAD_UNCHANGED) is not None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    return write_sample_faces(root, FACES, SEED)


@pytest.fixture(scope="module")
def fewest(tmp_path_factory):
    """The smallest sets of a few seeds."""
    return [write_sample_faces(tmp_path_factory.mktemp("few"), FEWEST, seed) for seed in range(4)]


def _jpegs(folder) -> list:
    return sorted(folder.rglob("*.jpg"))


def _rafdb_rows(folder, split) -> dict[str, str]:
    with open(folder / f"{split}_labels.csv", newline="") as file:
        return {row["image"]: row["label"] for row in csv.DictReader(file)}


def _rafdb_folders(folder, split) -> dict[str, str]:
    """The class folder of each image file by its name."""
    return {path.name: path.parent.name for path in _jpegs(folder / "DATASET" / split)}


def _affectnet_rows(folder) -> dict[str, str]:
    with open(folder / "labels.csv", newline="") as file:
        return {row["pth"]: row["label"] for row in csv.DictReader(file)}


def _images(folder) -> dict:
    """Every image file by its path in the folder."""
    return {path.relative_to(folder).as_posix(): path for path in _jpegs(folder)}


def _training_folders(folders) -> list:
    """Where the training images of each emotion lie, in the three datasets that have emotions."""
    places = [folders["fer2013"] / "train" / name for name in EMOTIONS]
    places += [folders["rafdb"] / "DATASET" / "train" / label for label in RAFDB]
    return places + [folders["affectnet"] / word for word in AFFECTNET]


def _agrees(folder, path) -> bool:
    """Whether a whole image has no row that says otherwise, in the two layouts that have rows."""
    if not path.endswith(".jpg") or not _decodes(folder / path):
        return False
    if folder.name == "rafdb":
        _, split, label, name = path.split("/")
        return _rafdb_rows(folder, split).get(name) == label
    return folder.name == "fer2013" or _affectnet_rows(folder).get(path) == path.split("/")[0]


def _shown(job, build) -> str:
    """The emotion that, drawn with the job's random draws, comes closest to the file."""
    drawn = cv2.cvtColor(cv2.imread(str(build / job.path)), cv2.COLOR_BGR2RGB).astype(int)
    differences = {}
    for emotion, name in enumerate(EMOTIONS):
        rng = np.random.default_rng((SEED, job.dataset, job.number))
        differences[name] = np.abs(draw_face(rng, emotion, job.age, job.gender, job.size) - drawn).mean()
    return min(differences, key=differences.get)


def test_drawn_faces_are_known_as_such_from_above_and_from_within(tmp_path):
    folders = write_sample_faces(tmp_path / "samples", faces=FEWEST)
    deepest = folders["utkface"] / "utkface_aligned_cropped" / "UTKFace"
    assert all(is_drawn(place) for place in (tmp_path / "samples", *folders.values(), deepest))
    assert not is_drawn(tmp_path)


def test_a_face_is_a_function_of_its_rng_and_labels():
    first, again, other = (draw_face(np.random.default_rng(seed), 3, 30, 1, 48) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_everybody_of_a_group_is_somebody_else():
    group = draw_group()
    people = [group[top : top + 220, left : left + 220] for top in (60, 340) for left in (60, 340)]
    assert len({person.tobytes() for person in people}) == 4


@pytest.mark.parametrize("size", [48, 64, 200])
def test_faces_are_uint8_of_the_wanted_size_with_or_without_colour(size):
    colour = draw_face(np.random.default_rng(0), 0, 40, 0, size)
    grey = draw_face(np.random.default_rng(0), 0, 40, 0, size, grey=True)
    assert (colour.shape, colour.dtype) == ((size, size, 3), np.uint8)
    assert (grey.shape, grey.dtype) == ((size, size), np.uint8)
    assert grey.std() > 5


@pytest.mark.parametrize("age", [0, 1.4, 17, 95, 116])
@pytest.mark.parametrize("gender", [0, 1])
def test_every_emotion_can_be_drawn_at_every_age(age, gender):
    for emotion in range(len(EMOTIONS)):
        for seed in range(6):
            assert draw_face(np.random.default_rng(seed), emotion, age, gender, 48, grey=True).any()


def test_labels_change_the_picture_though_the_rng_is_the_same():
    faces = [draw_face(np.random.default_rng(4), emotion, 30, 1, 64).astype(int) for emotion in range(len(EMOTIONS))]
    for i, face in enumerate(faces):
        assert all(np.abs(face - other).max() > 40 for other in faces[:i])


def test_files_do_not_depend_on_the_number_of_processes(tmp_path):
    write_sample_faces(tmp_path / "one", FEWEST, seed=1, workers=1)
    write_sample_faces(tmp_path / "two", FEWEST, seed=1, workers=2)
    assert _digests(tmp_path / "one") == _digests(tmp_path / "two")


@pytest.mark.parametrize("faces", [*range(60, 66), 6000])
def test_the_faces_are_shared_out_by_thirds_and_sixths_and_none_is_lost(tmp_path, faces):
    layouts = sample_faces._lay_out(tmp_path, faces, seed=0)
    fer, utk, raf, affect = (len(layout.jobs) for layout in layouts)
    fer += layouts[0].leaked  # copied instead of drawn
    utk -= len(MALFORMED)  # drawn on top
    assert fer + utk + raf + affect == faces
    assert all(abs(count - faces / 3) <= 1 for count in (fer, utk))
    assert all(abs(count - faces / 6) <= 1 for count in (raf, affect))


def test_no_two_faces_share_their_random_draws(tmp_path):
    jobs = [job for layout in sample_faces._lay_out(tmp_path, FACES, SEED) for job in layout.jobs]
    assert len({(job.dataset, job.number) for job in jobs}) == len(jobs)


def test_even_the_smallest_set_has_a_good_training_image_of_every_emotion_in_every_dataset(fewest):
    for folders in fewest:
        for place in (*_training_folders(folders), folders["affectnet"] / "contempt"):
            assert any(_decodes(path) for path in _jpegs(place)), place


def test_even_the_smallest_set_has_every_class_folder_of_both_splits(fewest):
    for folders in fewest:
        for split in ("train", "test"):
            assert {path.name for path in (folders["fer2013"] / split).iterdir()} == set(EMOTIONS)
            assert {path.name for path in (folders["rafdb"] / "DATASET" / split).iterdir()} == set(RAFDB)


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_set_keeps_an_image_of_every_emotion_out_of_its_traps(tmp_path, seed):
    folders, untouched = write_sample_faces(tmp_path, 120, seed), set()
    for folder in (folders[name] for name in ("fer2013", "rafdb", "affectnet")):
        alone = (paths[0] for paths in _places(folder).values() if len(paths) == 1)
        untouched |= {(folder / path).parent for path in alone if _agrees(folder, path)}
    assert set(_training_folders(folders)) <= untouched


def test_another_seed_gives_other_files(tmp_path, written):
    other = write_sample_faces(tmp_path, FACES, seed=4)
    for place in ("utkface/UTKFace", "rafdb", "affectnet"):
        mine, theirs = (_digests(folders["utkface"].parent / place) for folders in (written, other))
        assert not set(mine.values()) & set(theirs.values())


def test_fer2013_has_both_splits_of_48_pixel_grey_faces_with_kaggles_names(written):
    folder = written["fer2013"]
    assert {path.name for path in folder.iterdir()} == {"train", "test"}
    good = [path for path in _jpegs(folder) if _decodes(path)]
    for path in good:
        split, emotion, name = path.relative_to(folder).parts
        assert emotion in EMOTIONS
        usage, number = name.removesuffix(".jpg").split("_")
        assert usage in ({"Training"} if split == "train" else {"PublicTest", "PrivateTest"})
        assert number.isdigit()
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (48, 48)
    tested = sum(path.parts[-3] == "test" for path in good)
    assert tested == round(0.2 * (FACES // 3))


def test_fer2013_shows_happy_most_and_disgust_least(tmp_path):
    jobs = Fer2013(tmp_path / "fer2013", 1000, seed=0).jobs
    counts = Counter(EMOTIONS[job.emotion] for job in jobs).most_common()
    assert (counts[0][0], counts[-1][0]) == ("happy", "disgust")
    assert counts[0][1] == pytest.approx(3 * counts[-1][1], rel=0.1)


def test_fer2013_leaks_training_images_into_the_test_split(written):
    folder, places = written["fer2013"], defaultdict(set)
    for path, digest in _digests(folder).items():
        places[digest].add(tuple(path.split("/")[:2]))
    leaked = [spots for spots in places.values() if {split for split, _ in spots} == {"train", "test"}]
    assert leaked
    assert all(len({emotion for _, emotion in spots}) == 1 for spots in leaked)


def test_fer2013_has_identical_training_images_under_two_emotions(written):
    places = defaultdict(set)
    for path, digest in _digests(written["fer2013"] / "train").items():
        places[digest].add(path.split("/")[0])
    assert sum(len(spots) == 2 for spots in places.values()) >= 2


def test_fer2013_has_files_that_are_no_images(written):
    folder = written["fer2013"]
    broken = [path for path in _jpegs(folder) if not _decodes(path)]
    starts = sorted(path.read_bytes()[:2] for path in broken)
    assert starts == [b"", b"Th", b"\xff\xd8"]
    assert (folder / "train" / "happy" / "Thumbs.db").is_file()


def test_utkface_names_carry_age_gender_race_and_time(written):
    images = written["utkface"] / "UTKFace"
    names = {path.name for path in images.iterdir()}
    malformed = set(MALFORMED)
    assert malformed < names
    for name in names - malformed:
        age, gender, race, stamp = name.removesuffix(".jpg.chip.jpg").split("_")
        assert 0 <= int(age) <= 95 and gender in "01" and race in "01234"
        assert len(stamp) == 17 and stamp.isdigit()


def test_utkface_holds_200_pixel_colour_faces_and_one_cut_short(written):
    images = _jpegs(written["utkface"] / "UTKFace")
    assert sum(not _decodes(path) for path in images) == 1
    assert all(cv2.imread(str(path)).shape == (200, 200, 3) for path in images if _decodes(path))


def test_utkface_has_the_same_face_under_two_ages(written):
    ages = defaultdict(list)
    images = written["utkface"] / "UTKFace"
    for name, digest in _digests(images).items():
        ages[digest].append(int(name.split("_")[0]))
    gaps = sorted(abs(pair[0] - pair[1]) for pair in ages.values() if len(pair) == 2)
    assert gaps == [2, 20]


def test_utkface_repeats_some_files_in_nested_folders(written):
    folder = written["utkface"]
    first = _digests(folder / "UTKFace")
    for nested in ("crop_part1", "utkface_aligned_cropped/UTKFace", "utkface_aligned_cropped/crop_part1"):
        copies = _digests(folder / nested)
        assert copies and copies.items() < first.items()


def test_rafdb_has_both_splits_of_100_pixel_colour_faces_with_kaggles_names(written):
    folder = written["rafdb"]
    assert {path.name for path in folder.iterdir()} == {"DATASET", "train_labels.csv", "test_labels.csv"}
    good = [path for path in _jpegs(folder) if _decodes(path)]
    for path in good:
        split, label, name = path.relative_to(folder / "DATASET").parts
        assert re.fullmatch({"train": r"train_\d{5}_aligned\.jpg", "test": r"test_\d{4}_aligned\.jpg"}[split], name)
        assert label in RAFDB
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (100, 100, 3)
    assert sum(path.parts[-3] == "test" for path in good) / len(good) == pytest.approx(0.2, abs=0.05)


def test_rafdb_numbers_are_shuffled_over_the_classes(written):
    names = sorted(_rafdb_folders(written["rafdb"], "train").items())
    changes = sum(one[1] != other[1] for one, other in pairwise(names))
    assert changes > len(RAFDB)


def test_rafdb_classes_show_the_emotion_of_their_name_though_their_order_is_another(written):
    jobs = {job.path.split("/")[3]: job for job in RafDb(written["rafdb"], FACES // 6, SEED).jobs}
    assert {label: _shown(job, written["rafdb"].parent) for label, job in jobs.items()} == RAFDB


def test_rafdb_shows_happy_most_and_fear_least(tmp_path):
    jobs = RafDb(tmp_path / "rafdb", 1000, seed=0).jobs
    counts = Counter(EMOTIONS[job.emotion] for job in jobs).most_common()
    assert (counts[0][0], counts[-1][0]) == ("happy", "fear")


def test_rafdb_tables_have_kaggles_header_and_sorted_rows(written):
    for split in ("train", "test"):
        header, *rows = (written["rafdb"] / f"{split}_labels.csv").read_text().splitlines()
        assert header == "image,label"
        assert rows == sorted(set(rows))
        assert all(re.fullmatch(rf"{split}_\d+_aligned\.jpg,[1-7]", row) for row in rows)


def test_rafdb_leaks_a_few_training_images_into_the_test_split(written, fewest):
    for folder in (written["rafdb"], *(folders["rafdb"] for folders in fewest)):
        twins = [[path.split("/") for path in places] for places in _places(folder / "DATASET").values()]
        leaked = [places for places in twins if {split for split, *_ in places} == {"train", "test"}]
        assert len(leaked) >= 2
        for places in leaked:
            assert len({label for _, label, _ in places}) == 1
            assert all(_rafdb_rows(folder, split)[name] == label for split, label, name in places)


def test_rafdb_has_identical_training_images_under_two_classes_with_rows_that_agree(written, fewest):
    for folder in (written["rafdb"], *(folders["rafdb"] for folders in fewest)):
        rows, conflicts = _rafdb_rows(folder, "train"), 0
        for places in _places(folder / "DATASET" / "train").values():
            labels = {path.split("/")[0] for path in places}
            assert len(labels) == len(places)
            conflicts += len(labels) == 2
            assert len(labels) == 1 or {rows[path.split("/")[1]] for path in places} == labels
        assert conflicts >= 2


def test_rafdb_has_two_training_images_whose_row_names_another_class(written, fewest):
    for folder in (written["rafdb"], *(folders["rafdb"] for folders in fewest)):
        rows, folders_of = _rafdb_rows(folder, "train"), _rafdb_folders(folder, "train")
        assert sum(rows.get(name, label) != label for name, label in folders_of.items()) == 2
        assert _rafdb_rows(folder, "test") == _rafdb_folders(folder, "test")


def test_rafdb_has_one_row_without_a_file_and_one_good_training_image_without_a_row(written, fewest):
    for folder in (written["rafdb"], *(folders["rafdb"] for folders in fewest)):
        rows, folders_of = _rafdb_rows(folder, "train"), _rafdb_folders(folder, "train")
        assert len(rows.keys() - folders_of.keys()) == 1
        (unlisted,) = folders_of.keys() - rows.keys()
        assert _decodes(folder / "DATASET" / "train" / folders_of[unlisted] / unlisted)


def test_rafdb_has_one_listed_image_cut_short(written, fewest):
    for folder in (written["rafdb"], *(folders["rafdb"] for folders in fewest)):
        (broken,) = (path for path in _jpegs(folder) if not _decodes(path))
        assert broken.read_bytes()[:2] == b"\xff\xd8"
        assert _rafdb_rows(folder, "train")[broken.name] == broken.parent.name


def test_affectnet_has_96_pixel_colour_faces_in_class_folders_and_no_split(written):
    folder = written["affectnet"]
    assert {path.name for path in folder.iterdir()} == {*AFFECTNET, "contempt", "labels.csv"}
    rafdb = set(_digests(written["rafdb"]).values())
    for name, path in _images(folder).items():
        assert re.fullmatch(r"[a-z]+/image\d{7}\.jpg", name)
        if _decodes(path) and hashlib.sha256(path.read_bytes()).hexdigest() not in rafdb:
            assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (96, 96, 3)


def test_affectnet_file_names_repeat_across_its_folders(written, fewest):
    for folders in (written, *fewest):
        names = Counter(path.name for path in _jpegs(folders["affectnet"]))
        assert max(names.values()) > 1


def test_affectnet_classes_show_the_emotion_of_their_name_and_contempt_a_neutral_face(written):
    jobs = {job.path.split("/")[1]: job for job in AffectNet(written["affectnet"], FACES // 6, SEED).jobs}
    shown = {word: _shown(job, written["affectnet"].parent) for word, job in jobs.items()}
    assert shown == {**AFFECTNET, "contempt": "neutral"}


def test_affectnet_shows_contempt_least(tmp_path):
    counts = Counter(job.path.split("/")[1] for job in AffectNet(tmp_path / "affectnet", 1000, seed=0).jobs)
    assert min(counts, key=counts.get) == "contempt"
    assert counts["contempt"] == pytest.approx(60, abs=2)


def test_affectnet_table_has_kaggles_header_an_index_and_confidences(written):
    with open(written["affectnet"] / "labels.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["", "pth", "label", "relFCs"]
    assert [row[0] for row in rows] == [str(i) for i in range(len(rows))]
    assert all(row[2] in {*AFFECTNET, "contempt"} for row in rows)
    assert all(0 <= float(row[3]) <= 1 and len(row[3]) > 4 for row in rows)
    assert len({row[3] for row in rows}) > len(rows) / 2


def test_affectnet_rows_often_disagree_with_the_folder_also_about_contempt(written, fewest):
    for folder in (written["affectnet"], *(folders["affectnet"] for folders in fewest)):
        rows = _affectnet_rows(folder)
        wrong = {(path.split("/")[0], label) for path, label in rows.items() if path.split("/")[0] != label}
        count = sum(path.split("/")[0] != label for path, label in rows.items())
        assert count >= 3
        assert count / len(rows) == pytest.approx(0.15, abs=0.03 if len(rows) > 20 else 0.15)
        assert any(place != "contempt" and label == "contempt" for place, label in wrong)
        assert any(place == "contempt" and label in AFFECTNET for place, label in wrong)


def test_affectnet_has_one_row_without_a_file_and_one_image_without_a_row(written, fewest):
    for folder in (written["affectnet"], *(folders["affectnet"] for folders in fewest)):
        rows, images = _affectnet_rows(folder), _images(folder)
        assert len(rows.keys() - images.keys()) == 1
        (unlisted,) = images.keys() - rows.keys()
        assert _decodes(images[unlisted])


def test_affectnet_has_one_listed_image_cut_short(written, fewest):
    for folder in (written["affectnet"], *(folders["affectnet"] for folders in fewest)):
        (broken,) = (name for name, path in _images(folder).items() if not _decodes(path))
        assert _affectnet_rows(folder)[broken] == broken.split("/")[0]


def test_affectnet_repeats_one_test_image_of_rafdb_under_the_same_emotion(written, fewest):
    for folders in (written, *fewest):
        rafdb, affectnet = (_places(folders[name]) for name in ("rafdb", "affectnet"))
        (twin,) = rafdb.keys() & affectnet.keys()
        ((_, split, label, _),) = (path.split("/") for path in rafdb[twin])  # it is none of RAF-DB's own twins
        (path,) = affectnet[twin]
        assert split == "test" and AFFECTNET[path.split("/")[0]] == RAFDB[label]
        assert _affectnet_rows(folders["affectnet"])[path] == path.split("/")[0]


def test_a_second_call_writes_nothing(tmp_path, monkeypatch):
    folders = write_sample_faces(tmp_path, FEWEST)
    monkeypatch.setattr(sample_faces, "_draw_all", lambda *_: pytest.fail("drew again"))
    assert write_sample_faces(tmp_path, FEWEST) == folders


def test_another_seed_replaces_the_set_and_leaves_nothing_else(tmp_path):
    write_sample_faces(tmp_path, FEWEST, seed=0)
    before = _digests(tmp_path / "fer2013")
    write_sample_faces(tmp_path, FEWEST, seed=1)
    assert _digests(tmp_path / "fer2013") != before
    assert {path.name for path in tmp_path.iterdir()} == DATASETS | {"sample_faces.json"}


def test_an_interrupted_write_leaves_no_set_and_can_be_repeated(tmp_path, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample_faces(tmp_path, FEWEST, progress=stop)
    assert not list(tmp_path.iterdir())

    real, calls = sample_faces._write_record, []

    def fail_at_the_end(root, record):
        calls.append(record)
        if record["finished"]:
            raise OSError("disk full")
        real(root, record)

    monkeypatch.setattr(sample_faces, "_write_record", fail_at_the_end)
    with pytest.raises(InputError, match=r"could not be written \(disk full\)"):
        write_sample_faces(tmp_path, FEWEST)
    monkeypatch.undo()
    assert json.loads((tmp_path / "sample_faces.json").read_text())["finished"] is False
    assert write_sample_faces(tmp_path, FEWEST)["utkface"].is_dir()
    assert json.loads((tmp_path / "sample_faces.json").read_text())["finished"] is True


def test_a_dataset_that_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "utkface").mkdir()
    with pytest.raises(InputError, match="utkface"):
        write_sample_faces(tmp_path, FEWEST)
    assert [path.name for path in tmp_path.iterdir()] == ["utkface"]


def test_an_older_set_of_two_datasets_is_replaced_but_never_a_dataset_that_it_did_not_hold(tmp_path):
    for name in ("fer2013", "utkface", "rafdb"):
        (tmp_path / name).mkdir()
    older = {"faces": FEWEST, "seed": 0, "version": 1, "datasets": ["fer2013", "utkface"], "finished": True}
    write_json(tmp_path / "sample_faces.json", older)
    with pytest.raises(InputError, match="rafdb"):
        write_sample_faces(tmp_path, FEWEST)
    (tmp_path / "rafdb").rmdir()
    assert all(any(folder.iterdir()) for folder in write_sample_faces(tmp_path, FEWEST).values())


def test_too_few_faces_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 60"):
        write_sample_faces(tmp_path, FEWEST - 1)


def test_progress_ends_at_the_total(tmp_path):
    seen = []
    write_sample_faces(tmp_path, 120, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)


def test_an_interrupt_waits_until_the_processes_are_started_whichever_thread_gets_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done, other = [], threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,))
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # as in a thread that was there before
            other.start()
            other.join()
            done.append("started")
        assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
