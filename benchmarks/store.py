"""The packed store: packing, opening and reading at 100,000 and 1,000,000 faces.

The large stores hold the given faces again and again, each row with labels and a hash of its own; every figure is taken
in a process of its own, whose private memory (RssAnon, loader processes included) is read at its end.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import pyarrow as pa

from benchmarks.common import finish, opened, parser
from helpers.config import PackConfig, recipe
from helpers.data.store import FaceStore, pack, write_files
from helpers.files import write_json

BATCHES = 300


def repeat(store: FaceStore, rows: int, folder: Path) -> None:
    """Write a store of ``rows`` faces that repeats those of another."""
    folder.mkdir(parents=True)
    whole = rows // len(store)
    table = pa.concat_tables([*[store.table] * whole, store.table.slice(0, rows - whole * len(store))])
    manifest = store.manifest | {"rows": rows, "files": write_files(table, folder)}
    write_json(folder / "manifest.json", manifest)


def measure(folder: Path, workers: int) -> dict[str, float]:
    """Open a store, load batches for training, and look at the memory; runs in a process of its own."""
    from helpers.data.loaders import train_loader

    start = time.perf_counter()
    store = FaceStore.open(folder)
    config = recipe("seed", workers=workers)
    size, seed = config.model.img_size, config.run.seed
    loader = iter(train_loader(store, store.rows("train"), config.data, config.augmentation, seed=seed, size=size))
    next(loader)
    first = time.perf_counter() - start
    for _ in islice(loader, BATCHES):
        pass
    children = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
    return {"first_batch_s": first, "anon_mb": sum(map(_private, [os.getpid(), *map(int, children)]))}


def _private(pid: int) -> float:
    """Private memory of a process in MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon")), 0.0)


def packing_rate(store: FaceStore, folder: Path) -> float:
    """Faces a second from the dataset's folders to the finished store."""
    folders = {name: Path(source["folder"]) for name, source in store.manifest["sources"].items()}
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    packed = pack(folders, folder, PackConfig(**store.manifest["knobs"]))
    seconds = time.perf_counter() - start
    rows = sum(found["rows"] for found in packed.manifest["audit"].values())
    return rows / seconds


def main() -> None:
    """Measure, print the table and the last line."""
    made = parser(__doc__.partition("\n")[0])
    made.add_argument("--workers", type=int, default=2, help="loader processes (default: %(default)s)")
    made.add_argument("--sizes", type=int, nargs=2, default=(100_000, 1_000_000), help="faces (default: %(default)s)")
    made.add_argument("--child", type=Path, help="measure this store in this process, for the benchmark itself")
    options = made.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.workers)))
        return
    with opened(options.faces) as store, tempfile.TemporaryDirectory(dir=store.folder.parent) as scratch:
        rates = [packing_rate(store, Path(scratch) / "again") for _ in range(2)]
        print(f"packing: {', '.join(f'{rate:,.0f}' for rate in rates)} faces/s", flush=True)
        found: dict[int, list[dict]] = {size: [] for size in options.sizes}
        for size in options.sizes:
            repeat(store, size, Path(scratch) / str(size))
        for number in range(options.rounds):
            for size in options.sizes:
                command = [sys.executable, "-m", "benchmarks.store", "--child", str(Path(scratch) / str(size)),
                           "--workers", str(options.workers)]  # fmt: skip
                answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[size].append(json.loads(answer.splitlines()[-1]))
                print(f"round {number + 1}, {size:,} faces: {found[size][-1]}", flush=True)

    def median(name: str, size: int) -> float:
        return statistics.median(one[name] for one in found[size])

    small, large = options.sizes
    print(f"\n{'':22}{small:>12,}{large:>12,}  ratio")
    ratios = {}
    for name, text in (("first_batch_s", "open, first batch (s)"), ("anon_mb", "private memory (MB)")):
        ratios[name] = statistics.median(b[name] / a[name] for a, b in zip(found[small], found[large], strict=True))
        print(f"{text:22}{median(name, small):12.2f}{median(name, large):12.2f}  {ratios[name]:.2f}")
    finish(
        store,
        packing_faces_per_s=round(statistics.median(rates)),
        first_batch_s=round(median("first_batch_s", small), 2),
        first_batch_ratio=round(ratios["first_batch_s"], 2),
        memory_ratio=round(ratios["anon_mb"], 2),
    )


if __name__ == "__main__":
    main()
