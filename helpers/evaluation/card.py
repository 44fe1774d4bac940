"""The model card: what the run was made of, what it reached, and what it must not be used for."""

import shlex
from pathlib import Path
from string import Template

import pandas as pd
import timm

from helpers.config import TrainConfig, start_of
from helpers.evaluation.measures import summary
from helpers.evaluation.verdict import verdict, verdict_table
from helpers.files import run_first, write_file
from helpers.runs.run import Run
from helpers.tasks import EMOTIONS, TASKS
from helpers.training.pretrained import FACES

_TEMPLATE = Path(__file__).with_name("model_card.md")


def write_card(run: Run) -> Path:
    """Write the run's ``MODEL_CARD.md`` from its ``metrics.json``.

    Raises:
        InputError: the run was not evaluated, or its weights have changed since.
    """
    metrics, results = run.read_metrics(), run.read_results()
    found = metrics.get("evaluation", {})
    if found.get("weights") != run.weights:
        raise run_first("05", f"{run.folder} has no evaluation of its weights")
    # Of a file of weights the name alone: where it lay is nobody's business.
    knobs = run.config.flat() | {"weights": Path(run.config.model.weights).name}
    changed = {name: value for name, value in knobs.items() if value != TrainConfig().flat()[name]}
    given = [part for name, value in changed.items() for part in (f"--{name}", str(value))]
    path = run.folder / "MODEL_CARD.md"
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        run=run.folder.name,
        emotions=", ".join(EMOTIONS),
        drawn=" **Its faces are drawn: the figures say nothing about real ones.**" if run.manifest["drawn"] else "",
        results=_table(summary(found)),
        verdict=_table(verdict_table(verdict(metrics, run.manifest["drawn"], run.weights)).drop(columns="what now")),
        groups=_groups(found.get("groups", {})),
        calibration=_calibration(found.get("calibration", {})),
        sources="\n".join(f"- {name}: {source['terms']}" for name, source in run.manifest["sources"].items()),
        grey="".join(
            f"\nAll faces that taught it {task} are grey: it reads that from a grey view of {side} pixels a side.\n"
            for task, side in run.manifest.get("grey", {}).items()
        ),
        start=starting_terms(run),
        made=f"{results['epochs']} epochs in {results['minutes']:.0f} minutes; the best was epoch "
        f"{results['best']['epoch']}. " + ", ".join(f"{n} {v}" for n, v in run.manifest["libraries"].items()) + ".",
        store=run.manifest["store"],
        command=shlex.join(["python", "-m", "helpers", "train", "--recipe", "seed", *given]),
        weights=run.weights,
    )
    write_file(path, text)
    return path


def starting_terms(run: Run) -> str:
    """What the network started from, and the licence of those weights as timm names it."""
    model = run.config.model
    start = start_of(model.weights)
    if start == "none":
        return "random weights"
    if start == "faces":
        return FACES.terms
    about = timm.models.get_pretrained_cfg(model.backbone)
    licence = (about.license if about else None) or "a licence that timm does not name"
    if start == "imagenet":
        return f"ImageNet weights of {model.backbone} ({licence})"
    return f"{Path(model.weights).name} (for the published weights of {model.backbone} timm names {licence})"


def _table(table: pd.DataFrame) -> str:
    """Markdown of a table."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _groups(found: dict) -> str:
    lines = []
    for name, task in TASKS.items():
        for grouping, parts in found.get(name, {}).items():
            if grouping == "worst" or "note" in parts:
                continue
            for group, part in parts.items():
                value, low, high = (task.scale * (part["measure"][end] or 0) for end in ("value", "low", "high"))
                count = f"{part['measure']['n']}{' (few)' if part['small'] else ''}"
                interval = f"{low:.1f} to {high:.1f}"
                lines.append((task.title, grouping, group, f"{value:.1f}{task.unit}", interval, count))
        if worst := found.get(name, {}).get("worst"):
            lines.append((task.title, "worst", f"{worst['grouping']} {worst['group']}", "", "", ""))
    table = _table(pd.DataFrame(lines, columns=["measure", "by", "group", "value", "95 % interval", "faces"]))
    return table if lines else "Not measurable: no group is known of a test face."


def _calibration(found: dict) -> str:
    lines = []
    for name, task in TASKS.items():
        about = found.get(name, {})
        if "ece_after" in about:
            before, after = (100 * (about[key]["value"] or 0) for key in ("ece_before", "ece_after"))
            lines.append(f"- {name}: its confidence is {after:.1f} points off on average ({before:.1f} before the "
                         f"temperature {about['temperature']:.2f}, which the exported file applies)")  # fmt: skip
        elif "inside" in about:
            lines.append(f"- {name}: {about['inside']['value']:.0%} of true ages lie in the 80 % range that it states")
        elif about:
            lines.append(f"- {task.title}: {about['note']}")
    return "\n".join(lines) or "Not measured."
