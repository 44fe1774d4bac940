"""Batches for a 224-pixel network: this project's loader against the plain pipeline.

Plain: read the file, resize to 224, the same transforms at 224, normalise, tensor, collate. Here: decode from the
packed store, the same transforms at the face's own size, one uint8 tensor per batch; the four warps (flip, rotate,
scale, shift) come with the resize where the network runs, and are in the second figure. Both with the same techniques,
probabilities and relative strengths, the same rows in the same order and the same number of loader processes.
"""

from __future__ import annotations

import statistics
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.common import finish, opened, paired, parser, ratio
from helpers import plots
from helpers.config import TrainConfig, recipe
from helpers.data.augment import TECHNIQUES, A, Augmenter, features_kept, show_technique
from helpers.data.loaders import EpochSampler, FaceBatches, make_loader, train_loader
from helpers.data.store import FaceStore
from helpers.training.model import create_model

MEAN, SD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


WARPS = {
    "flip": lambda limit, p: A.HorizontalFlip(p=p),
    "rotate": lambda limit, p: A.Rotate((-limit, limit), border_mode=cv2.BORDER_REFLECT_101, p=p),
    "scale": lambda limit, p: A.Affine(scale=(1 - limit, 1 + limit), border_mode=cv2.BORDER_REFLECT_101, p=p),
    "shift": lambda limit, p: A.Affine(translate_percent=(-limit, limit), border_mode=cv2.BORDER_REFLECT_101, p=p),
}
"""The four warps as albumentations does them, for the plain pipeline."""


def cpu_warps() -> A.Compose:
    """The four warps by albumentations, each with its probability."""
    return A.Compose([build(TECHNIQUES[n].limit, TECHNIQUES[n].probability) for n, build in WARPS.items()])


