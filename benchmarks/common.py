"""What the benchmarks share: which faces they run on, medians of paired runs, and the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from helpers.data.store import FaceStore, pack


def parser(about: str) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--faces", type=Path, help="folder of a packed store (default: 6,000 drawn faces, packed anew)")
    made.add_argument("--rounds", type=int, default=5, help="paired runs whose median counts (default: %(default)s)")
    return made


@contextmanager
def opened(faces: Path | None, share: float = 1.0) -> Iterator[FaceStore]:
    """The store to measure on; of its training faces only a share, drawn from a fixed seed, and all others."""
    if faces:
        store = FaceStore.open(faces)
        split = store.table["split"].to_numpy().copy()
        split[(split == "train") & (np.random.default_rng(0).random(len(split)) >= share)] = "left out"
        at = store.table.column_names.index("split")
        yield replace(store, table=store.table.set_column(at, "split", pa.array(split)))
        return
    from drawn_faces.datasets import write_sample_faces

    with tempfile.TemporaryDirectory() as folder:
        print("Drawing 6,000 faces ...", flush=True)
        yield pack(write_sample_faces(Path(folder) / "drawn"), Path(folder) / "faces")


def paired(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each way's result in every round; the ways take turns, so that a slow minute of the machine hits all of them."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
        print(f"round {number + 1}: " + ", ".join(f"{name} {found[name][-1]:,.1f}" for name in ways), flush=True)
    return found


def ratio(found: dict[str, list[float]], name: str, baseline: str) -> float:
    """Median over the rounds of one way's result by another's."""
    return statistics.median(a / b for a, b in zip(found[name], found[baseline], strict=True))


def finish(store: FaceStore | None, **figures) -> None:
    """Print the last line: one JSON object."""
    about = {"date": date.today().isoformat(), "cores": os.cpu_count(), "machine": platform.machine()}
    if store is not None:
        about |= {"faces": len(store), "drawn": store.drawn}
    print(json.dumps(figures | about))
