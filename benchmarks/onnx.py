"""The exported graph and its variants by the same network in PyTorch: time of a face, faces a second, memory, answers.

PyTorch answers as the graph does, from uint8 faces on and with their mirror images where the config says so. All take
turns in one process, in an order that is drawn anew each time, so that a slow minute of the machine hits all of them.
A variant's ratio is PyTorch's median by its own: above 1 it is faster. Whether it answers as well is for the step
``export`` to judge, on labels; ``--parity`` tells how far its answers are from PyTorch's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.common import finish, opened, parser, ratio
from helpers.config import recipe
from helpers.data.store import FaceStore
from helpers.export.graph import EXPORTS, open_session
from helpers.export.variants import variants
from helpers.runs.checkpoints import save_checkpoint
from helpers.runs.run import Run
from helpers.tasks import TASKS
from helpers.training.model import Reader, create_model
from helpers.training.predict import load_best
from helpers.training.processes import computing_with

Answers = list[np.ndarray]
Way = Callable[[np.ndarray], Answers]
"""Answers for faces, uint8 (B, H, W, 3), in the order of EXPORTS."""

TORCH, BATCHES, CUDA = "PyTorch", (1, 8, 64), "CUDAExecutionProvider"


@dataclass(frozen=True)
class Place:
    """What computes."""

    threads: int
    device: str = "cpu"

    @property
    def name(self) -> str:
        """In words."""
        return "GPU" if self.device == "cuda" else f"{self.threads} thread{'s' * (self.threads > 1)}"


EACH = 500
"""Validation faces of each task that are compared: of two datasets, such as FER2013 and UTKFace, 1,000 together."""

GROUPS = (1, 7, 64)
"""Sizes of the batches that they are compared in."""

_ALONE = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = [int(side) for side in sys.argv[2:]]
session.run(None, {"faces": numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)})
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
# Not getrusage's ru_maxrss, which begins with the peak of the process that started this one.


def random_run(store: FaceStore, folder: Path, options: argparse.Namespace) -> Run:
    """A run whose best epoch are random weights."""
    changes = {"backbone": options.backbone, "img_size": options.size, "flip_test": options.mirror}
    run = Run.start(folder / options.backbone, recipe("production", weights="none", **changes), store)
    run.manifest["grey"] = {}  # as where emotions are learned in colour, whatever these faces are
    save_checkpoint(run.best_path, {"model": create_model(run.config.model).state_dict(), "epoch": 1})
    return run


def torch_way(run: Run, place: Place) -> Way:
    """The best epoch's network, calibrated as its graph is."""
    measured = run.read_metrics().get("evaluation", {})
    fitted = measured.get("calibration", {}).get("fitted", {}) if measured.get("weights") == run.weights else {}
    reader = Reader(load_best(run), fitted).eval().to(place.device)

    def answer(faces: np.ndarray) -> Answers:
        with torch.inference_mode():
            return [output.cpu().numpy() for output in reader(torch.from_numpy(faces).to(place.device))]

    return answer


def session_way(path: Path, place: Place) -> Way:
    """An exported graph in ONNX Runtime."""
    if place.device == "cuda":
        session = onnxruntime.InferenceSession(str(path), providers=[CUDA])
    else:
        session = open_session(path, place.threads)
    return lambda faces: session.run(EXPORTS, {"faces": faces})


