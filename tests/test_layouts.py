"""RAF-DB, AffectNet and a user's own CSV are read by their rules; what does not agree is left out by name."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.config import PackConfig
from helpers.data.audit import audit_table, rejects_table
from helpers.data.download import fetch_all
from helpers.data.layouts.affectnet import list_affectnet
from helpers.data.layouts.files import TABLE, Entry, not_an_image
from helpers.data.layouts.own import list_own
from helpers.data.layouts.rafdb import list_rafdb
from helpers.data.sources import fingerprint, list_all, load_paths, read_source
from helpers.data.store import pack
from helpers.files import InputError
from helpers.tasks import EMOTION, EMOTIONS, GENDER, RACES

RAFDB = {1: "surprise", 2: "fear", 3: "disgust", 4: "happy", 5: "sad", 6: "angry", 7: "neutral"}
"""The dataset's own documentation, in this project's names."""


def picture(number: int) -> bytes:
    """An encoded picture that no other number has."""
    pixels = np.full((16, 16, 3), (number % 251, number // 251, 7), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_csv(path: Path, rows: list[tuple]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def rafdb(tmp_path) -> Path:
    """One image per class and split, and both CSVs."""
    for split in ("train", "test"):
        rows = [("image", "label")]
        for number in RAFDB:
            folder = tmp_path / "rafdb" / "DATASET" / split / str(number)
            folder.mkdir(parents=True)
            name = f"{split}_{number:05d}_aligned.jpg"
            (folder / name).write_bytes(picture(number + 10 * (split == "test")))
            rows.append((name, number))
        write_csv(tmp_path / "rafdb" / f"{split}_labels.csv", rows)
    return tmp_path / "rafdb"


@pytest.fixture
def affectnet(tmp_path) -> Path:
    """Two images per class under the same two names everywhere; the CSV agrees with the first alone."""
    words = ("anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    rows: list[tuple] = [("", "pth", "label", "relFCs")]
    for number, word in enumerate(words):
        (tmp_path / "affectnet" / word).mkdir(parents=True)
        for index, label in enumerate((word, words[number - 1])):
            name = f"image{index:07d}.jpg"
            (tmp_path / "affectnet" / word / name).write_bytes(picture(100 + 2 * number + index))
            rows.append((len(rows) - 1, f"{word}/{name}", label, 0.5))
    write_csv(tmp_path / "affectnet" / "labels.csv", rows)
    return tmp_path / "affectnet"


def labels(items) -> dict[str, str]:
    """``<folder>/<file>`` -> emotion's name, or the reason why it is left out."""
    found = {}
    for item in (item for item in items if isinstance(item, Entry) or item[1] != TABLE):
        path, about = (item.path, EMOTIONS[item.labels["emotion"]]) if isinstance(item, Entry) else item
        found[f"{path.parent.name}/{path.name}"] = about
    return found


def test_rafdb_s_numbers_are_mapped_by_name_and_not_by_their_order(rafdb):
    table = read_source("rafdb", rafdb, PackConfig()).table.to_pandas()
    assert len(table) == 14 and set(table["split"]) == {"train", "test"}
    for row in table.itertuples():
        assert EMOTIONS[row.emotion] == RAFDB[int(row.name.split("/")[2])]
    assert RAFDB[1] != EMOTIONS[0], "a sorted list of folders would have mixed up every emotion"


@pytest.mark.parametrize("given", ["", "DATASET"])
def test_rafdb_is_found_above_and_within_its_dataset_folder_with_its_tables(rafdb, given):
    found = read_source("rafdb", rafdb / given, PackConfig())
    assert found.table.num_rows == 14 and not found.rejects


