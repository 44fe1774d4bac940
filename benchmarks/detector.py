"""The face detector: recall by size and rotation, false alarms, the threshold, the margin, and milliseconds.

Faces are pasted into scenes (half of them photographs, half drawn fields and noise) as turned squares with soft edges;
a face counts as found where a crop overlaps its square by at least half (intersection over union). The margin's part
asks how well the crops give back the squares' bounds, since the network that reads them was trained on those.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from sklearn.datasets import load_sample_images

from benchmarks.common import finish, opened, parser

Picture = np.ndarray
Crops = tuple[np.ndarray, np.ndarray]
"""Squares (N, 4) in pixels and scores (N,)."""

FILE = Path(__file__).resolve().parent.parent / "models" / "detector.onnx"

SIZES = (0.05, 0.08, 0.12, 0.2, 0.3, 0.45, 0.6)
"""A face's side by the picture's width."""

ANGLES = (0, 10, 20, 30)
"""Degrees, to either side."""

LIGHTS = {
    "as it is": lambda scene: scene,
    "dark (a fifth of the light)": lambda scene: (scene * 0.2).astype(np.uint8),
    "grey": lambda scene: np.repeat(cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY)[..., None], 3, -1),
    "blurred": lambda scene: cv2.GaussianBlur(scene, (0, 0), 3),
}

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def opened_detector(**settings: object) -> onnxruntime.InferenceSession:
    """The detector on one thread, with other values for its initializers ``threshold``, ``margin`` or ``shift``."""
    model = onnx.load(FILE)
    for value in model.graph.initializer:
        if value.name in settings:
            value.CopyFrom(numpy_helper.from_array(np.asarray(settings[value.name], np.float32), value.name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def detect(detector: onnxruntime.InferenceSession, picture: Picture) -> Crops:
    """Crops and scores of a picture."""
    return detector.run(None, {"picture": np.ascontiguousarray(picture)})


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) with others (M, 4): (N, M)."""
    top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    low = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(low - top, 0).prod(-1)
    areas = [(part[:, 2:] - part[:, :2]).prod(-1) for part in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def background(rng: np.random.Generator, height: int, width: int) -> Picture:
    """No face: a piece of a photograph, a smooth field of colours, stripes, or noise."""
    kind = rng.integers(6)
    if kind < 3:
        photo = PHOTOS[rng.integers(len(PHOTOS))]
        side = rng.uniform(0.4, 1) * np.array(photo.shape[:2])
        top, left = (rng.uniform(0, photo.shape[:2] - side)).astype(int)
        piece = photo[top : top + int(side[0]), left : left + int(side[1])]
        return cv2.resize(piece[:, :: rng.choice([-1, 1])], (width, height), interpolation=cv2.INTER_AREA)
    few = rng.integers(0, 256, (*rng.integers(2, 12, 2), 3), dtype=np.uint8)
    if kind == 3:
        return cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC)
    if kind == 4:
        return cv2.resize(few, (width, height), interpolation=cv2.INTER_NEAREST)
    field = cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(field + rng.normal(0, 40, field.shape), 0, 255).astype(np.uint8)


PHOTOS = load_sample_images().images
"""Two photographs without a face that scikit-learn ships."""


