"""The verdict: six criteria, each passed only where the data can bear it."""

import math
from dataclasses import dataclass

import pandas as pd

from helpers.config import CRITERIA, Criterion
from helpers.metrics import Measure, proportion
from helpers.tasks import TASKS


@dataclass(frozen=True)
class Finding:
    """One criterion's outcome: ``status`` is pass, borderline, fail, drawn faces, not measurable or not measured.

    ``advice`` is what to change next, where it is not a pass.
    """

    title: str
    wanted: str
    found: str
    status: str
    note: str
    advice: str = ""


_AGAIN = {"evaluation": "run notebook 05 (evaluate) again", "export": "run notebook 06 (export) again"}


def verdict(metrics: dict, drawn: bool, weights: str | None = None) -> list[Finding]:
    """Judge what evaluation and export measured on the same weights.

    A pass needs the interval's bound on the safe side; where only the value is, the outcome is borderline. Drawn
    faces never pass what is measured on faces.

    Args:
        metrics: a run's ``metrics.json``, by its sections.
        drawn: whether any of the run's faces are drawn.
        weights: the SHA-256 of the weights to judge, which are the run's best; where they are not known, sections of
            different weights are judged neither.
    """
    measured = {name: metrics[name].get("weights") for name in _AGAIN if name in metrics}
    if weights is None and len(set(measured.values())) == 1:
        (weights,) = set(measured.values())
    findings = []
    for criterion in CRITERIA.values():
        (section, name), note = criterion.where, criterion.note
        measure = metrics.get(section, {}).get(name)
        if section in measured and measured[section] != weights:
            measure, note = None, f"measured on other weights than the run has now: {_AGAIN[section]}"
        elif criterion.reference:
            measure, note = _pooled((measure or {}).get(criterion.task, {}).get("by_dataset", {}), criterion)
        findings.append(_judge(criterion, measure, drawn and bool(criterion.task), note))
    return findings


def _pooled(parts: dict[str, dict], criterion: Criterion) -> tuple[Measure | None, str]:
    """A task's measure over the reference test sets that are there, and what to say of it."""
    task, wanted = TASKS[criterion.task], " and ".join(criterion.reference)
    present = [parts[name][task.measure] for name in criterion.reference if name in parts]
    if not present:
        return None, f"no test rows of {wanted}"
    pooled, n = present[0], sum(part["n"] for part in present)
    if len(present) > 1:  # of shares
        pooled = proportion(round(sum(part["value"] * part["n"] for part in present)), n)
    if missing := [name for name in criterion.reference if name not in parts]:
        return pooled, f"not measurable on the reference set: {', '.join(missing)} is missing"
    return pooled, f"{wanted} test rows"


def _judge(criterion: Criterion, measure: Measure | None, drawn: bool, note: str) -> Finding:
    # A gap must stay below its bound, an accuracy may just reach it; with real numbers this makes no difference.
    wanted = f"{'≥' if criterion.at_least else '≤'} {criterion.bound:g} {criterion.unit}"
    if measure is None:
        return Finding(criterion.title, wanted, "-", "not measured", note)
    # Null in a file: no bound, or a value that is no number, which is as bad as can be.
    unbounded = {"low": -math.inf, "high": math.inf, "value": -math.inf if criterion.at_least else math.inf}
    scale = TASKS[criterion.task].scale if criterion.task else 1.0
    known = {key: bound if measure[key] is None or math.isnan(measure[key]) else measure[key]
             for key, bound in unbounded.items()}  # fmt: skip
    value, low, high = (scale * known[key] for key in ("value", "low", "high"))
    interval = f" ({low:.3g} to {high:.3g})" if low < high else ""  # a largest difference has none
    if note.startswith("not measurable"):
        status = "not measurable"
    elif drawn:
        status = "drawn faces"
    elif low >= criterion.bound if criterion.at_least else high <= criterion.bound:
        status = "pass"
    else:
        status = "borderline" if (value >= criterion.bound) == criterion.at_least else "fail"
    advice = criterion.advice if status in ("borderline", "fail") else ""
    return Finding(criterion.title, wanted, f"{value:.3g}{interval}, n = {measure['n']}", status, note, advice)


def verdict_table(findings: list[Finding]) -> pd.DataFrame:
    """The verdict as a table to read."""
    columns = ["criterion", "wanted", "found (95 % interval)", "verdict", "measured on", "what now"]
    return pd.DataFrame(findings).set_axis(columns, axis=1)  # the fields, in their order