class PlainFaces(Dataset):
    """Faces as most training scripts load them, one at a time at the network's size; from their files or the store."""

    def __init__(self, store: FaceStore, rows: np.ndarray, config: TrainConfig, files: bool = True):
        sources = store.manifest["sources"]
        names = store.faces.loc[rows, ["dataset", "name"]].itertuples(index=False)
        self.paths = [str(Path(sources[dataset]["folder"]) / name) for dataset, name in names]
        self.store, self.rows, self.files = store, rows, files
        self.augmenter, self.size = (
            Augmenter(config.augmentation.augment, config.augmentation.augment_without),
            config.model.img_size,
        )
        self.augmenter.prepare([self.size])
        self.warps = cpu_warps()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.files:
            face = cv2.cvtColor(np.asarray(cv2.imread(self.paths[index])), cv2.COLOR_BGR2RGB)
        else:
            face = self.store.image(self.rows[index])
        face = cv2.resize(face, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        face = self.warps(image=self.augmenter(face))["image"]
        face = (face.astype(np.float32) / 255 - MEAN) / SD
        return torch.from_numpy(face.transpose(2, 0, 1).copy())


class WarpingAugmenter(Augmenter):
    """All techniques at the face's own size, the warps included: what warping where the network runs is worth."""

    def __init__(self, config: TrainConfig):
        super().__init__(config.augmentation.augment, config.augmentation.augment_without)
        self.cpu_warps = cpu_warps()

    def __call__(self, face: np.ndarray) -> np.ndarray:
        return self.cpu_warps(image=super().__call__(face))["image"]


def own_size(store: FaceStore, rows: np.ndarray, config: TrainConfig) -> DataLoader:
    """This project's batches, but with every technique on the CPU."""
    augmenter = WarpingAugmenter(config)
    size, seed = config.model.img_size, config.run.seed
    augmenter.prepare({min(side, size) for side in store.sides})
    batches = FaceBatches(store, augmenter, seed, shrink_to=size)
    return make_loader(batches, EpochSampler(rows, config.data.batch_size, seed), config.data.workers)


def packed(store: FaceStore, rows: np.ndarray, config: TrainConfig) -> DataLoader:
    """This project's batches, as training takes them."""
    size, seed = config.model.img_size, config.run.seed
    return train_loader(store, rows, config.data, config.augmentation, seed=seed, size=size)


def equally_strong(store: FaceStore, size: int, picture: Path | None) -> dict[str, tuple[float, float]]:
    """Technique -> median share of the features kept, at the network's size and at the face's own; and a picture.

    Warps are left out: both sides draw them from the same limits.
    """
    faces = [store.image(row) for row in store.examples("train", 8)]
    found, images, captions = {}, list[np.ndarray](), list[str]()
    for name, technique in TECHNIQUES.items():
        if technique.build is None:
            continue
        kept: tuple[list[float], list[float]] = ([], [])
        for number, face in enumerate(faces):
            large = cv2.resize(face, (size, size), interpolation=cv2.INTER_LINEAR)
            for seed in range(4):
                pair = show_technique(name, large, 1.0, seed), show_technique(name, face, 1.0, seed)
                for values, picked, original in zip(kept, pair, (large, face), strict=True):
                    values.append(features_kept(original, picked, technique.group))
            if number == 0:
                images += pair
                captions += [f"{name}\nat {size} px", f"{name}\nat {face.shape[0]} px"]
        found[name] = (statistics.median(kept[0]), statistics.median(kept[1]))
    if picture:
        plots.faces(images, captions, 12, "The same techniques at the network's size and at the face's own").savefig(
            picture
        )
    return found


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def main() -> None:
    """Measure, print the table and the last line."""
    made = parser(__doc__.partition("\n")[0])
    made.add_argument("--batches", type=int, default=40, help="batches of 64 per run (default: %(default)s)")
    made.add_argument("--workers", type=int, default=2, help="loader processes (default: %(default)s)")
    made.add_argument("--picture", type=Path, help="write the techniques at both sizes, side by side, as a PNG")
    options = made.parse_args()
    config = recipe("seed", workers=options.workers)
    model = create_model(recipe("seed", weights="none").model)
    with opened(options.faces) as store:
        rows = store.rows("train")
        order = np.concatenate([chosen for _, chosen in EpochSampler(rows, 64, config.run.seed)])

        def timed(loader, work=lambda batch: None) -> float:
            """Faces a second from the first batch on, when the processes are up."""
            batches = iter(loader)
            next(batches)
            start = time.perf_counter()
            count = sum(1 for batch in islice(batches, options.batches) if work(batch) is None)
            return 64 * count / (time.perf_counter() - start)

        def plain(files: bool) -> float:
            faces = PlainFaces(store, order, config, files)
            return timed(DataLoader(faces, 64, num_workers=options.workers, worker_init_fn=_one_thread))

        def device_part(batch) -> None:
            with torch.no_grad():
                model.normalise(batch.resized(config.model.img_size))

        bare = recipe("seed", augment=0.0, workers=options.workers)
        ways = {
            "plain": lambda: plain(files=True),
            "from the packed store": lambda: plain(files=False),
            "at the face's own size": lambda: timed(own_size(store, rows, config)),
            "packed": lambda: timed(packed(store, rows, config)),
            "packed + device part": lambda: timed(packed(store, rows, config), device_part),
            "packed, no techniques": lambda: timed(packed(store, rows, bare)),
        }
        found = paired(options.rounds, ways)
        print(f"\n{'technique':24}{'features kept at 224 px':>26}{'at own size':>14}")
        for name, pair in equally_strong(store, config.model.img_size, options.picture).items():
            print(f"{name:24}{pair[0]:26.2f}{pair[1]:14.2f}")
        print(f"\n{'faces/s, median of ' + str(options.rounds):28} {'':>8}  times plain")
        for name, values in found.items():
            print(f"{name:28} {statistics.median(values):8,.0f}  {ratio(found, name, 'plain'):.1f}")
        finish(
            store,
            loader_ratio=round(ratio(found, "packed", "plain"), 2),
            float_batch_ratio=round(ratio(found, "packed + device part", "plain"), 2),
        )


if __name__ == "__main__":
    main()