def paste(scene: Picture, face: Picture, box: np.ndarray, angle: float) -> None:
    """Lay a face over the square of a scene, turned about its middle, with a soft edge."""
    side = int(box[2] - box[0])
    face = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if side < len(face) else cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle, 1.0)
    turn[:, 2] += box[:2]
    size = scene.shape[1::-1]
    edge = max(1, side // 25)
    mask = cv2.copyMakeBorder(np.ones([side - 2 * edge] * 2, np.float32), edge, edge, edge, edge, cv2.BORDER_CONSTANT)
    mask = cv2.warpAffine(cv2.blur(mask, (edge, edge)), turn, size)[..., None]
    turned = cv2.warpAffine(face, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    scene[:] = (scene * (1 - mask) + turned * mask).astype(np.uint8)


def group(
    rng: np.random.Generator, faces: list[Picture], share: float, angle: float, most: int = 4
) -> tuple[Picture, np.ndarray]:
    """A scene of up to ``most`` faces, and their squares (N, 4)."""
    height, width = ((480, 640), (640, 480), (540, 960))[rng.integers(3)]
    side = min(round(share * width), height - 2)
    scene, boxes = background(rng, height, width), np.empty((0, 4), int)
    for _ in range(most * 3):
        corner = np.array([rng.integers(0, length - side) for length in (width, height)])
        box = np.concatenate([corner, corner + side])
        # Turned squares reach beyond their bounds.
        if len(boxes) < most and not (len(boxes) and overlaps(box[None], boxes).any()):
            paste(scene, faces[rng.integers(len(faces))], box, angle * rng.choice([-1, 1]))
            boxes = np.vstack([boxes, box])
    return scene, boxes


class Tally:
    """Faces shown, the score and the overlap of each found one, and the scores of what was found beside them."""

    def __init__(self) -> None:
        self.shown = self.scenes = 0
        self.scores: list[float] = []
        self.overlap: list[float] = []
        self.alarms: list[float] = []

    def add(self, found: Crops, boxes: np.ndarray) -> None:
        """Count the crops of one scene: each face's best one, and those that touch none."""
        crops, scores = found
        self.shown, self.scenes = self.shown + len(boxes), self.scenes + 1
        shared = overlaps(crops, boxes) if len(boxes) else np.zeros((len(crops), 1))
        for face in range(len(boxes) if len(crops) else 0):
            best = int(shared[:, face].argmax())
            if shared[best, face] >= 0.5:
                self.scores.append(float(scores[best]))
                self.overlap.append(float(shared[best, face]))
        self.alarms += scores[shared.max(1) < 0.3].tolist()

    def recall(self, threshold: float) -> float:
        """Share of the faces found with at least this score."""
        return sum(score >= threshold for score in self.scores) / max(self.shown, 1)

    def alarm_rate(self, threshold: float) -> float:
        """False alarms in 100 pictures."""
        return 100 * sum(score >= threshold for score in self.alarms) / max(self.scenes, 1)


def pictures(options: argparse.Namespace) -> Iterator[tuple[object, dict[str, list[Picture]]]]:
    """The store, or none, and up to ``most`` faces by dataset."""
    folder, rng = options.faces, np.random.default_rng(0)
    if folder and not (folder / "manifest.json").exists():
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        some = [files[number] for number in rng.permutation(len(files))[: options.most]]
        yield None, {folder.name: [cv2.imread(str(path))[..., ::-1] for path in some]}
        return
    with opened(folder) as store:
        named = {}
        for name, rows in store.faces.groupby("dataset").groups.items():
            named[str(name)] = [store.image(row) for row in rng.permutation(rows)[: options.most]]
        yield store, named


def recalls(detector: onnxruntime.InferenceSession, faces: list[Picture], scenes: int) -> dict[str, Tally]:
    """One tally for each size and angle, and for each light."""
    found: dict[str, Tally] = {}
    places = [(f"{share:.0%} {angle}", share, angle, "as it is") for share in SIZES for angle in ANGLES]
    places += [(light, 0.3, 0, light) for light in LIGHTS]
    for name, share, angle, light in places:
        rng, tally = np.random.default_rng(1), Tally()
        for _ in range(scenes):
            scene, boxes = group(rng, faces, share, angle)
            tally.add(detect(detector, LIGHTS[light](scene)), boxes)
        found[name] = tally
    return found


def margins(faces: list[Picture]) -> np.ndarray:
    """Overlap with the pictures' own bounds for the best, and the values of MARGINS x SHIFTS: their mean (M, S)."""
    rng, found = np.random.default_rng(2), []
    exact = opened_detector(margin=1.0, shift=[0, 0])
    for face in faces:
        # Large, so that the rounding of the box to pixels does not matter.
        scene = background(rng, 1100, 1100)
        corner = rng.integers(200, 400, 2)
        box = np.concatenate([corner, corner + 500])
        paste(scene, face, box, 0)
        crops, _ = detect(exact, scene)
        shared = overlaps(crops, box[None])
        if len(crops) and shared.max() >= 0.3:
            crop = crops[int(shared[:, 0].argmax())].astype(float)
            side, middle = crop[2] - crop[0], (crop[:2] + crop[2:]) / 2
            tried = [
                np.concatenate([at - side * margin / 2, at + side * margin / 2])
                for margin in MARGINS
                for at in (middle + [0, shift * side] for shift in SHIFTS)
            ]
            found.append(overlaps(np.array(tried), box[None])[:, 0])
    return np.mean(found, 0).reshape(len(MARGINS), len(SHIFTS))


MARGINS = np.round(np.arange(1.0, 1.31, 0.01), 2)
SHIFTS = np.round(np.arange(-0.12, 0.021, 0.01), 2)


def milliseconds(detector: onnxruntime.InferenceSession, picture: Picture, rounds: int) -> float:
    """Median of the rounds."""
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        detect(detector, picture)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[2:]))