def test_rafdb_s_images_are_used_where_folder_and_csv_agree_and_left_out_by_name_elsewhere(rafdb):
    train = rafdb / "DATASET" / "train"
    write_csv(
        rafdb / "train_labels.csv",
        [
            ("image", "label"),
            ("train_00001_aligned.jpg", "1"),
            ("train_00002_aligned.jpg", "5"),
            ("train_00003_aligned.jpg", "9"),
            ("train_00004_aligned.jpg", "4"),
            ("train_00004_aligned.jpg", "5"),
            ("train_00005_aligned.jpg", "5"),
            ("train_00006_aligned.jpg", "6"),
            ("train_09999_aligned.jpg", "2"),
        ],
    )
    (train / "8").mkdir()
    (train / "8" / "x.jpg").write_bytes(picture(90))
    (train / "stray.txt").write_text("x")
    found = labels(item for item in list_rafdb(rafdb) if "test_0" not in str(item))
    assert found == {
        "1/train_00001_aligned.jpg": "surprise",
        "2/train_00002_aligned.jpg": "train_labels.csv and the folder disagree",
        "3/train_00003_aligned.jpg": "label in train_labels.csv is not 1 to 7",
        "4/train_00004_aligned.jpg": "rows in train_labels.csv contradict each other",
        "5/train_00005_aligned.jpg": "sad",
        "6/train_00006_aligned.jpg": "angry",
        "7/train_00007_aligned.jpg": "no row in train_labels.csv",
        "8/x.jpg": "not in a folder 1 to 7",
        "train/stray.txt": "not in a folder 1 to 7",
        "2/train_09999_aligned.jpg": "in train_labels.csv, but there is no such file",
    }


def test_rafdb_without_a_csv_goes_by_its_folders_and_says_that_they_were_not_checked(rafdb):
    (rafdb / "test_labels.csv").unlink()
    found = labels(list_rafdb(rafdb))
    assert found.pop("DATASET/test_labels.csv") == "not there, so the folders' labels were not checked"
    assert len(found) == 14 and set(found.values()) == set(EMOTIONS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name,label\na,1\n", "lacks the column image: found name, label, expected image, label"),
        ("image;label\na;1\n", "lacks the column image, label: found image;label"),
        ("", "lacks the column image, label: found nothing"),
    ],
)
def test_a_csv_without_its_columns_is_refused_by_name(rafdb, content, words):
    (rafdb / "train_labels.csv").write_text(content)
    with pytest.raises(InputError, match=words):
        list(list_rafdb(rafdb))


def test_a_csv_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(rafdb):
    text = (rafdb / "train_labels.csv").read_text()
    (rafdb / "train_labels.csv").write_text(text, encoding="utf-8-sig")
    assert len(labels(list_rafdb(rafdb))) == 14 and set(labels(list_rafdb(rafdb)).values()) == set(EMOTIONS)
    (rafdb / "train_labels.csv").write_text(text + "é,1\n", encoding="latin-1")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        list(list_rafdb(rafdb))


@pytest.mark.parametrize("gone", ["DATASET/train/3", "DATASET/test/1"])
def test_rafdb_without_a_class_s_folder_is_refused(rafdb, gone):
    (rafdb / gone).rename(rafdb / "gone")
    with pytest.raises(InputError, match="does not hold RAF-DB"):
        list(list_rafdb(rafdb))


