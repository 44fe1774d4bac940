"""The drawn faces and the two sample datasets made of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest

from drawn_faces import datasets as sample_faces
from drawn_faces.datasets import is_drawn, write_sample_faces
from drawn_faces.face import draw_face
from helpers.config import EMOTIONS, InputError

FACES = 90


def _digests(root) -> dict[str, str]:
    """SHA-256 of every file below ``root`` by its path."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _decodes(path) -> bool:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    return data.size > 0 and data[-2:].tobytes() == b"\xff\xd9" and cv2.imdecode(data, cv2.IMREAD_UNCHANGED) is not None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    return write_sample_faces(root, FACES, seed=3)


def _jpegs(folder) -> list:
    return sorted(folder.rglob("*.jpg"))


def test_drawn_faces_are_known_as_such_from_above_and_from_within(tmp_path):
    folders = write_sample_faces(tmp_path / "samples", faces=30)
    deepest = folders["utkface"] / "utkface_aligned_cropped" / "UTKFace"
    assert all(is_drawn(place) for place in (tmp_path / "samples", *folders.values(), deepest))
    assert not is_drawn(tmp_path)


def test_a_face_is_a_function_of_its_rng_and_labels():
    first, again, other = (draw_face(np.random.default_rng(seed), 3, 30, 1, 48) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


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
    write_sample_faces(tmp_path / "one", 60, seed=1, workers=1)
    write_sample_faces(tmp_path / "two", 60, seed=1, workers=2)
    assert _digests(tmp_path / "one") == _digests(tmp_path / "two")


def test_another_seed_gives_other_files(tmp_path, written):
    other = write_sample_faces(tmp_path, FACES, seed=4)
    mine, theirs = (_digests(folders["utkface"] / "UTKFace") for folders in (written, other))
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
    assert tested == round(0.2 * FACES * 2 // 3)


def test_fer2013_shows_happy_most_and_disgust_least(tmp_path):
    jobs = sample_faces._Fer2013(tmp_path / "fer2013", 1000, seed=0).jobs
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
    malformed = set(sample_faces._MALFORMED)
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


def test_a_second_call_writes_nothing(tmp_path, monkeypatch):
    folders = write_sample_faces(tmp_path, 30)
    monkeypatch.setattr(sample_faces, "_draw_all", lambda *_: pytest.fail("drew again"))
    assert write_sample_faces(tmp_path, 30) == folders


def test_another_seed_replaces_the_set_and_leaves_nothing_else(tmp_path):
    write_sample_faces(tmp_path, 30, seed=0)
    before = _digests(tmp_path / "fer2013")
    write_sample_faces(tmp_path, 30, seed=1)
    assert _digests(tmp_path / "fer2013") != before
    assert {path.name for path in tmp_path.iterdir()} == {"fer2013", "utkface", "sample_faces.json"}


def test_an_interrupted_write_leaves_no_set_and_can_be_repeated(tmp_path, monkeypatch):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample_faces(tmp_path, 60, progress=stop)
    assert not list(tmp_path.iterdir())

    real, calls = sample_faces._write_record, []

    def fail_at_the_end(root, record):
        calls.append(record)
        if record["finished"]:
            raise OSError("disk full")
        real(root, record)

    monkeypatch.setattr(sample_faces, "_write_record", fail_at_the_end)
    with pytest.raises(OSError, match="disk full"):
        write_sample_faces(tmp_path, 30)
    monkeypatch.undo()
    assert json.loads((tmp_path / "sample_faces.json").read_text())["finished"] is False
    assert write_sample_faces(tmp_path, 30)["utkface"].is_dir()
    assert json.loads((tmp_path / "sample_faces.json").read_text())["finished"] is True


def test_a_dataset_that_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "utkface").mkdir()
    with pytest.raises(InputError, match="utkface"):
        write_sample_faces(tmp_path, 30)
    assert [path.name for path in tmp_path.iterdir()] == ["utkface"]


def test_too_few_faces_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 30"):
        write_sample_faces(tmp_path, 10)


def test_progress_ends_at_the_total(tmp_path):
    seen = []
    write_sample_faces(tmp_path, 120, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)