def main() -> None:
    """Measure, print the tables and the last line."""
    made = parser(__doc__.partition("\n")[0])
    made.add_argument("--most", type=int, default=300, help="faces of a dataset (default: %(default)s)")
    made.add_argument("--scenes", type=int, default=40, help="scenes of a size and angle (default: %(default)s)")
    options = made.parse_args()
    model = onnx.load(FILE)
    chosen = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    threshold, margin, shift = (float(chosen[name].ravel()[-1]) for name in ("threshold", "margin", "shift"))
    low = opened_detector(threshold=[min(THRESHOLDS)])
    usual = opened_detector()

    empty, rng = Tally(), np.random.default_rng(3)
    for _ in range(10 * options.scenes):
        empty.add(detect(low, background(rng, 480, 640)), np.empty((0, 4)))
    last: dict[str, object] = {"threshold": threshold, "alarms_per_100_empty": round(empty.alarm_rate(threshold), 2)}

    for store, named in pictures(options):
        surfaces = {}
        for name, faces in named.items():
            found = recalls(low, faces, options.scenes)
            print(f"\n{name}: {len(faces)} faces; recall at {threshold:.2f} by size (of the picture's width) and angle")
            print(" " * 8 + "".join(f"{angle:8}°" for angle in ANGLES) + "  overlap  alarms/100")
            for share in SIZES:
                row = [found[f"{share:.0%} {angle}"] for angle in ANGLES]
                overlap = np.mean([one for tally in row for one in tally.overlap] or [0])
                alarms = np.mean([tally.alarm_rate(threshold) for tally in row])
                print(f"{share:8.0%}" + "".join(f"{tally.recall(threshold):9.1%}" for tally in row), end="")
                print(f"{overlap:9.3f}{alarms:12.1f}", flush=True)
            print("; ".join(f"{light} {found[light].recall(threshold):.1%}" for light in LIGHTS))
            sizes = [found[f"{share:.0%} {angle}"] for share in SIZES[3:] for angle in ANGLES]
            for limit in THRESHOLDS:
                recall, alarms = (np.mean([way(tally, limit) for tally in sizes]) for way in (Tally.recall, Tally.alarm_rate))
                empties = empty.alarm_rate(limit)
                print(f"from {limit:.2f}: recall from 20 % of the width {recall:.1%}, false alarms in 100 such scenes {alarms:.1f}, without a face {empties:.1f}")
            surfaces[name] = margins(faces)
            best = np.unravel_index(surfaces[name].argmax(), surfaces[name].shape)
            here = surfaces[name][np.abs(MARGINS - margin).argmin(), np.abs(SHIFTS - shift).argmin()]
            print(f"margin {MARGINS[best[0]]:.2f}, shift {SHIFTS[best[1]]:+.2f}: overlap {surfaces[name].max():.3f}; as shipped {here:.3f}")
            last[name] = {"recall": round(float(np.mean([tally.recall(threshold) for tally in sizes])), 4), "overlap": round(float(here), 4)}
        both = sum(surfaces.values()) / len(surfaces)
        best = np.unravel_index(both.argmax(), both.shape)
        print(f"all alike: margin {MARGINS[best[0]]:.2f}, shift {SHIFTS[best[1]]:+.2f}: overlap {both.max():.3f}")
        for height, width in ((240, 320), (480, 640), (1080, 1920), (3000, 4000)):
            last[f"ms_{width}x{height}"] = round(milliseconds(usual, background(rng, height, width), 10 * options.rounds), 2)
        finish(store, **last)


if __name__ == "__main__":
    main()