def test_affectnet_takes_the_images_on_which_folder_and_csv_agree(affectnet):
    found = labels(list_affectnet(affectnet))
    assert len(found) == 16, "equal names in two folders are two images"
    kept = {name: emotion for name, emotion in found.items() if emotion in EMOTIONS}
    assert kept == {f"{word}/image0000000.jpg": EMOTIONS[EMOTION.code(word)] for word in
                    ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise")}  # fmt: skip
    assert found["contempt/image0000000.jpg"] == "contempt is not among the emotions"
    assert found["happy/image0000001.jpg"] == found["contempt/image0000001.jpg"] == "labels.csv and the folder disagree"


def test_affectnet_by_folder_or_by_csv_drops_contempt_by_the_final_label(affectnet):
    contempt = "contempt is not among the emotions"
    folder, table = (labels(list_affectnet(affectnet, choice)) for choice in ("folder", "csv"))
    assert {name for name, about in folder.items() if about == contempt} == {
        "contempt/image0000000.jpg", "contempt/image0000001.jpg"}  # fmt: skip
    assert {name for name, about in table.items() if about == contempt} == {
        "contempt/image0000000.jpg", "disgust/image0000001.jpg"}  # fmt: skip
    assert folder["disgust/image0000001.jpg"] == "disgust" and table["contempt/image0000001.jpg"] == "angry"


def test_affectnet_is_found_one_folder_deeper(affectnet, tmp_path):
    (tmp_path / "download").mkdir()
    affectnet.rename(tmp_path / "download" / "archive")
    assert sum(isinstance(item, Entry) for item in list_affectnet(tmp_path / "download")) == 7


def test_affectnet_in_folders_of_splits_keeps_them_in_any_spelling_and_reads_every_folder(tmp_path):
    words = ("Anger", "contempt", "DISGUST", "fearful", "joy", "Neutral", "sadness", "surprised")
    for number, split in enumerate(("Train", "Test")):
        for code, word in enumerate(words):
            (tmp_path / "archive" / split / word).mkdir(parents=True)
            (tmp_path / "archive" / split / word / "a.png").write_bytes(picture(8 * number + code))
    with pytest.raises(InputError, match="set affectnet_labels = 'folder'"):
        list(list_affectnet(tmp_path))
    found = [item for item in list_affectnet(tmp_path, "folder") if isinstance(item, Entry)]
    assert sorted(item.split for item in found) == ["test"] * 7 + ["train"] * 7
    assert {item.path.parent.name for item in found if item.labels["emotion"] == EMOTIONS.index("happy")} == {"joy"}
    left = [item for item in list_affectnet(tmp_path, "folder") if not isinstance(item, Entry)]
    assert [(path.parent.name, reason) for path, reason in left] == [
        ("contempt", "contempt is not among the emotions")
    ] * 2


def test_affectnet_s_rows_and_files_without_each_other_are_named(affectnet):
    with open(affectnet / "labels.csv", "a") as file:
        file.write("90,fear/image0000009.jpg,fear,0.5\n91,sad/image0000000.jpg,happy,0.5\n")
        file.write("92,fear/image0000008.jpg,boredom,0.5\n")
    for name in ("sad/image0000007.jpg", "fear/image0000008.jpg", "other.jpg"):
        (affectnet / name).write_bytes(picture(7))
    (affectnet / "boredom").mkdir()
    (affectnet / "boredom" / "x.jpg").write_bytes(picture(8))
    found = labels(list_affectnet(affectnet))
    assert found["fear/image0000009.jpg"] == "in labels.csv, but there is no such file"
    assert found["sad/image0000007.jpg"] == "no row in labels.csv"
    assert found["sad/image0000000.jpg"] == "rows in labels.csv contradict each other"
    assert found["fear/image0000008.jpg"] == "label 'boredom' in labels.csv is not an emotion"
    assert found["affectnet/other.jpg"] == found["boredom/x.jpg"] == "not in a class's folder"


def test_affectnet_without_its_csv_names_the_field_that_helps(affectnet):
    (affectnet / "labels.csv").unlink()
    with pytest.raises(InputError, match="set affectnet_labels = 'folder'"):
        list(list_affectnet(affectnet))
    assert len(labels(list_affectnet(affectnet, "folder"))) == 16
    with pytest.raises(InputError, match="'affectnet_labels' is 'both', but it takes one of: agree, folder, csv"):
        PackConfig(affectnet_labels="both")


def test_another_choice_of_labels_packs_the_store_again(affectnet, tmp_path):
    agree = pack({"affectnet": affectnet}, tmp_path / "faces")
    assert agree.manifest["knobs"]["affectnet_labels"] == "agree" and len(agree) == 7
    assert agree.manifest["audit"]["affectnet"]["rejected"]["labels.csv and the folder disagree"] == 8
    assert len(pack({"affectnet": affectnet}, tmp_path / "faces", PackConfig(affectnet_labels="csv"))) == 14
    assert len(pack({"affectnet": affectnet}, tmp_path / "faces")) == 14, "packing again keeps what was chosen"


def own(tmp_path: Path, rows: list[tuple]) -> Path:
    """A CSV of own faces beside four pictures."""
    for number in range(4):
        (tmp_path / "mine" / f"{number}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / f"{number}.png").write_bytes(picture(200 + number))
    return write_csv(tmp_path / "mine" / "faces.csv", rows)


def test_own_faces_come_with_any_of_the_labels(tmp_path):
    rows = [
        ("0.png", "Happiness", "31", "F"),
        ("1.png", "", "4.5", ""),
        ("2.png", "angry", "", "male"),
        ("3.png", "", "", "woman"),
    ]
    table = own(tmp_path, [("file", "emotion", "age", "gender"), *rows])
    found = read_source("mine", table, PackConfig()).table.to_pandas()
    assert found["emotion"].tolist() == [EMOTIONS.index("happy"), -1, EMOTIONS.index("angry"), -1]
    assert found["gender"].tolist() == [1, -1, 0, 1]
    for column in ("age_low", "age_high"):
        assert found[column].tolist()[:2] == [31.0, 4.5], "a year is an interval of one age"
        assert found[column].isna().tolist() == [False, False, True, True]
    assert found["name"].tolist() == ["0.png", "1.png", "2.png", "3.png"] and found["split"].isna().all()


@pytest.mark.parametrize("column", ["emotion", "age", "gender"])
def test_own_faces_may_have_one_column_of_labels_alone(tmp_path, column):
    value, label = {"emotion": ("fear", 2), "age": ("20", (20.0, 20.0)), "gender": ("female", 1)}[column]
    (first, *_) = list_own(own(tmp_path, [("file", column, "note"), ("0.png", value, "x")]))
    assert isinstance(first, Entry)
    assert first.labels == {column: label}


def test_every_row_and_file_that_cannot_be_used_is_named_with_its_reason(tmp_path):
    rows = {
        "0.png": ("hapy", "", "", "emotion is 'hapy'; did you mean 'happy'?"),
        "./1.png": ("bored", "", "", "emotion is 'bored', which is not one of"),
        "2.png": ("", "140", "", "age is not 0 to 116"),
        "x/../3.png": ("", "-1", "", "age is given as not known"),
        "../secret.png": ("", "3", "", "lies outside the folder of the CSV file"),
        "/etc/passwd.png": ("", "3", "", "lies outside the folder of the CSV file"),
        "gone.png": ("", "3", "", "in the CSV file, but there is no such file"),
        "notes.txt": ("", "3", "", not_an_image(Path("notes.txt"))[1]),
        "": ("", "3", "", "no file is named in the row"),
    }
    table = own(tmp_path, [("file", "emotion", "age", "gender"), *((name, *rest[:3]) for name, rest in rows.items())])
    (tmp_path / "mine" / "extra.png").write_bytes(picture(250))
    reasons = [reason for _, reason in list_own(table)]
    for (*_, words), reason in zip(rows.values(), reasons, strict=False):
        assert words in reason
    assert reasons[len(rows) :] == ["no row in faces.csv"]
    for cells, words in ((("old", ""), "age is 'old', which is not a number"), (("nan", ""), "age is given as not"),
                         (("", "x"), "gender is 'x'"), (("", ""), "the row has no label")):  # fmt: skip
        ((_, reason), *_) = list_own(own(tmp_path, [("file", "age", "gender"), ("0.png", *cells)]))
        assert words in reason


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (("path", "emotion"), "lacks the column file"),
        (("file", "note"), "has no labels"),
        (("file", "emotions", "age"), "has a column 'emotions'; did you mean 'emotion'?"),
        (("file", "sex", "age"), "has a column 'sex'; did you mean 'gender'?"),
        (("file", "age", "Age"), "has more than one column age"),
    ],
)
def test_a_csv_of_own_faces_with_wrong_columns_is_told_in_one_sentence(tmp_path, header, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")) as caught:
        list(list_own(own(tmp_path, [header, *[("0.png", "1", "2")[: len(header)]]])))
    assert "\n" not in str(caught.value)


def test_own_faces_are_packed_beside_a_dataset_and_again_when_a_label_changes(tmp_path, rafdb):
    table = own(tmp_path, [("file", "emotion"), *((f"{n}.png", "sad") for n in range(4))])
    folders, problems = fetch_all("sample", [], tmp_path / "work", own=str(table), drawn=60)
    assert folders == {"own": table} and not problems
    (tmp_path / "paths.json").write_text(f'{{"rafdb": "rafdb", "kdef": "{table}"}}')
    folders = load_paths(tmp_path / "paths.json")
    store = pack(folders, tmp_path / "faces")
    assert store.faces.groupby("dataset").size().to_dict() == {"kdef": 4, "rafdb": 14}
    before = fingerprint("kdef", table, list_all("kdef", table, PackConfig()))
    table.write_text(table.read_text().replace("sad", "happy", 1))
    assert fingerprint("kdef", table, list_all("kdef", table, PackConfig())) != before


def test_columns_and_files_may_be_written_as_other_programs_write_them(tmp_path):
    table = own(tmp_path, [("File", "EMOTION", "Gender"), (".\\0.png", "Happy", "F"), ("1.png", "sad", "MALE")])
    found = read_source("mine", table, PackConfig()).table.to_pandas()
    assert found["gender"].tolist() == [1, 0] and found["name"].tolist() == ["0.png", "1.png"]


def test_a_bad_cell_costs_its_label_alone_and_is_counted_by_its_reason(tmp_path):
    rows = [
        ("0.png", "bored", "20-29", "Male"),
        ("1.png", "contempt", "NaN", "female"),
        ("2.png", "unknown", "more than 70", "N/A"),
        ("3.png", "None", "-1", "x"),
    ]
    table = own(tmp_path, [("file", "emotion", "age", "gender"), *rows])
    read = read_source("mine", table, PackConfig())
    found = read.table.to_pandas()
    assert found["gender"].tolist() == [0, 1, -1] and found["emotion"].tolist() == [-1, -1, -1]
    assert np.array_equal(found[["age_low", "age_high"]], [(20, 29), (np.nan, np.nan), (70, 116)], equal_nan=True)
    among, unknown = ", ".join(EMOTIONS), "is given as not known"
    gender = "gender is 'x', which is not one of male, female"
    assert read.rejects == [("3.png", f"emotion {unknown}; age {unknown}; {gender}")]
    left = read.left_out()
    words = {f"emotion is {word!r}, which is not one of {among}": 1 for word in ("bored", "contempt")}
    assert left["unknown"] == words | {f"{name} {unknown}": 1 for name in ("age", "emotion", "gender")}
    assert ("1.png", "age is given as not known") in left["unknown_labels"]
    shown = rejects_table({"mine": left})
    assert (
        shown[shown["left out"] == "label"]["count"].sum() == 5
        and shown[shown["left out"] == "file"]["count"].sum() == 1
    )
    store = pack({"mine": table}, tmp_path / "faces")
    assert audit_table(store.manifest["audit"]).loc["labels not known, by reason below", "mine"] == 5


CELLS = {
    "emotion": ["", "happy", "Fear", "contempt", "3", "nan", "?", "-1", "x" * 200],
    "age": ["", "31", "20-29", "(25, 32)", "70+", "<5", "-1", "0", "999", "30-20", "NaN", "old", "9" * 400],
    "gender": ["", "M", "female", "None", "other", "7"],
    "subject": ["", "p1", "p2", "unknown"],
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*map(st.sampled_from, CELLS.values())), min_size=1, max_size=4))
def test_whatever_the_cells_each_row_keeps_the_labels_that_are_whole(tmp_path_factory, cells):
    table = own(
        tmp_path_factory.mktemp("cells"), [("file", *CELLS), *((f"{n}.png", *row) for n, row in enumerate(cells))]
    )
    items = [item for item in list_own(table) if isinstance(item, Entry) or item[1] != "no row in faces.csv"]
    assert len(items) == len(cells)
    for row, item in zip(cells, items, strict=True):
        good = {name for name, text in zip(CELLS, row, strict=True) if name != "subject" and text
                and text in {"happy", "Fear", "31", "20-29", "(25, 32)", "70+", "<5", "0", "M", "female"}}  # fmt: skip
        given_labels = sum(bool(text) for text in row[:3])
        if isinstance(item, Entry):
            assert item.labels.keys() == good and len(item.unknown) == given_labels - len(good)
            assert item.subject == (row[3] if row[3] in ("p1", "p2") else None)
        else:
            assert not good and (item[1] == "the row has no label") == (given_labels == 0)


