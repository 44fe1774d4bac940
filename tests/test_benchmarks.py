"""The benchmarks run and end with one JSON line; what they measure is not judged here, since machines are noisy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("name", "options", "figures"),
    [
        ("loader", ["--batches", "2", "--workers", "0"], {"loader_ratio", "float_batch_ratio"}),
        (
            "store",
            ["--sizes", "400", "800", "--workers", "1"],
            {"packing_faces_per_s", "first_batch_s", "first_batch_ratio", "memory_ratio"},
        ),
        (
            "evaluation",
            ["--predictions", "2000", "--predict", "64", "--backbone", "test_resnet", "--size", "64"],
            {"measures_s", "figures_s", "predicting_by_forward"},
        ),
        ("detector", ["--most", "3", "--scenes", "1"], {"threshold", "ms_640x480"}),
        (
            "training",
            ["--part", "speed", "--steps", "2", "--backbone", "test_resnet", "--size", "32", "--workers", "0"],
            {"end_to_end_ratio"},
        ),
        (
            "training",
            [
                "--part",
                "learn",
                "ablation",
                "--minutes",
                "0.01",
                "--seeds",
                "1",
                "--backbone",
                "test_resnet",
                "--size",
                "32",
                "--workers",
                "0",
            ],
            {"emotion_gain", "over_bare_loop", "estimate_ratio", "worth"},
        ),
    ],
)
def test_a_benchmark_ends_with_its_ratios(store, name, options, figures):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--faces", str(store.folder), "--rounds", "1", *options]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    last = json.loads(found.stdout.splitlines()[-1])
    assert figures <= set(last) and (name in ("training", "evaluation") or all(last[figure] > 0 for figure in figures))
    assert last["faces"] == len(store) and last["drawn"] is True
    assert not list(store.folder.parent.glob("tmp*")), "nothing is left behind"
