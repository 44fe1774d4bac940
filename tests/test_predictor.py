"""The predictor answers as the graph does, for pictures as they come, and says in one sentence what it cannot read."""

import dataclasses
import errno
import io
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import CLASSES, tiny_detector, tiny_model
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn_faces.group import draw_group
from helpers.export import predictor as module
from helpers.export.graph import unsure_below
from helpers.export.page import SHIPPED_CAMERA_MODEL
from helpers.export.predictor import (
    SHIPPED_MODEL,
    UNSURE,
    Answer,
    Face,
    Predictor,
    PredictorError,
    draw,
    open_detector,
    read_picture,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "model.onnx", calibration={"age": 1.0})


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    return tiny_detector(tmp_path_factory.mktemp("detector") / "detector.onnx")


def colours(seed: int, height: int = 40, width: int = 30) -> np.ndarray:
    """A picture of one colour with some noise, so that each has an answer of its own."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.integers(0, 256, 3) + rng.integers(-9, 10, (height, width, 3)), 0, 255).astype(np.uint8)


def close(one: Answer, other: Answer) -> bool:
    """The same answer, but for what another batch rounds."""
    pairs = list(zip(one.faces, other.faces, strict=True))
    numbers = [
        (value, b.emotion_probabilities[key]) for a, b in pairs for key, value in a.emotion_probabilities.items()
    ]
    return (one.error, one.whole_picture) == (other.error, other.whole_picture) and all(
        abs(a - b) < 1e-5 for a, b in [*numbers, *((a.age / 100, b.age / 100) for a, b in pairs)]
    )


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def test_answers_are_the_graph_s_own_on_the_same_crops(model):
    boxes = [[3, 2, 23, 30], [0, 0, 10, 10], [5, 5, 25, 33], [10, 0, 20, 10]]
    picture = colours(0)
    faces = Predictor(model, lambda found: boxes).predict(picture)[0].faces
    session = onnxruntime.InferenceSession(str(model))
    assert [list(face.box) for face in faces] == boxes
    for face, (x0, y0, x1, y1) in zip(faces, boxes, strict=True):
        wanted = session.run(["emotion", "gender", "age", "age_range"], {"faces": picture[None, y0:y1, x0:x1]})
        assert list(face.emotion_probabilities) == list(CLASSES["emotion"]), "names come from the metadata"
        np.testing.assert_allclose(list(face.emotion_probabilities.values()), wanted[0][0], atol=1e-6)
        np.testing.assert_allclose(list(face.gender_probabilities.values()), wanted[1][0], atol=1e-6)
        np.testing.assert_allclose([face.age, *face.age_range], [wanted[2][0], *wanted[3][0]], rtol=1e-6)
        assert face.emotion == CLASSES["emotion"][wanted[0][0].argmax()]


def test_faces_of_one_size_go_through_the_network_together(model, monkeypatch):
    reader, sizes = Predictor(model), []
    run = reader._session.run
    monkeypatch.setattr(
        reader,
        "_session",
        type("", (), {"run": lambda self, names, feed: sizes.append(feed["faces"].shape) or run(names, feed)})(),
    )
    pictures = [colours(seed, *((20, 20), (30, 20))[seed % 2]) for seed in range(10)]
    answers = reader.predict(pictures)
    assert sorted(sizes) == [(5, 20, 20, 3), (5, 30, 20, 3)]
    assert all(
        close(answer, Predictor(model).predict(picture)[0]) for answer, picture in zip(answers, pictures, strict=True)
    )


def test_a_folder_is_read_without_holding_its_pictures(model, monkeypatch):
    monkeypatch.setattr(module, "_PIXELS", 5000)
    seen = []

    def pictures():
        for seed in range(20):
            seen.append(seed)
            yield colours(seed)

    stream = Predictor(model).stream(pictures())
    assert next(stream).source == "Picture 1" and len(seen) == 5, "5 pictures of 1,200 pixels pass the limit"


def test_paths_images_arrays_bytes_and_folders_give_the_same_answer(model, tmp_path):
    picture = colours(1)
    folder = tmp_path / "some" / "deeper"
    folder.mkdir(parents=True)
    Image.fromarray(picture).save(folder / "a.png")
    (folder / "notes.txt").write_text("no picture")
    items = [
        folder / "a.png",
        str(folder / "a.png"),
        tmp_path,
        Image.fromarray(picture),
        picture,
        encoded(Image.fromarray(picture)),
    ]
    answers = Predictor(model).predict(items)
    assert [answer.error for answer in answers] == [None] * 6 and len({str(answer.faces) for answer in answers}) == 1
    assert answers[2].source == str(folder / "a.png") and answers[4].source == "Picture 5"
    assert Predictor(model).predict(picture)[0].faces == answers[0].faces, "one picture needs no list"


def test_without_a_detector_the_whole_picture_is_the_face_and_the_answer_says_so(model):
    (answer,) = Predictor(model).predict(colours(2))
    assert answer.whole_picture and answer.faces[0].box is None and "the whole picture" in str(answer)


@pytest.mark.parametrize("nothing", [None, [], np.zeros((0, 4))])
def test_a_picture_without_a_face_has_none_and_says_so(model, nothing):
    (answer,) = Predictor(model, lambda picture: nothing).predict(colours(3))
    assert answer.faces == () and answer.error is None and str(answer) == "Picture 1: no face was found."


def test_the_detector_of_a_file_is_asked_with_the_upright_picture(model, detector):
    picture = colours(4, 40, 60)
    (answer,) = Predictor(model, detector).predict(picture)
    assert [face.box for face in answer.faces] == [(0, 0, 30, 20)] and not answer.whole_picture
    assert open_detector(detector)(picture).tolist() == [[0, 0, 30, 20]]


@pytest.mark.parametrize(
    ("boxes", "said"),
    [([[0, 0, 5]], "(1, 3)"), ([[0, 0, np.nan, 5]], "finite"), ([[9, 0, 5, 5]], "no pixel"), ("no", "searched"),
     ([[100, 100, 120, 120]], "no pixel")],
)  # fmt: skip
def test_a_detector_that_gives_no_boxes_costs_one_sentence(model, boxes, said):
    (answer,) = Predictor(model, lambda picture: boxes).predict(colours(5))
    assert said in answer.error and answer.error.startswith("Picture 1") and not answer.faces


def test_what_is_too_small_to_be_read_as_a_face_costs_a_sentence(model):
    # Incident: a picture of one pixel was read as a face of 63 years.
    for wide, high in ((1, 1), (7, 300), (300, 7)):
        (answer,) = Predictor(model).predict(colours(5, high, wide))
        assert f"Picture 1 has {wide} x {high} pixels for a face, but 8 x 8 are" in answer.error and not answer.faces
    assert not Predictor(model).predict(colours(5, 8, 8))[0].error
    (answer,) = Predictor(model, lambda picture: [[0, 0, 7, 7], [0, 0, 8, 8]]).predict(colours(5))
    assert [face.box for face in answer.faces] == [(0, 0, 8, 8)] and "has 7 x 7 pixels" in answer.error


def test_boxes_that_reach_over_the_edge_are_cut_there(model):
    (answer,) = Predictor(model, lambda picture: [[-5.2, -1, 500, 12.6]]).predict(colours(6))
    assert answer.faces[0].box == (0, 0, 30, 13)


def test_pictures_are_turned_as_their_exif_says(model, tmp_path):
    upright = colours(7, 20, 40)
    upright[:, :10] = 255
    for orientation, turned in ((6, np.rot90(upright)), (3, np.rot90(upright, 2)), (8, np.rot90(upright, 3))):
        image = Image.fromarray(np.ascontiguousarray(turned))
        exif = image.getexif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        image.save(path, exif=exif)
        np.testing.assert_array_equal(read_picture(path), upright)


def test_what_is_transparent_lies_on_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2] = (200, 0, 0, 255)
    for item in (clear, Image.fromarray(clear), encoded(Image.fromarray(clear))):
        picture = read_picture(item)
        assert picture.shape == (4, 4, 3) and (picture[2:] == 255).all() and (picture[:2] == (200, 0, 0)).all()


def test_grey_of_8_and_16_bits_and_floats_are_the_same_picture():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    wide = grey.astype(np.uint16) * 257
    items = [
        grey,
        grey[..., None],
        wide,
        wide.astype(">u2"),
        grey / 255,
        (grey / 255).astype(np.float32),
        grey.astype(int),
    ]
    items += [
        Image.fromarray(grey),
        Image.fromarray(wide),
        encoded(Image.fromarray(wide)),
        encoded(Image.fromarray(grey)),
    ]
    for item in items:
        np.testing.assert_array_equal(read_picture(item), np.repeat(grey[..., None], 3, axis=2))


def bad_items() -> dict:
    whole = encoded(Image.fromarray(colours(8)), "JPEG")
    return {
        "a text": b"no picture", "nothing": b"", "half of a JPEG": whole[: len(whole) // 2], "None": None,
        "a number": 7,
        "too many axes": np.zeros((2, 4, 4, 3), np.uint8), "two channels": np.zeros((4, 4, 2), np.uint8),
        "no pixel": np.zeros((0, 4, 3), np.uint8), "text": np.array([["a", "b"]]), "complex": np.ones((4, 4), complex),
        "NaN": np.full((4, 4), np.nan), "floats to 255": np.full((4, 4), 200.0), "negative": np.full((4, 4), -1),
        "a missing file": "no such file.png", "a NUL in its name": "a\0b.png", "an object": np.array([[None]]),
    }  # fmt: skip


@pytest.mark.parametrize("name", bad_items())
def test_one_bad_item_never_costs_the_batch(model, name):
    answers = Predictor(model).predict([colours(9), bad_items()[name], colours(10)])
    assert not answers[0].error and not answers[2].error and answers[0].faces and answers[2].faces
    sentence = answers[1].error
    assert not answers[1].faces and sentence.endswith(".") and "\n" not in sentence and sentence == str(answers[1])
    assert sentence.startswith(answers[1].source)


def test_an_enormous_picture_is_refused_before_it_is_decoded(model, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_a_telephone, enormous = (
            Predictor(model).predict(encoded(Image.new("RGB", (side, side))))[0] for side in (40, 60)
        )
    assert of_a_telephone.faces and not of_a_telephone.error, "Pillow warns of it alone"
    assert "exceeds limit of" in enormous.error and "smaller" in enormous.error


def test_an_empty_folder_says_so(model, tmp_path):
    (answer,) = Predictor(model).predict(tmp_path)
    assert "is a folder without pictures" in answer.error


def test_of_a_folder_nothing_is_left_out_that_a_user_means_and_nothing_taken_that_is_none(model, tmp_path):
    for name in ("._shadow.jpg", "clip.mpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    Image.fromarray(colours(3)).save(tmp_path / "good.png")
    found = {Path(answer.source).name: answer.error for answer in Predictor(model).predict(tmp_path)}
    assert set(found) == {"IMG_1.HEIC", "good.png"} and not found["good.png"]
    assert "cannot be read as a picture" in found["IMG_1.HEIC"]


def test_of_folders_in_a_folder_those_that_are_not_read_are_told_of(model, tmp_path, monkeypatch):
    # A link, which may lead round in a circle, and a folder of somebody else's.
    for place in ("mine/inside", "theirs", ".hidden"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(colours(3)).save(tmp_path / place / "a.png")
    (tmp_path / "mine" / "linked").symlink_to(tmp_path)
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "theirs":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = {Path(answer.source).name: answer for answer in Predictor(model).predict(tmp_path)}
    assert set(found) == {"a.png", "linked", "theirs"} and found["a.png"].faces and not found["linked"].faces
    assert found["a.png"].source == str(tmp_path / "mine" / "inside" / "a.png")
    assert "is a link to a folder, which is not followed" in found["linked"].error
    assert "without pictures that can be read" in found["theirs"].error


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.uint32])
def test_eight_bits_that_were_saved_as_more_are_read_as_eight(kind, tmp_path):
    grey = colours(5)[..., 0]
    wanted = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(read_picture(grey.astype(kind)), wanted)
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "grey.tiff")
    assert np.array_equal(read_picture(tmp_path / "grey.tiff"), wanted)


MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I",
    "F",
    "LA",
    "PA",
    "RGBX",
    "RGBa",
    "La",
    "I;16",
)
DTYPES = (
    "uint8",
    "int8",
    "uint16",
    "int32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "bool",
    "complex64",
    "O",
    "U3",
)


@st.composite
def odd_pictures(draw_):
    sizes = st.one_of(st.integers(1, 40), st.sampled_from((1, 2, 3000)))
    height, width = draw_(sizes), draw_(sizes)
    if height * width > 200_000:
        width = 7
    kind = draw_(st.sampled_from(("image", "array", "file")))
    if kind == "array":
        shape = draw_(
            st.sampled_from(
                [(height, width), *((height, width, n) for n in range(6)), (height,), (), (1, height, width, 3)]
            )
        )
        fill = draw_(st.sampled_from((0, 1, 0.5, 255, 256, 65535, -1, np.nan, np.inf)))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.full(shape, fill).astype(draw_(st.sampled_from(DTYPES)))
    image = Image.new(draw_(st.sampled_from(MODES)), (width, height))
    if kind == "image":
        return image
    try:
        content = encoded(image, draw_(st.sampled_from(("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"))))
    except (OSError, ValueError, KeyError):  # not every format holds every mode
        return image
    return content[: draw_(st.integers(0, len(content)))] if draw_(st.booleans()) else content


@given(item=odd_pictures())
@example(item=np.zeros((1, 1), np.uint8))
@example(item=np.zeros((1, 3000, 3), np.uint8))
@settings(max_examples=150)
def test_any_picture_ends_in_an_answer_or_one_sentence_and_changes_no_other(model, item):
    reader = Predictor(model, lambda picture: [[0, 0, *picture.shape[1::-1]]])
    before, odd, after = reader.predict([colours(11), item, colours(12, 9, 9)])
    assert close(before, reader.predict(colours(11))[0]) and close(after, reader.predict(colours(12, 9, 9))[0])
    if odd.error:
        assert odd.error.startswith("Picture 2") and "\n" not in odd.error and not odd.faces
    else:
        (face,) = odd.faces
        assert sum(face.emotion_probabilities.values()) == pytest.approx(1, abs=1e-5) and 0 <= face.age <= 100.01
        assert draw(read_picture(item), odd.faces).width >= face.box[2]


def test_a_face_that_the_network_cannot_take_costs_itself_alone(model, monkeypatch):
    reader = Predictor(model)
    run = reader._session.run

    def fails(names, feed):
        if (feed["faces"] == 77).all(axis=(1, 2, 3)).any():
            raise RuntimeError("out of memory\nand more")
        return run(names, feed)

    monkeypatch.setattr(reader, "_session", type("", (), {"run": staticmethod(fails)}))
    answers = reader.predict([colours(13), np.full((40, 30, 3), 77, np.uint8), colours(14)])
    assert [bool(answer.faces) for answer in answers] == [True, False, True]
    assert answers[1].error == "Picture 2 could not be read by the model (out of memory)."


def test_what_is_no_number_is_never_an_answer(model, monkeypatch):
    reader = Predictor(model)
    run = reader._session.run
    monkeypatch.setattr(
        reader, "_session", type("", (), {"run": lambda self, *given: [values * np.nan for values in run(*given)]})()
    )
    (answer,) = reader.predict(colours(15))
    assert not answer.faces and "no number" in answer.error


def test_an_answer_below_the_threshold_is_unsure_and_keeps_its_probabilities(tmp_path, model):
    sure = Predictor(model).predict(colours(16))[0].faces[0]
    best = max(sure.emotion_probabilities.values())
    told = tiny_model(tmp_path / "told.onnx", threshold={"emotion": best + 1e-3, "gender": 0.0})
    assert Predictor(told).thresholds == {"emotion": best + 1e-3, "gender": 0.0}
    unsure = Predictor(told).predict(colours(16))[0].faces[0]
    assert (unsure.emotion, unsure.gender) == (UNSURE, sure.gender)
    assert unsure.emotion_probabilities == sure.emotion_probabilities
    assert f"unsure ({sure.emotion}?)" in str(unsure)
    assert Predictor(told, threshold=0.0).predict(colours(16))[0].faces[0].emotion == sure.emotion
    assert Predictor(model).thresholds == {"emotion": 0.0, "gender": 0.0}, "an older file knows none"


def test_an_age_has_a_range_only_where_it_was_fitted(tmp_path, model):
    assert Predictor(model).predict(colours(17))[0].faces[0].age_range is not None
    face = Predictor(tiny_model(tmp_path / "plain.onnx")).predict(colours(17))[0].faces[0]
    assert face.age_range is None and " to " not in str(face)


def test_a_threshold_is_what_validation_asks_for_80_percent():
    reached = {"80%": {"confidence": 0.4}, "90%": None}
    measured = {"fitted": {}, "emotion": {"thresholds": reached}, "gender": {"thresholds": {"80%": None}}}
    found = unsure_below(measured | {"age": {"factor": 1.0}, "other": {"note": "not measurable"}})
    assert found == {"emotion": 0.4, "gender": 1.0}


def test_a_foreign_or_damaged_or_missing_model_is_one_sentence(tmp_path, model, detector):
    half = tmp_path / "half.onnx"
    half.write_bytes(model.read_bytes()[:-200])
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    bare = onnx.load(model)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    told = {
        half: "damaged", text: "damaged", detector: "another kind of model: it has picture, boxes, scores",
        tmp_path / "none.onnx": "does not exist", tmp_path / "bare.onnx": "this project exported", tmp_path: "damaged",
    }  # fmt: skip
    for path, said in told.items():
        with pytest.raises(PredictorError, match=said) as caught:
            Predictor(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(PredictorError, match="another kind of model"):
        Predictor(model, model)


@pytest.mark.parametrize(
    "about",
    [{"emotion": "glad,still"}, {"threshold": {"emotion": "high"}}, {"threshold": {"gender": 7}}, {"calibration": 3},
     {"threshold": [0.5]}, {"calibration": "}"}],
)  # fmt: skip
def test_a_model_whose_notes_do_not_fit_its_answers_is_refused_as_it_opens(tmp_path, about):
    with pytest.raises(PredictorError, match=r"model.onnx is not a model that this project exported \("):
        Predictor(tiny_model(tmp_path / "model.onnx", **about))


@pytest.mark.parametrize("threshold", ["0.5", {"emotion": 0.5}, 5, -0.1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(model, threshold):
    with pytest.raises(PredictorError, match=r"^The threshold is .*; give a probability from 0 to 1"):
        Predictor(model, threshold=threshold)


@pytest.mark.parametrize("path", [SHIPPED_MODEL, SHIPPED_CAMERA_MODEL])
def test_a_model_that_comes_along_reads_a_face_names_its_terms_and_has_a_card(path):
    shipped = Predictor(path)
    assert "non-commercial" in shipped.about["terms_of_the_data"] and path.stat().st_size < 12e6
    answer = shipped.predict([draw_group(1)])[0]
    assert answer.faces[0].age > 0 and not answer.error
    assert shipped.about["weights"] in path.with_suffix(".md").read_text(), "the card is of these weights"


def luminance(colour) -> float:
    """Relative luminance of a colour (WCAG 2.2)."""
    parts = np.array(colour[:3]) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_white_letters_can_be_read_on_every_colour():
    for colour in (*module._COLOURS, module._GREY):
        rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert 1.05 / (luminance(rgb) + 0.05) >= 4.5, colour
    assert len(set(module._COLOURS)) >= 7


def face_of(box, emotion: str = "glad") -> Face:
    return Face(box, emotion, {"cross": 0.1, "glad": 0.9}, "left", {"left": 1.0, "right": 0.0}, 30.0, (20.0, 40.0))


@pytest.mark.parametrize("side", [1, 24, 640, 3000])
def test_boxes_and_labels_are_drawn_on_small_and_large_pictures(side):
    picture = np.full((side, side, 3), 128, np.uint8)
    box = (0, 0, max(1, side // 2), max(1, side // 2))
    drawn = np.asarray(draw(picture, [face_of(box)]))
    assert max(drawn.shape) >= 640 and drawn.shape[0] >= side
    colour = [int(module._COLOURS[1][at : at + 2], 16) for at in (1, 3, 5)]
    rows = np.flatnonzero((drawn == colour).all(axis=2).any(axis=1))
    assert np.ptp(rows) >= len(drawn) // 2, "the box, and the label below it"
    assert ((drawn == 255).all(axis=2)).sum() > 50, "white letters"
    whole = draw(picture, [face_of(None)])
    assert whole.height > whole.width, "its answer stands below it"


def test_the_file_answers_in_a_fresh_process_that_has_numpy_pillow_and_onnxruntime_alone(model, detector, tmp_path):
    for path, name in ((Path(module.__file__), "predictor.py"), (model, "model.onnx"), (detector, "detector.onnx")):
        shutil.copy(path, tmp_path / name)
    Image.fromarray(colours(18)).save(tmp_path / "a.png")
    code = """