@pytest.mark.parametrize("cells", [("0", "1"), ("0.0", "1.0"), ("", "1"), ("male", "0"), ("1", "2"), ("nan", "1.0")])
def test_numbers_for_a_gender_are_asked_for_and_not_guessed(tmp_path, cells):
    table = own(tmp_path, [("file", "gender", "age"), *((f"{n}.png", cell, "30") for n, cell in enumerate(cells))])
    with pytest.raises(
        InputError, match=r"in the column 'gender', and 0 is male in UTKFace, female in IMDB-WIKI; .*'gender_codes'"
    ):
        read_source("mine", table, PackConfig())


@pytest.mark.parametrize(
    ("codes", "genders"),
    [("0=male 1=female", [0, 1, 1, -1]), ("0=female 1=male", [1, 0, 1, -1]), ("1=male 2=female", [-1, 0, 1, 1])],
)
def test_a_field_states_what_numbers_for_a_gender_mean(tmp_path, codes, genders):
    cells = ("0", "1.0", "female", "2")
    table = own(tmp_path, [("file", "gender", "age"), *((f"{n}.png", cell, "30") for n, cell in enumerate(cells))])
    read = read_source("mine", table, PackConfig(gender_codes=codes))
    assert read.table["gender"].to_pylist() == genders and len(read.unknown) == genders.count(-1)


