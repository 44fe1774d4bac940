"""The verdict: six criteria, each passed only where the data can bear it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from helpers.config import CRITERIA
from helpers.metrics import Measure, proportion

EMOTION_REFERENCE = ("fer2013", "rafdb")
"""Datasets whose published test rows, pooled, the emotion criterion is defined on."""

AGE_GENDER_REFERENCE = "utkface"


@dataclass(frozen=True)
class Finding:
    """One criterion's outcome: ``status`` is pass, borderline, fail, drawn faces, not measurable or not measured."""

    title: str
    wanted: str
    found: str
    status: str
    note: str


def verdict(metrics: dict, drawn: bool) -> list[Finding]:
    """Judge what evaluation and export measured.

    A pass needs the interval's bound on the safe side; where only the value is, the outcome is borderline. Drawn
    faces never pass what is measured on faces.

    Args:
        metrics: a run's ``metrics.json``.
        drawn: whether any of the run's faces are drawn.
    """
    test = metrics.get("test", {})
    emotion, note = _pooled_emotion(test.get("emotion", {}).get("by_dataset", {}))
    findings = {"emotion": _judge("emotion", emotion, 100.0, drawn, note)}
    for task, name, scale in (("gender", "accuracy", 100.0), ("age", "mae", 1.0)):
        measure = test.get(task, {}).get("by_dataset", {}).get(AGE_GENDER_REFERENCE, {}).get(name)
        findings[task] = _judge(task, measure, scale, drawn, f"{AGE_GENDER_REFERENCE} test rows")
    findings["gap"] = _judge("gap", metrics.get("gap"), 100.0, drawn, "emotion accuracy, training minus validation")
    onnx = metrics.get("onnx", {})
    findings["onnx"] = _judge("onnx", onnx.get("difference"), 1.0, False, "checker and PyTorch on validation faces")
    findings["latency"] = _judge("latency", onnx.get("milliseconds"), 1.0, False, "one CPU thread, the whole graph")
    return [findings[name] for name in CRITERIA]


def _pooled_emotion(parts: dict[str, dict]) -> tuple[Measure | None, str]:
    """Emotion accuracy over the reference test sets that are there, and what to say of it."""
    present = [parts[name]["accuracy"] for name in EMOTION_REFERENCE if name in parts]
    missing = [name for name in EMOTION_REFERENCE if name not in parts]
    if not present:
        return None, f"no test rows of {' or '.join(EMOTION_REFERENCE)}"
    n = sum(part["n"] for part in present)
    pooled = proportion(round(sum(part["value"] * part["n"] for part in present)), n)
    if missing:
        return pooled, f"not measurable on the reference set: {', '.join(missing)} is missing"
    return pooled, f"{' and '.join(EMOTION_REFERENCE)} test rows"


def _judge(name: str, measure: Measure | None, scale: float, drawn: bool, note: str) -> Finding:
    criterion = CRITERIA[name]
    # A gap must stay below its bound, an accuracy may just reach it; with real numbers this makes no difference.
    wanted = f"{'≥' if criterion.at_least else '≤'} {criterion.bound:g} {criterion.unit}"
    if measure is None:
        return Finding(criterion.title, wanted, "-", "not measured", note)
    unbounded = {"low": -math.inf, "high": math.inf}  # null in a file
    value, low, high = (
        scale * (unbounded[key] if measure[key] is None else measure[key]) for key in ("value", "low", "high")
    )
    interval = f" ({low:.3g} to {high:.3g})" if low < high else ""  # a largest difference has none
    found = f"{value:.3g}{interval}, n = {measure['n']}"
    if note.startswith("not measurable"):
        status = "not measurable"
    elif drawn:
        status = "drawn faces"
    elif low >= criterion.bound if criterion.at_least else high <= criterion.bound:
        status = "pass"
    else:
        status = "borderline" if (value >= criterion.bound) == criterion.at_least else "fail"
    return Finding(criterion.title, wanted, found, status, note)


def verdict_table(findings: list[Finding]) -> pd.DataFrame:
    """The verdict as a table to read."""
    columns = ["criterion", "wanted", "found (95 % interval)", "verdict", "measured on"]
    rows = [(f.title, f.wanted, f.found, f.status, f.note) for f in findings]
    return pd.DataFrame(rows, columns=columns)