import sys
class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "helpers", "cv2", "onnx", "pandas", "scipy", "matplotlib", "IPython"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from predictor import Predictor
answer = Predictor("model.onnx", "built-in").predict("a.png")[0]
print(answer)
"""
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.')\n{code}"], cwd=tmp_path,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == str(Predictor(model, detector).predict(tmp_path / "a.png")[0]).replace(
        f"{tmp_path}/", ""
    )
    assert "a face at 0, 0" in done.stdout and not done.stderr


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Twelve frames of drawn people, each darker than the last."""
    path, group = tmp_path_factory.mktemp("video") / "people.mp4", draw_group(2)[::2, ::2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, group.shape[1::-1])
    for number in range(12):
        writer.write((group * (1 - number / 20)).astype(np.uint8)[..., ::-1])
    writer.release()
    return path


def test_a_video_has_an_answer_for_each_frame(model, video):
    answers = list(Predictor(model).read_video(video))
    assert [answer.source for answer in answers] == [f"{video}, frame {number}" for number in range(12)]
    ages = [answer.faces[0].age for answer in answers]
    assert np.corrcoef(ages, range(12))[0, 1] < -0.99, "darker frames are younger"


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_a_video_is_written_with_its_boxes(model, detector, video, tmp_path, suffix):
    path = tmp_path / "made" / f"drawn{suffix}"
    assert Predictor(model, detector).write_video(video, path) > 0
    read = cv2.VideoCapture(str(path))
    assert read.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    frames = [frame for more, frame in iter(read.read, (False, None)) if more]
    assert len(frames) == 12 and max(frames[0].shape) >= 640 and os.listdir(path.parent) == [path.name]
    plain = cv2.VideoCapture(str(video)).read()[1]
    assert np.abs(cv2.resize(plain, frames[0].shape[1::-1]).astype(int) - frames[0]).max() > 60