@pytest.mark.parametrize(
    ("column", "genders"),
    [("male", [0, 1, 0, 1]), ("is_male", [0, 1, 0, 1]), ("Female", [1, 0, 1, 0]), ("is_female", [1, 0, 1, 0])],
)
def test_a_column_that_says_yes_or_no_to_a_gender_is_one(tmp_path, column, genders):
    cells = ("1", "0.0", "True", "no")
    table = own(tmp_path, [("file", column), *((f"{n}.png", cell) for n, cell in enumerate(cells))])
    assert read_source("mine", table, PackConfig()).table["gender"].to_pylist() == genders
    table = own(tmp_path, [("file", column), ("0.png", "1"), ("1.png", "-1")])
    with pytest.raises(InputError, match=r"-1 in the column .*, which is no in CelebA and not known elsewhere"):
        list(list_own(table))


@pytest.mark.parametrize(
    ("column", "meant"),
    [("sex", "gender"), ("age_group", "age"), ("AgeGroup", "age"), ("apparent_age", "age"), ("fold", "split"),
     ("subset", "split"), ("partition", "split"), ("data_split", "split"), ("is_test", "split"), ("set", "split"),
     ("gender_label", "gender"), ("emotions", "emotion"), ("FacialExpression", "emotion"), ("label", "emotion"),
     ("person_id", "subject"), ("identity", "subject"), ("ethnicity", "race"), ("gendr", "gender")],
)  # fmt: skip
def test_a_column_that_looks_like_one_of_ours_is_refused_by_name_whatever_stands_beside_it(tmp_path, column, meant):
    for other in ("emotion", "age", "gender"):
        table = own(tmp_path, [("file", other, column), ("0.png", "", "x")])
        with pytest.raises(
            InputError, match=rf"has a column '{column.lower()}'; did you mean '{meant}'\? Rename it, or take"
        ):
            list(list_own(table))


