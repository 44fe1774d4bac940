"""The face detector: recall by size and rotation, false alarms, the threshold, the margin, and milliseconds.

Faces are pasted into scenes (pieces of photographs, gradients, blocks, noise) as turned squares with soft edges;
a face counts as found where a crop overlaps its square by ``FOUND`` or more (intersection over union). The margin part
asks how well the crops give back the squares' bounds, since the network that reads them was trained on those.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from sklearn.datasets import load_sample_image

from benchmarks.common import finish, opened, parser
from helpers.data.images import decode
from helpers.data.store import FaceStore

Picture = np.ndarray
Crops = tuple[np.ndarray, np.ndarray]
"""Squares (N, 4) in pixels and scores (N,)."""

MODELS = Path(__file__).resolve().parent.parent / "models"

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

FOUND = 0.4
"""Overlap from which on a face counts as found: a drawn face fills about 0.55 of its picture, a real one 0.85."""

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

MARGINS, SHIFTS = np.arange(100, 131) / 100, np.arange(-12, 3) / 100
"""Tried for the crops."""


def opened_detector(file: Path, **settings: object) -> onnxruntime.InferenceSession:
    """A detector on one thread, with other values for its initializers ``threshold``, ``margin`` or ``shift``."""
    model = onnx.load(file)
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


PHOTOS = {name: load_sample_image(name) for name in ("china.jpg", "flower.jpg")}


def photograph(rng: np.random.Generator, size: tuple[int, int], name: str) -> Picture:
    """A piece of one of the two photographs without a face that scikit-learn ships."""
    photo = PHOTOS[name]
    part = (rng.uniform(0.4, 1) * np.array(photo.shape[:2])).astype(int)
    top, left = rng.integers(0, photo.shape[:2] - part + 1)
    piece = photo[top : top + part[0], left : left + part[1]]
    return cv2.resize(piece[:, :: rng.choice([-1, 1])], size, interpolation=cv2.INTER_AREA)


def field(rng: np.random.Generator, size: tuple[int, int], how: int) -> Picture:
    """A few random colours, blended over the picture."""
    return cv2.resize(rng.integers(0, 256, (*rng.integers(2, 12, 2), 3), dtype=np.uint8), size, interpolation=how)


BACKGROUNDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Picture]] = {
    "houses": lambda rng, size: photograph(rng, size, "china.jpg"),
    "flower": lambda rng, size: photograph(rng, size, "flower.jpg"),
    "gradients": lambda rng, size: field(rng, size, cv2.INTER_CUBIC),
    "blocks": lambda rng, size: field(rng, size, cv2.INTER_NEAREST),
    "noise": lambda rng, size: cv2.add(
        field(rng, size, cv2.INTER_LINEAR), rng.integers(0, 80, (*size[::-1], 3), dtype=np.uint8)
    ),
}
"""Pictures without a face, of a size given as width, height. The flower is round, skin-coloured and hard."""


def background(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Any of them."""
    return list(BACKGROUNDS.values())[rng.integers(len(BACKGROUNDS))](rng, (width, height))


def paste(scene: Picture, face: Picture, box: np.ndarray, angle: float) -> None:
    """Lay a face over the square of a scene, turned about its middle, with a soft edge."""
    side = int(box[2] - box[0])
    face = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if side < len(face) else cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle, 1.0)
    turn[:, 2] = turn[:, 2] + box[:2]
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
            if shared[best, face] >= FOUND:
                self.scores.append(float(scores[best]))
                self.overlap.append(float(shared[best, face]))
        self.alarms += scores[shared.max(1) < 0.3].tolist()

    @classmethod
    def of(cls, tallies: Iterable[Tally]) -> Tally:
        """Several as one."""
        whole = cls()
        for tally in tallies:
            whole.shown, whole.scenes = whole.shown + tally.shown, whole.scenes + tally.scenes
            whole.scores, whole.overlap = whole.scores + tally.scores, whole.overlap + tally.overlap
            whole.alarms = whole.alarms + tally.alarms
        return whole

    def recall(self, threshold: float) -> float:
        """Share of the faces found with at least this score."""
        return sum(score >= threshold for score in self.scores) / max(self.shown, 1)

    def alarm_rate(self, threshold: float) -> float:
        """False alarms in 100 pictures."""
        return 100 * sum(score >= threshold for score in self.alarms) / max(self.scenes, 1)


@contextmanager
def shown(options: argparse.Namespace) -> Iterator[tuple[FaceStore | None, dict[str, list[Picture]]]]:
    """Up to ``most`` faces of each dataset of a store, or of a folder of images."""
    folder, rng = options.faces, np.random.default_rng(0)
    if folder and not (folder / "manifest.json").exists():
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        some = [files[number] for number in rng.permutation(len(files))[: options.most]]
        yield None, {folder.name: [decode(path.read_bytes()) for path in some]}
        return
    with opened(folder) as store:
        groups = store.faces.groupby("dataset").groups
        yield (
            store,
            {
                str(name): [store.image(row) for row in rng.permutation(rows)[: options.most]]
                for name, rows in groups.items()
            },
        )


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


