"""A run's folder: what was asked for, on which faces, what has been learned so far and what came of it."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import math
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from helpers.config import InputError, TrainConfig, read_json, write_file
from helpers.data.store import FaceStore
from helpers.session.runtime import config_for, inspect_machine

_FREE = ("workers", "max_minutes")
"""Knobs that may change when a run goes on: they decide how fast and how long it learns, not what."""


@dataclass
class Run:
    """An opened run folder.

    Attributes:
        folder: ``<workspace>/runs/<run>``.
        config: the config it is trained with.
        manifest: which faces and library versions it was started with.
        history: one dict per finished epoch, as in ``history.jsonl``.
        echo: called with each line that goes to ``train.log``.
        writes: whether this process writes into the folder; of several that train together only one does.
    """

    LAST: ClassVar = Path("checkpoints", "last.pt")
    BEST: ClassVar = Path("checkpoints", "best.pt")
    STOP: ClassVar = Path("stop")

    folder: Path
    config: TrainConfig
    manifest: dict
    history: list[dict] = field(default_factory=list)
    echo: Callable[[str], None] = lambda line: None
    writes: bool = True

    @classmethod
    def start(cls, folder: Path, config: TrainConfig, store: FaceStore) -> Run:
        """Create the folder, or open it to go on where it stopped; the config of a run that is there is not written.

        Raises:
            InputError: the folder was started with another config or other faces.
        """
        if cls.exists(folder):
            run = cls.open(folder)
            run._check_same(config, store)
            run.config = config
            return run
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        libraries = {name: version(name) for name in ("torch", "timm", "albumentations", "numpy")}
        manifest = {
            "store": store.identity,
            "sources": store.manifest["sources"],
            "drawn": store.drawn,
            "libraries": libraries,
        }
        config.save(folder / "config.json")
        # Last, since its presence is what makes the folder a run.
        write_file(folder / "manifest.json", json.dumps(manifest, indent=2) + "\n")
        return cls(folder, config, manifest)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run to read it.

        Raises:
            InputError: there is no run, or its files are damaged.
        """
        manifest = read_json(folder / "manifest.json", "a training run (notebook 04 makes it)")
        run = cls(folder, TrainConfig.load(folder / "config.json"), manifest)
        if run.history_path.exists():
            try:
                run.history = [json.loads(line) for line in run.history_path.read_text(encoding="utf-8").splitlines()]
            except ValueError as error:
                raise InputError(
                    f"{run.history_path} is damaged ({error}); delete it and train again (notebook 04), which "
                    "writes it anew from the last checkpoint."
                ) from None
        return run

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether the folder holds a run; its manifest is written last."""
        return (folder / "manifest.json").exists()

    @classmethod
    def config_in(cls, folder: Path, name: str | None = None, /, **changes) -> TrainConfig:
        """The config to train the run in ``folder`` with.

        A run that is there goes on with its own config and the changes; a recipe that is named is asked for as a whole,
        but for the batch size, which may be fitted to another GPU. Where that is not the config that the run was
        started with, training refuses it and shows the difference.

        Args:
            folder: of the run, which need not be there.
            name: a recipe, or ``auto``; None means the run's own, and ``production`` for a new one.
            changes: fields that are set as they are given.

        Raises:
            InputError: there is no such recipe, or a changed field is unknown or out of range.
        """
        machine = inspect_machine()
        if not cls.exists(folder):
            return config_for(machine, name or "production", **changes)
        mine = cls.open(folder).config
        if name in (None, "auto"):
            return TrainConfig.from_dict(changes, mine)
        free = {knob: getattr(mine, knob) for knob in ("batch_size", *_FREE)}
        return config_for(machine, name, **free | changes)

    @property
    def best_path(self) -> Path:
        """Weights of the best epoch."""
        return self.folder / self.BEST

    @property
    def last_path(self) -> Path:
        """Everything needed to go on."""
        return self.folder / self.LAST

    @property
    def stop_path(self) -> Path:
        """A file that ends training after the step under way, for when there is no button and no Ctrl-C."""
        return self.folder / self.STOP

    @contextmanager
    def claim(self):
        """Keep others from training this run at the same time; the claim ends with this process, however it ends.

        Raises:
            InputError: another process of this machine trains it.
        """
        with open(self.folder / ".claim", "w", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock not kept by loader processes
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    self.log(f"this disk cannot keep a second session off this run ({error.strerror}); start none")
                    yield
                    return
                raise InputError(
                    f"The run {self.folder.name!r} is being trained by another session on this machine; stop that one "
                    "first, or start a run under another name."
                ) from None
            yield

    @property
    def history_path(self) -> Path:
        return self.folder / "history.jsonl"

    def write_history(self) -> None:
        """Write all finished epochs; a resumed run drops lines its checkpoint does not know."""
        if self.writes:
            write_file(self.history_path, "".join(json.dumps(row) + "\n" for row in self.history))

    def log(self, line: str) -> None:
        """Add a line with the time to ``train.log``, and show it; on a full disk it is only shown."""
        if not self.writes:
            return
        with suppress(OSError), open(self.folder / "train.log", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        self.echo(line)

    def write_results(self, **about) -> None:
        """Write ``results.json``: what training reached so far, with its best and its last epoch, if there is one."""
        if self.history and self.writes:
            best = next(row for row in reversed(self.history) if row["best"])
            results = about | {"epochs": len(self.history), "best": best, "last": self.history[-1]}
            write_file(self.folder / "results.json", json.dumps(_finite(results), indent=1, allow_nan=False) + "\n")

    def read_metrics(self) -> dict:
        """What evaluation and export have measured so far."""
        return read_json(self.folder / "metrics.json", "measured results (notebook 05 makes them)")

    def write_metrics(self, metrics: dict) -> None:
        """Write ``metrics.json``; what is not a number, or not bounded, is null there."""
        write_file(self.folder / "metrics.json", json.dumps(_finite(metrics), indent=1, allow_nan=False) + "\n")

    def check_store(self, store: FaceStore) -> None:
        """Raise an InputError unless the run was trained on the faces of ``store``.

        On another store, or the same packed with other splits, test rows could be rows it has learned from.
        """
        if self.manifest["store"] != store.identity:
            raise InputError(
                f"The run {self.folder.name!r} was trained on other faces (store {self.manifest['store']}) than "
                f"{store.folder} holds (store {store.identity}); open those, or start a run under another name."
            )

    def _check_same(self, config: TrainConfig, store: FaceStore) -> None:
        free = {name: getattr(config, name) for name in _FREE}
        mine, wanted = dataclasses.asdict(dataclasses.replace(self.config, **free)), dataclasses.asdict(config)
        changed = [f"{name} {mine[name]!r} -> {wanted[name]!r}" for name in mine if mine[name] != wanted[name]]
        if changed:
            raise InputError(
                f"The run {self.folder.name!r} was started with another config ({'; '.join(changed)}); set it back to "
                f"go on with it, or start a run under another name."
            )
        self.check_store(store)


def _finite(tree):
    """The tree with None in place of numbers that JSON does not know."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