def test_columns_that_look_like_none_of_ours_are_left_alone_and_two_that_say_the_same_are_refused(tmp_path):
    others = ("note", "image_id", "service_test", "page_number", "dob", "face_score", "stage", "language", "source")
    items = list(list_own(own(tmp_path, [("file", "age", *others), ("0.png", "30", *["x"] * len(others))])))
    assert items[0].labels == {"age": (30, 30)}
    for pair in (("gender", "is_male"), ("split", "usage"), ("male", "female")):
        with pytest.raises(InputError, match="which mean the same; keep one"):
            list(list_own(own(tmp_path, [("file", "age", *pair), ("0.png", "30", "x", "x")])))


def test_published_splits_of_own_faces_are_kept_and_a_wrong_one_costs_its_row(tmp_path):
    for column in ("split", "Usage"):
        cells = ("Training", "validation", "PrivateTest", "fold 3")
        table = own(tmp_path, [("file", "age", column), *((f"{n}.png", "30", cell) for n, cell in enumerate(cells))])
        read = read_source("mine", table, PackConfig())
        assert read.table["split"].to_pylist() == ["train", "validation", "test"]
        assert read.table["part"].to_pylist() == [None, None, "PrivateTest"]
        assert read.rejects == [("3.png", "split is 'fold 3', which is not train, validation or test")]