def margins(file: Path, faces: list[Picture]) -> np.ndarray:
    """Mean overlap of the crops with the faces' own bounds, had the margin and shift been others: (M, S)."""
    rng, found = np.random.default_rng(2), []
    exact = opened_detector(file, margin=1.0, shift=[0, 0])
    for face in faces:
        scene = background(rng, 640, 640)
        corner = rng.integers(120, 240, 2)
        box = np.concatenate([corner, corner + 280])[None]
        paste(scene, face, box[0], 0)
        crops, _ = detect(exact, scene)
        best = int(overlaps(crops, box)[:, 0].argmax()) if len(crops) else None
        if best is not None and overlaps(crops, box)[best, 0] > 0.3:
            side, middle = crops[best, 2] - crops[best, 0], (crops[best, :2] + crops[best, 2:]) / 2
            middles = (middle + np.array([0, shift * side]) for shift in SHIFTS)
            ends = [(at - side * margin / 2, at + side * margin / 2) for at in middles for margin in MARGINS]
            found.append(overlaps(np.array(ends).reshape(-1, 4), box).reshape(len(SHIFTS), len(MARGINS)).T)
    return np.mean(found, 0)


def said(surface: np.ndarray) -> str:
    """The best margin and shift of a surface."""
    margin, shift = np.unravel_index(surface.argmax(), surface.shape)
    return f"margin {MARGINS[margin]:.2f}, shift {SHIFTS[shift]:+.2f} (overlap {surface.max():.3f})"


def milliseconds(detector: onnxruntime.InferenceSession, picture: Picture, rounds: int) -> float:
    """Median over the rounds of the time that the one thread computed; what else the machine does counts little."""
    times = []
    for _ in range(rounds + 2):
        start = time.process_time()
        detect(detector, picture)
        times.append(1000 * (time.process_time() - start))
    return float(np.median(times[2:]))


def table(name: str, found: dict[str, Tally], threshold: float) -> Tally:
    """Print the recall of a dataset's faces; those of a fifth of the width and more, together."""
    print(f"\n{name}: recall from score {threshold:.2f}, by the side of a face as share of the width and by angle")
    print(" " * 8 + "".join(f"{angle:8}°" for angle in ANGLES) + "  overlap  alarms/100")
    for share in SIZES:
        row = [found[f"{share:.0%} {angle}"] for angle in ANGLES]
        overlap = np.mean([one for tally in row for one in tally.overlap] or [0])
        alarms = np.mean([tally.alarm_rate(threshold) for tally in row])
        shares = "".join(f"{tally.recall(threshold):9.1%}" for tally in row)
        print(f"{share:8.0%}{shares}{overlap:9.3f}{alarms:12.1f}")
    print("; ".join(f"{light} {found[light].recall(threshold):.1%}" for light in LIGHTS) + " (30 %, upright)")
    return Tally.of(found[f"{share:.0%} {angle}"] for share in SIZES if share >= 0.2 for angle in ANGLES)


def main() -> None:
    """Measure, print the tables and the last line."""
    made = parser(__doc__.partition("\n")[0])
    made.add_argument("--most", type=int, default=300, help="faces of a dataset (default: %(default)s)")
    made.add_argument("--scenes", type=int, default=20, help="scenes of a size and angle (default: %(default)s)")
    made.add_argument("--file", default="detector.onnx", help="of models, to measure (default: %(default)s)")
    options = made.parse_args()
    file = MODELS / options.file
    chosen = {value.name: numpy_helper.to_array(value) for value in onnx.load(file).graph.initializer}
    threshold, margin, shift = (float(chosen[name].ravel()[-1]) for name in ("threshold", "margin", "shift"))
    low = opened_detector(file, threshold=[min(THRESHOLDS)])

    print("False alarms in 100 pictures without a face, from score " + "".join(f"{limit:7.1f}" for limit in THRESHOLDS))
    empty = {}
    for number, (kind, draw) in enumerate(BACKGROUNDS.items()):
        rng, empty[kind] = np.random.default_rng(number), Tally()
        for _ in range(4 * options.scenes):
            empty[kind].add(detect(low, draw(rng, (640, 480))), np.empty((0, 4)))
        print(f"{kind:56}" + "".join(f"{empty[kind].alarm_rate(limit):7.1f}" for limit in THRESHOLDS), flush=True)
    usual = Tally.of(tally for kind, tally in empty.items() if kind != "flower")
    figures: dict[str, object] = {"threshold": round(threshold, 4), "alarms_per_100": usual.alarm_rate(threshold)}

    with shown(options) as (store, named):
        surfaces, recall = {}, {}
        for name, faces in named.items():
            together = table(name, recalls(low, faces, options.scenes), threshold)
            limits = (f"{limit:.1f}: {together.recall(limit):.1%}" for limit in THRESHOLDS)
            print(f"{together.shown} faces of 20 % of the width and more, recall by threshold: {', '.join(limits)}")
            recall[name] = round(together.recall(threshold), 4)
            surfaces[name] = margins(file, faces)
            at = np.abs(MARGINS - margin).argmin(), np.abs(SHIFTS - shift).argmin()
            print(f"{name}: best {said(surfaces[name])}; as shipped {surfaces[name][at]:.3f}", flush=True)
        print(f"all datasets alike: best {said(np.mean(list(surfaces.values()), 0))}")
        shipped, rng = opened_detector(file), np.random.default_rng(4)
        for width, height in ((320, 240), (640, 480), (1920, 1080), (4000, 3000)):
            picture = background(rng, height, width)
            figures[f"ms_{width}x{height}"] = round(milliseconds(shipped, picture, 10 * options.rounds), 2)
        finish(store, recall=recall, **figures)


if __name__ == "__main__":
    main()
