"""A run's folder: what was asked for, on which faces, what has been learned so far and what came of it."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from helpers.config import FROM_RUN, TrainConfig, start_of
from helpers.data.store import FaceStore
from helpers.files import InputError, read_json, write_file, write_json
from helpers.runs import checkpoints
from helpers.session.workspace import checked_name
from helpers.tasks import check_classes

FORMAT = 2
"""Raised when what a run's folder or its checkpoints hold changes: an older run is then refused in a sentence."""


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
        best_path: weights of the best epoch.
        last_path: everything needed to go on.
        stop_path: a file that ends training after the step under way, for when there is no button and no Ctrl-C.
        history_path, results_path: what has been learned so far, and what it reached.
    """

    LAST = Path("checkpoints", "last.pt")
    BEST = Path("checkpoints", "best.pt")
    STOP = Path("stop")

    folder: Path
    config: TrainConfig
    manifest: dict
    history: list[dict] = field(default_factory=list)
    echo: Callable[[str], None] = lambda line: None
    writes: bool = True

    def __post_init__(self):
        self.best_path, self.last_path, self.stop_path = (self.folder / at for at in (self.BEST, self.LAST, self.STOP))
        self.history_path, self.results_path = self.folder / "history.jsonl", self.folder / "results.json"

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
        manifest = {"format": FORMAT, "store": store.identity, "drawn": store.drawn, "libraries": libraries}
        manifest |= {name: store.manifest[name] for name in ("classes", "sources")}
        config.save(folder / "config.json")
        # Last, since its presence is what makes the folder a run.
        write_json(folder / "manifest.json", manifest)
        return cls(folder, config, manifest)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run to read it.

        Raises:
            InputError: there is no run, it is another version's, or its files are damaged.
        """
        manifest = read_json(folder / "manifest.json", "a training run (notebook 04 makes it)")
        if manifest.get("format") != FORMAT:
            raise InputError(f"{folder} was trained by another version of this project; start a run under a new name.")
        check_classes(manifest["classes"], f"The run {folder}")
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
    def configs(cls, folder: Path, changes: Mapping[str, Any]) -> dict[str, TrainConfig | None]:
        """What :func:`helpers.config.decide` has to know of runs, by the names of its arguments.

        That is the config of the run in ``folder``, or else of the earlier one that a new run's ``weights`` name.
        """
        if cls.exists(folder):
            return {"existing": cls.open(folder).config}
        earlier = cls.origin(str(changes.get("weights", "none")), folder)
        return {"origin": earlier.config if earlier else None}

    @classmethod
    def origin(cls, weights: str, folder: Path) -> Run | None:
        """The earlier run beside ``folder`` that the knob ``weights`` names; None where it names something else.

        Raises:
            InputError: there is no such run.
        """
        if start_of(weights) != "run":
            return None
        earlier = folder.parent / checked_name(weights.removeprefix(FROM_RUN), "run")
        if not cls.exists(earlier):
            known = ", ".join(sorted(path.parent.name for path in folder.parent.glob("*/manifest.json"))) or "none"
            raise InputError(f"The field 'weights' is {weights!r}, but there is no run {earlier}; runs there: {known}.")
        return cls.open(earlier)

    def best_weights(self) -> dict[str, Any]:
        """The network's state dict of the best epoch.

        Raises:
            InputError: no epoch is complete, or the checkpoint is damaged.
        """
        best = checkpoints.load_checkpoint(self.best_path, self.log)
        told = max((row["epoch"] for row in self.history if row["best"]), default=None)
        before = checkpoints.previous(self.best_path)
        if best["epoch"] != told and before.exists():  # a kill came between this file and the history
            older = checkpoints.load_checkpoint(before, self.log)
            best = older if older["epoch"] == told else best
        if told and best["epoch"] != told:
            self.log(f"the weights of epoch {told}, the best, are gone; those of epoch {best['epoch']} are used")
        return best["model"]

    @contextmanager
    def fitting(self):
        """Where weights of a checkpoint are loaded: say so where this version of timm builds another network."""
        try:
            yield
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"The checkpoints of {self.folder} do not fit the network that timm {version('timm')} builds; the run "
                f"was started with timm {self.manifest['libraries']['timm']}: install that version."
            ) from error

    @classmethod
    def ask_to_stop(cls, folder: Path) -> None:
        """Ask the session that trains the run in ``folder``, or is about to, to stop after the step under way."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / cls.STOP).touch()

    @contextmanager
    def claim(self):
        """Keep others from training this run at the same time; the claim ends with this process, however it ends.

        Raises:
            InputError: another process of this machine trains it.
        """
        with open(self.folder / ".claim", "w", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock not kept by loader processes
            except (BlockingIOError, PermissionError):
                raise InputError(
                    f"The run {self.folder.name!r} is being trained by another session on this machine; stop that one "
                    "first, or start a run under another name."
                ) from None
            except OSError as error:
                self.log(f"this disk cannot keep a second session off this run ({error.strerror}); start none")
            yield

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
            write_json(self.results_path, results)

    @property
    def title(self) -> str:
        """What its figures are called."""
        return f"Run {self.folder.name}{' (drawn faces)' if self.manifest['drawn'] else ''}"

    @property
    def finished(self) -> bool:
        """Whether training has used up its epochs or its patience, as far as the results tell."""
        return self.results_path.exists() and read_json(self.results_path, "what training reached")["finished"]

    def read_metrics(self) -> dict:
        """What evaluation and export have measured so far, by their sections."""
        path = self.folder / "metrics.json"
        return read_json(path, "measured results") if path.exists() else {}

    def write_metrics(self, section: str, metrics: dict) -> None:
        """Put a section into ``metrics.json`` and leave the others as they are."""
        write_json(self.folder / "metrics.json", self.read_metrics() | {section: metrics})

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
        wanted, free = config.flat(), TrainConfig.knobs(resumable=True)
        mine = {name: value for name, value in self.config.flat().items() if name not in free}
        changed = [f"{name} {value!r} -> {wanted[name]!r}" for name, value in mine.items() if value != wanted[name]]
        if changed:
            raise InputError(
                f"The run {self.folder.name!r} was started with another config ({'; '.join(changed)}); set it back to "
                f"go on with it, or start a run under another name."
            )
        self.check_store(store)