def test_the_columns_of_fairface_are_all_read(tmp_path):
    cells = [("50-59", "Male", "East Asian"), ("more than 70", "Female", "Latino_Hispanic"),
             ("0-2", "Female", "Middle Eastern"), ("3-9", "Male", "Black")]  # fmt: skip
    rows = [(f"{number}.png", *row, "True") for number, row in enumerate(cells)]
    read = read_source("mine", own(tmp_path, [("file", "age", "gender", "race", "service_test"), *rows]), PackConfig())
    assert read.table["race"].to_pylist() == [RACES.index(name) for name in ("Asian", "Other", "Other", "Black")]
    assert read.table["age_high"].to_pylist() == [59, 116, 2, 9] and not read.unknown


def persons_table(tmp_path: Path, count: int) -> Path:
    """A CSV of ``count`` faces of ten to a person, all different."""
    rows = [("file", "age", "subject")]
    (tmp_path / "people").mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "people" / f"{number}.png")
        rows.append((f"{number}.png", "30", f"p{number // 10}" if number < count - 10 else ""))
    return write_csv(tmp_path / "people" / "faces.csv", rows)


def test_a_person_stays_within_one_split_and_packing_says_how_many_persons_each_split_holds(tmp_path):
    store = pack({"mine": persons_table(tmp_path, 310)}, tmp_path / "faces")
    found = store.faces
    assert (found.groupby("subject")["split"].nunique() == 1).all() and found["split"].nunique() == 3
    assert found["split"][found["subject"].isna()].nunique() > 1, "a face of nobody follows its own pixels"
    persons = store.manifest["audit"]["mine"]["persons"]
    assert persons == found.groupby("split")["subject"].nunique().to_dict() and sum(persons.values()) == 30
    table = audit_table(store.manifest["audit"])
    assert [table.loc[f"{split} persons", "mine"] for split in persons] == list(persons.values())
    other = pack({"other": tmp_path / "people" / "faces.csv"}, tmp_path / "other").faces
    moved = other.groupby("subject")["split"].first() != found.groupby("subject")["split"].first()
    assert moved.any(), "the same word in another table is another person"


def test_a_person_in_two_published_splits_is_told_by_name(tmp_path):
    rows = [("0.png", "30", "p1", "train"), ("1.png", "30", "p1", "test"), ("2.png", "30", "unknown", "train")]
    table = own(tmp_path, [("file", "age", "subject", "split"), *rows, ("3.png", "3", "unknown", "test")])
    with pytest.raises(InputError, match="has the subject 'p1' in more than one split; correct the column 'split'"):
        list(list_own(table))
    table.write_text(table.read_text().replace("p1", "n/a"))
    assert sum(isinstance(item, Entry) for item in list_own(table)) == 4


def test_a_row_with_a_surplus_cell_is_not_read_with_its_labels_shifted(tmp_path):
    table = own(tmp_path, [("file", "emotion", "age", "gender"), ("0.png", "happy", "25", "1", "male"),
                           ("1.png", "happy", "25", "male")])  # fmt: skip
    first, second, *_ = list_own(table)
    assert first[1] == "more cells than columns in the row" and second.labels["gender"] == 0


