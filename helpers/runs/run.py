"""A run's folder: what was asked for, on which faces, what has been learned so far and what came of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from helpers import files
from helpers.config import FROM_RUN, TrainConfig, start_of
from helpers.data.store import FaceStore
from helpers.files import InputError, read_record, run_first, write_file, write_json
from helpers.runs import checkpoints
from helpers.session.workspace import checked_name
from helpers.tasks import TASKS, check_classes

FORMAT = 2
"""Raised when what a run's folder or its checkpoints hold changes: an older run is then refused in a sentence."""


@dataclass
class Run:
    """An opened run folder.

    Attributes:
        folder: ``<workspace>/runs/<run>``.
        config: the config it is trained with.
        manifest: which faces and library versions it was started with.
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
        if run := cls.resumed(folder, config, store):
            return run
        libraries = {name: version(name) for name in ("torch", "timm", "albumentations", "numpy")}
        manifest: dict[str, Any] = {"format": FORMAT, "store": store.identity, "drawn": store.drawn}
        manifest |= {"libraries": libraries, "config": _fixed(config), "grey": store.learned_in_grey()}
        if earlier := cls.origin(config.model.weights, folder):  # what these faces do not teach is read as it was
            taught = [task for task in TASKS if store.known(task)[store.rows("train")].any()]
            manifest["grey"] |= {k: v for k, v in earlier.manifest.get("grey", {}).items() if k not in taught}
        manifest |= {name: store.manifest[name] for name in ("classes", "sources")}
        config.save(folder / "config.json")
        # Last, since its presence is what makes the folder a run.
        write_json(folder / "manifest.json", manifest)
        return cls(folder, config, manifest)

    @classmethod
    def resumed(cls, folder: Path, config: TrainConfig, store: FaceStore) -> Run | None:
        """The run in ``folder`` as training goes on with it; None where there is none.

        Raises:
            InputError: it was started with another config or other faces.
        """
        if not cls.exists(folder):
            return None
        run = cls.open(folder)
        wanted, mine = config.flat(), _fixed(run.config)
        changed = [f"{name} {value!r} -> {wanted[name]!r}" for name, value in mine.items() if value != wanted[name]]
        if changed:
            raise InputError(
                f"The run {folder.name!r} was started with another config ({'; '.join(changed)}); set it back to go on "
                "with it, or start a run under another name."
            )
        run.check_store(store)
        run.config = config
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run to read it.

        Raises:
            InputError: there is no run, it is another version's, or its files are damaged.
        """
        mend = "bring back a copy of it, or delete it and train with --config config.json, which goes on from there"
        if not (path := folder / "manifest.json").exists():
            raise run_first("04", f"there is no training run in {folder}")
        manifest = read_record(path, "a training run", mend, FORMAT)
        if manifest.get("format") != FORMAT:
            raise InputError(f"{folder} was trained by another version of this project; start a run under a new name.")
        check_classes(manifest["classes"], f"The run {folder}")
        config = TrainConfig.load(folder / "config.json").flat()
        for name, value in manifest.get("config", {}).items():
            if config.get(name, value) != value:
                raise InputError(
                    f"{folder / 'config.json'}: the field {name!r} is {config[name]!r}, but the run was started with "
                    f"{value!r}: put that back."
                )
        return cls(folder, TrainConfig().replace(**config), manifest)

    @cached_property
    def history(self) -> list[dict]:
        """One dict per finished epoch, as in ``history.jsonl``; read when it is asked for, which training never does.

        Raises:
            InputError: the file is damaged.
        """
        mend = "train again (notebook 04), which writes it anew from the last checkpoint"
        results = self.read_results()  # before the history, which is written first
        if not self.history_path.exists() and not results:
            return []
        lines = files.read_text(self.history_path, "an epoch in each line", mend).splitlines(keepends=True)
        rows = [files.parse_json(line, str(self.history_path), "an epoch in each line", mend) for line in lines]
        told = results.get("history")
        if told and told != _sha256("".join(lines[: results["epochs"]])):
            raise InputError(f"{self.history_path} is damaged, since results.json tells of other epochs: {mend}.")
        return rows

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

    def best_weights(self) -> dict[str, Tensor]:
        """The network's state dict of the best epoch.

        Raises:
            InputError: no epoch is complete, or the checkpoint is damaged or holds what is no finite number.
        """
        mend = "train on, since the next better epoch writes it anew, bring back a copy of it, or start a run under "
        mend += f"another name with weights = {str(self.last_path)!r}"
        best = checkpoints.load_checkpoint(self.best_path, mend, self.log)
        told = max((row["epoch"] for row in self.history if row["best"]), default=None)
        if best["epoch"] != told:  # a kill came between this file and the history
            with suppress(InputError):
                older = checkpoints.load_checkpoint(checkpoints.previous(self.best_path))
                best = older if older["epoch"] == told else best
        if told and best["epoch"] != told:
            self.log(f"the weights of epoch {told}, the best, are gone; those of epoch {best['epoch']} are used")
        if name := checkpoints.not_finite(best["model"]):
            raise InputError(
                f"The weights of epoch {best['epoch']} in {self.best_path} hold what is no finite number ({name}): "
                "start a run under another name with a lower learning rate."
            )
        return best["model"]

    @property
    def weights(self) -> str:
        """The SHA-256 of the best epoch's weights, which everything that is measured on them names."""
        return checkpoints.fingerprint(self.best_weights())

    def last_state(self) -> dict | None:
        """The newest checkpoint that is whole, for the session that goes on from it; damaged ones are set aside.

        Raises:
            InputError: all that there are are damaged.
        """
        mend = "bring back a copy of the run, or start one under another name with weights = "
        mend += f"'{FROM_RUN}{self.folder.name}', which begins with the best epoch of this one"
        with suppress(InputError):  # the next better epoch is written all the same
            checkpoints.load_checkpoint(self.best_path, on_damage=self.log, aside=True)
        if not checkpoints.exists(self.last_path):
            return None
        return checkpoints.load_checkpoint(self.last_path, mend, self.log, aside=True)

    @contextmanager
    def fitting(self):
        """Where a checkpoint is loaded: say so where it is of another network, or this version of timm builds one."""
        try:
            yield
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"The checkpoints of {self.folder} do not fit the network that timm {version('timm')} builds; the run "
                f"was started with timm {self.manifest['libraries']['timm']}: install that version, or where it is the "
                "same bring back a copy of the run."
            ) from error

    @classmethod
    def ask_to_stop(cls, folder: Path) -> None:
        """Ask the session that trains the run in ``folder``, or is about to, to stop after the step under way."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / cls.STOP).touch()

    @contextmanager
    def claim(self, doing: str = "trained"):
        """Keep others from doing the same to this run at the same time; it ends with this process, however it ends.

        Raises:
            InputError: another process of this machine does it.
        """
        busy = f"The run {self.folder.name!r} is being {doing} by another session on this machine; stop that one first"
        with files.only_writer(self.folder / f".{doing}.lock", f"{busy}, or wait for it.") as held:
            if not held:
                self.log("this disk cannot keep a second session off this run; start none")
            yield

    def write_history(self, **about) -> None:
        """Write all finished epochs, and ``results.json``: what training reached so far, its best and its last epoch.

        A resumed run drops the epochs that its checkpoint does not know.
        """
        if not self.writes or not (self.history or self.history_path.exists()):
            return
        lines = "".join(map(files.to_json, self.history))
        write_file(self.history_path, lines)
        if self.history:
            best = next(row for row in reversed(self.history) if row["best"])
            about |= {"epochs": len(self.history), "history": _sha256(lines), "best": best, "last": self.history[-1]}
            write_json(self.results_path, about)
        else:
            files.remove(self.results_path)

    def log(self, line: str) -> None:
        """Add a line with the time to ``train.log``, and show it; on a full disk it is only shown."""
        if not self.writes:
            return
        with suppress(OSError), open(self.folder / "train.log", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        self.echo(line)

    @property
    def title(self) -> str:
        """What its figures are called."""
        return f"Run {self.folder.name}{' (drawn faces)' if self.manifest['drawn'] else ''}"

    def read_results(self) -> dict:
        """What training reached so far; nothing before the first epoch is complete."""
        if not self.results_path.exists():
            return {}
        mend = "train again (notebook 04), which writes it anew from the last checkpoint"
        return read_record(self.results_path, "what training reached", mend)

    def read_metrics(self) -> dict:
        """What evaluation and export have measured so far, by their sections."""
        path, mend = self.folder / "metrics.json", "delete it and run notebooks 05 and 06 again, which measure it anew"
        return read_record(path, "measured results", mend) if path.exists() else {}

    def write_metrics(self, section: str, metrics: dict) -> None:
        """Put a section into ``metrics.json`` and leave the others as they are."""
        with files.only_writer(self.folder / ".metrics.lock", "", wait=True):
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


def _fixed(config: TrainConfig) -> dict[str, Any]:
    """The knobs that a run keeps for good."""
    free = TrainConfig.knobs(resumable=True)
    return {name: value for name, value in config.flat().items() if name not in free}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
