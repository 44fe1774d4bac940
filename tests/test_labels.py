"""Labels that look wrong are found by networks that were not trained on the faces, and can be left out."""

import builtins

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from drawn_faces.datasets import write_own_faces
from helpers.config import PackConfig, recipe
from helpers.data.store import pack
from helpers.evaluation.labels import COLUMNS, answers_of_others, fold_stores, suspicious_labels, write_labels
from helpers.files import InputError

FACES, SWAPPED = 600, 0.05


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    """A CSV of drawn faces, of which 5 % have another emotion than was drawn; and the store of it."""
    folder, rng = tmp_path_factory.mktemp("swapped"), np.random.default_rng(0)
    people = [((3, 5, 6)[n % 3], 20 + n % 50, n // 7 % 2) for n in range(FACES)]
    table = write_own_faces(folder, people, size=48)
    faces = pd.read_csv(table)
    names = sorted(faces["emotion"].unique())
    wrong = rng.choice(FACES, round(SWAPPED * FACES), replace=False)
    faces.loc[wrong, "emotion"] = [
        names[(names.index(was) + rng.integers(1, 3)) % 3] for was in faces.loc[wrong, "emotion"]
    ]
    faces.to_csv(table, index=False)
    return table, pack({"own": table}, folder / "faces"), {f"{n}.png" for n in wrong}


@pytest.fixture(scope="module")
def found(swapped, tmp_path_factory):
    _, store, _ = swapped
    config = recipe("demo", img_size=48, epochs=10, workers=0, patience=100, lr=3e-3, augment=0.0, mix_probability=0.0)
    return suspicious_labels(store, answers_of_others(config, store, tmp_path_factory.mktemp("folds")))


def test_the_first_labels_that_look_wrong_were_swapped_far_more_often_than_by_chance(swapped, found):
    _, store, wrong = swapped
    asked = store.faces[(store.faces["split"] != "test") & store.faces["name"].isin(wrong)]
    emotions = found[found["task"] == "emotion"]
    first = set(emotions["name"].head(len(asked)))
    share = len(first & wrong) / len(asked)
    assert share > 0.25, "a draw would find one in twenty; networks trained for longer find more"
    assert tuple(found) == COLUMNS and not set(found["row"]) & set(store.rows("test")), "test labels are not doubted"


def test_no_face_is_judged_by_a_network_that_was_trained_on_it(store):
    judged = np.zeros(len(store), int)
    for fold in fold_stores(store):
        learned, asked = set(fold.rows("train")), set(fold.rows("validation"))
        assert not learned & asked and set(fold.rows("test")) == set(store.rows("test"))
        judged[list(asked)] += 1
    assert (judged == (store.faces["split"] != "test")).all(), "each training and validation face once"


def test_copies_of_one_picture_are_judged_by_the_same_network(tmp_path):
    # A network that has learned a copy by heart repeats its label, wrong or not.
    table = write_own_faces(tmp_path, [(n % 7, 30, n % 2) for n in range(60)])
    lines = table.read_text().splitlines()
    for number, line in enumerate(lines[1:31]):
        with Image.open(tmp_path / f"{number}.png") as picture:
            picture.save(tmp_path / f"copy{number}.jpg", quality=90)
        lines.append(line.replace(f"{number}.png", f"copy{number}.jpg"))
    table.write_text("\n".join(lines) + "\n")
    store = pack({"own": table}, tmp_path / "faces")
    numbers, there = store.faces["name"].str.extract(r"(\d+)")[0], 0
    for fold in fold_stores(store):
        asked = set(numbers.iloc[fold.rows("validation")])
        assert not asked & set(numbers.iloc[fold.rows("train")])
        there += len(asked)
    both = numbers[store.faces["split"] != "test"]
    assert there == both.nunique() < len(both) - 10, "most copies are there twice"


def test_packing_leaves_the_listed_labels_out_and_nothing_else(swapped, found, tmp_path):
    table, store, _ = swapped
    path = tmp_path / "wrong.csv"
    test_face = store.faces.iloc[store.rows("test")[:1]].assign(task="emotion", label="", answered="", probability=1.0)
    listed = pd.concat([found.head(20), test_face.assign(row=0)[list(COLUMNS)]])
    write_labels(path, listed)
    again = pack({"own": table}, tmp_path / "faces", PackConfig(leave_out=str(path)))
    emotion = dict(zip(again.faces["name"], again.faces["emotion"], strict=True))
    gone = set(found.head(20).query("task == 'emotion'")["name"])
    assert {name for name, code in emotion.items() if code < 0} == gone, "the test face keeps its label"
    assert len(again) == len(store) and list(again.faces["split"]) == list(store.faces["split"])
    write_labels(path, listed.head(3))
    assert pack({"own": table}, tmp_path / "faces", PackConfig(leave_out=str(path))).identity != again.identity
    for change, words in (({"task": "emotoin"}, "names the task 'emotoin'"), ({"sha": "0"}, "Not one row of the list")):
        write_labels(path, listed.assign(**change))
        with pytest.raises(InputError, match=words):
            pack({"own": table}, tmp_path / "faces", PackConfig(leave_out=str(path)))
    with pytest.raises(InputError, match=r"none\.csv"):
        pack({"own": table}, tmp_path / "faces", PackConfig(leave_out=str(tmp_path / "none.csv")))


def test_without_cleanlab_the_sentence_says_how_to_get_it(store, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **options):
        if name.startswith("cleanlab"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match="pip install cleanlab"):
        suspicious_labels(store, pd.DataFrame())