def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_behind_it(tmp_path):
    table = own(tmp_path, [])
    table.write_text('file,emotion\n"0.png,happy\n1.png,sad\n')
    with pytest.raises(InputError, match="cannot be read as CSV"):
        list(list_own(table))
    table.write_text("file,emotion\n")
    with pytest.raises(InputError, match="has no rows below its header"):
        list(list_own(table))


def test_own_faces_are_found_from_a_path_with_dots_in_it(tmp_path, monkeypatch):
    table = own(tmp_path, [("file", "age"), ("0.png", "30")])
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "paths.json").write_text('{"mine": "../mine/faces.csv"}')
    found = load_paths(tmp_path / "below" / "paths.json")
    assert found == {"mine": table} and read_source("mine", found["mine"], PackConfig()).table.num_rows == 1
    monkeypatch.chdir(tmp_path / "below")
    assert isinstance(next(list_own(Path("../mine/faces.csv"))), Entry)
    folders, _ = fetch_all("sample", [], tmp_path / "work", own=" ../mine/faces.csv ", drawn=60)
    assert folders == {"own": table}


@pytest.mark.parametrize("place", ["mine", "faces.txt", "~no such user/faces.csv", "none.csv"])
def test_own_faces_that_are_not_a_csv_file_are_told_in_one_sentence(tmp_path, place):
    with pytest.raises(InputError, match=r"a \.csv file was expected|there is no such home folder|none\.csv, does not"):
        fetch_all("sample", [], tmp_path, own=place, drawn=60)


def test_a_name_that_no_file_can_have_costs_only_its_row(tmp_path, rafdb, affectnet):
    names = ("x" * 300 + ".png", "/data/i.png", "a\0b.png")
    table = own(tmp_path, [("file", "age"), ("0.png", "30"), *((name, "3") for name in names)])
    for path, row in ((rafdb / "train_labels.csv", "{},1\n"), (affectnet / "labels.csv", "90,{},happy,0.5\n")):
        with open(path, "a") as file:
            file.writelines(row.format(name) for name in names)
    folders = {"mine": table, "rafdb": rafdb, "affectnet": affectnet}
    counts = {}
    for name, place in folders.items():
        listed = list_all(name, place, PackConfig())
        fingerprint(name, place, listed)
        counts[name] = read_source(name, place, PackConfig(), listed=listed).table.num_rows
    assert counts == {"mine": 1, "rafdb": 14, "affectnet": 7}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"rafdb": "faces.csv"}', "There is no dataset 'rafdb' in a CSV file"),
        ('{"My Faces": "faces.csv"}', "There is no dataset 'My Faces' in a CSV file"),
        ('{"kdef": "none.csv"}', "none.csv, does not exist; correct the path"),
        ('{"kdef": "folder"}', "There is no dataset 'kdef'; choose from: fer2013"),
    ],
)
def test_a_wrong_name_or_place_of_own_faces_is_told_in_one_sentence(tmp_path, content, words):
    (tmp_path / "paths.json").write_text(content)
    with pytest.raises(InputError, match=words):
        load_paths(tmp_path / "paths.json")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120) | st.binary(min_size=300, max_size=400))
def test_any_bytes_as_a_csv_of_own_faces_are_items_or_one_sentence(tmp_path_factory, content):
    table = tmp_path_factory.mktemp("any") / "faces.csv"
    for text in (content, b"file,emotion,age,gender\n" + content):
        table.write_bytes(text)
        try:
            items = list(list_own(table))
        except InputError as error:
            assert "faces.csv" in str(error)
        else:
            assert all(isinstance(item, Entry) or item[1] for item in items)


@pytest.mark.parametrize(("word", "emotion"), [("Happiness", "happy"), (" ANGER ", "angry"), ("fearful", "fear"),
                                               ("surprised", "surprise"), ("contempt", None), ("", None)])  # fmt: skip
def test_emotions_are_known_in_the_usual_spellings_and_no_others(word, emotion):
    code = EMOTION.code(word)
    assert (None if code is None else EMOTIONS[code]) == emotion
    assert [GENDER.code(text) for text in ("M", "woman", "0", "1", "other")] == [0, 1, None, None, None]