def test_a_video_that_is_left_or_would_be_written_over_itself_leaves_nothing_and_loses_nothing(model, video, tmp_path):
    mine = shutil.copy(video, tmp_path / "mine.webm")
    with pytest.raises(PredictorError, match=r"mine.webm would be written over"):
        Predictor(model).write_video(mine, tmp_path / "x" / ".." / "mine.webm")
    assert Path(mine).read_bytes() == video.read_bytes()
    answers = Predictor(model).read_video(video, tmp_path / "drawn.webm")
    next(answers)
    assert (tmp_path / ".drawn.partial.webm").exists()
    answers.close()  # as an interrupt does
    assert os.listdir(tmp_path) == ["mine.webm"]
    with pytest.raises(PredictorError, match="OpenCV cannot write"):
        Predictor(model).write_video(video, tmp_path / "mine.webm" / "drawn.webm")


def test_what_is_no_video_is_one_sentence(model, tmp_path, monkeypatch):
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "none.mp4"):
        with pytest.raises(PredictorError, match="is missing, or no video"):
            list(Predictor(model).read_video(tmp_path / name))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(PredictorError, match="pip install opencv-python-headless"):
        Predictor(model).write_video(tmp_path / "text.mp4", tmp_path / "x.mp4")


def test_answers_can_be_kept_as_json(model):
    answer = Predictor(model).predict(colours(19))[0]
    told = dataclasses.asdict(answer)
    assert told["faces"][0]["age"] == answer.faces[0].age and set(told) == {"source", "faces", "whole_picture", "error"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.faces[0].age = 3.0


def test_what_is_there_but_no_file_is_not_waited_for(tmp_path):
    # Incident: a pipe that nobody writes into was said not to exist; opened, it would hold everything up.
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name in ("pipe.jpg", "loop.jpg", "none.jpg"):
        with pytest.raises(PredictorError, match=f"{name} is not a file; give another one"):
            read_picture(tmp_path / name, str(tmp_path / name))