def milliseconds(ways: Mapping[str, Way], face: np.ndarray, calls: int) -> dict[str, np.ndarray]:
    """How long each way takes for one face, call by call."""
    order, warm = np.random.default_rng(0), max(1, calls // 10)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(warm + calls):
        for name in order.permutation(list(ways)):
            start = time.perf_counter()
            ways[name](face[None])
            found[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(times[warm:]) for name, times in found.items()}


def faces_per_second(way: Way, faces: np.ndarray) -> float:
    """Of one call."""
    start = time.perf_counter()
    way(faces)
    return len(faces) / (time.perf_counter() - start)


def megabytes(path: Path, shape: tuple[int, ...]) -> float:
    """The most memory of a fresh process of numpy and ONNX Runtime alone that answers once, for faces of this shape."""
    command = [sys.executable, "-c", _ALONE, str(path), *map(str, shape)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


def in_batches(faces: list[np.ndarray], size: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Faces of one shape together, at most so many, with their places in the list."""
    for shape in sorted({face.shape for face in faces}):
        places = [place for place, face in enumerate(faces) if face.shape == shape]
        for first in range(0, len(places), size):
            some = places[first : first + size]
            yield some, np.stack([faces[place] for place in some])


def asked(way: Way, faces: list[np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Each output of a way, (N, ...), in the order of the faces."""
    parts = [(places, way(batch)) for places, batch in in_batches(faces, size)]
    order = np.argsort(np.concatenate([places for places, _ in parts]))
    return {name: np.concatenate([said[at] for _, said in parts])[order] for at, name in enumerate(EXPORTS)}


def parity(run: Run, paths: Mapping[str, Path], store: FaceStore) -> dict[str, dict[str, float]]:
    """Per variant and size of batch the largest difference from PyTorch's answers, and the share of changed classes.

    A difference is one of probability, or of years over 100, as in :mod:`helpers.export.check`. PyTorch is asked once,
    in the largest batches, so that what the size of a batch changes counts as well.
    """
    faces = [store.image(row) for row in store.fixed_sample("validation", EACH)]
    wanted, found = asked(torch_way(run, Place(1)), faces, max(GROUPS)), {}
    print(f"\n{len(faces)} validation faces against {TORCH}: largest difference by output, and classes that changed")
    for variant, path in paths.items():
        way = session_way(path, Place(1))
        for size in GROUPS:
            got = asked(way, faces, size)
            apart = {name: float(np.nan_to_num(np.abs(got[name] - wanted[name]), nan=np.inf).max()) for name in EXPORTS}
            changed = {name: float((got[name].argmax(1) != wanted[name].argmax(1)).mean())
                       for name, task in TASKS.items() if task.classes}  # fmt: skip
            units = {name: task.parity_unit for task in TASKS.values() for name in task.exports}
            found[f"{variant}, batch {size}"] = {
                "faces": len(faces),
                "difference": float(f"{max(apart[name] / units[name] for name in EXPORTS):.2g}"),
                "changed": round(max(changed.values()), 5),
            }
            told = [f"{name} {apart[name]:.2g}" for name in EXPORTS]
            told += [f"{name} changed {share:.2%}" for name, share in changed.items()]
            print(f"{variant:14} batch {size:2}  " + "  ".join(told), flush=True)
    return found


def exported(run: Run, store: FaceStore, folder: Path) -> dict[str, Path]:
    """The files of the graph as it is and of all its variants."""
    folder.mkdir()
    paths = {}
    for name, model in variants(run, store):
        paths[name] = folder / f"{name.replace(' ', '_')}.onnx"
        paths[name].write_bytes(model.SerializeToString())
    return paths


def timed(run: Run, paths: Mapping[str, Path], face: np.ndarray, place: Place, calls: int) -> dict[str, dict]:
    """Of PyTorch and each variant the milliseconds of one face: median, p95 and p99, and PyTorch's median by theirs."""
    sessions = {name: session_way(path, place) for name, path in paths.items()}
    times = milliseconds({TORCH: torch_way(run, place)} | sessions, face, calls)
    print(f"\n{place.name:14}   p50 ms   p95 ms   p99 ms  times as fast")
    found, baseline = {}, np.median(times[TORCH])
    for name, all_times in times.items():
        p50, p95, p99 = np.percentile(all_times, (50, 95, 99)).round(2).tolist()
        found[name] = {"ratio": round(baseline / p50, 2), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
        print(f"{name:14} {p50:8.2f} {p95:8.2f} {p99:8.2f} {found[name]['ratio']:8.2f}", flush=True)
    return found


def together(run: Run, paths: Mapping[str, Path], face: np.ndarray, place: Place, rounds: int) -> dict[str, dict]:
    """Of each variant the faces a second by the size of the batch, and the median ratio to PyTorch's.

    One graph at a time, since each keeps the memory that its largest batch took.
    """
    network, found = torch_way(run, place), {}
    print(f"\n{place.name}   faces in a batch   faces a second  times as fast")
    for name, path in paths.items():
        session = session_way(path, place)
        for size in BATCHES:
            faces, rates = np.repeat(face[None], size, axis=0), {TORCH: list[float](), name: list[float]()}
            for _ in range(rounds):
                rates[TORCH].append(faces_per_second(network, faces))
                rates[name].append(faces_per_second(session, faces))
            median, faster = round(float(np.median(rates[name])), 1), round(ratio(rates, name, TORCH), 2)
            found[f"{name}, batch {size}"] = {"faces_per_s": median, "ratio": faster}
            print(f"{name:14} {size:12} {median:16,.1f} {faster:14.2f}", flush=True)
    return found


def measured(run: Run, store: FaceStore, folder: Path, options: argparse.Namespace) -> dict:
    """Everything about one run, as figures for the last line; prints the tables."""
    model, paths = run.config.model, exported(run, store, folder / f"{run.folder.name}_graphs")
    print(
        f"\n{model.backbone} at {model.img_size} pixels, {'with its mirror image' if model.flip_test else 'no mirror'}",
        flush=True,
    )
    face = max((store.image(row) for row in store.rows("validation")[:512]), key=lambda face: face.size)
    places = [Place(threads) for threads in options.threads]
    if CUDA in onnxruntime.get_available_providers() and torch.cuda.is_available():
        places.append(Place(max(options.threads), "cuda"))
    found: dict = {"one_face": {}}
    for place in places:
        with computing_with(place.threads):
            found["one_face"][place.name] = timed(run, paths, face, place, options.calls)
    with computing_with(places[-1].threads):
        found["together"] = together(run, paths, face, places[-1], options.rounds)
    for size in (1, max(BATCHES)):
        found[f"peak_mb_{size}"] = peak = round(megabytes(paths["fp32"], (size, *face.shape)))
        print(f"fp32, numpy and ONNX Runtime alone, {size:2} faces: at most {peak:,} MB", flush=True)
    if options.parity:
        found["parity"] = parity(run, paths, store)
    first = found["one_face"][places[0].name]
    return {"fp32_ratio": first["fp32"]["ratio"], "best_ratio": max(one["ratio"] for one in first.values())} | found


def main() -> None:
    """Measure, print the tables and the last line."""
    made = parser(__doc__.partition("\n")[0])
    made.add_argument("--run", type=Path, action="append", default=[], help="folder of a finished run; may be repeated")
    made.add_argument("--backbone", default="efficientnet_b2", help="without a run: random weights (%(default)s)")
    made.add_argument("--size", type=int, default=224, help="its pixels (default: %(default)s)")
    made.add_argument("--mirror", action="store_true", help="it answers with the mean over a face and its mirror image")
    made.add_argument("--calls", type=int, default=200, help="of each, one face each (default: %(default)s)")
    cores = len(os.sched_getaffinity(0))
    made.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores}), help="(default: 1 and all)")
    made.add_argument("--parity", type=Path, metavar="FACES", help="packed store on which the answers are compared")
    options = made.parse_args()
    with opened(options.parity or options.faces) as store, tempfile.TemporaryDirectory() as folder:
        runs = [Run.open(run) for run in options.run] or [random_run(store, Path(folder), options)]
        found = {run.folder.name: measured(run, store, Path(folder), options) for run in runs}
        least = {name: min(one[name] for one in found.values()) for name in ("fp32_ratio", "best_ratio")}
        finish(store, **least, runs=found)


if __name__ == "__main__":
    main()
