"""Training: what a recipe learns in equal time, and how much of the device's speed the whole line keeps.

Three ways to train the same network from the same random weights on the same faces for the same minutes: the recipes
``seed`` and ``production``, and a bare loop, which is what one writes in half an hour: AdamW at 3e-3, one cosine,
averaged weights, light augmentation, faces decoded beforehand. All are measured on the validation split.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch.nn import functional as F

from benchmarks.common import finish, opened, paired, parser, ratio
from helpers import plots
from helpers.config import RECIPES, TrainConfig, decide, recipe
from helpers.data.geometry import draw_warps, resize, warp
from helpers.data.store import FaceStore, pack
from helpers.runs.run import Run
from helpers.tasks import AGE_CENTRE, AGE_SPREAD, TASKS, UNKNOWN
from helpers.training.estimate import probe
from helpers.training.loop import fit, train_step
from helpers.training.model import FaceModel, create_model, parameter_counts
from helpers.training.predict import load_best, predict
from helpers.training.processes import computing_with, cpu_threads
from helpers.training.schedule import size_at
from helpers.training.state import build

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

SWITCHES: dict[str, dict] = {
    "whole": {},
    "without averaged weights": {"ema": 0.0},
    "restarts instead of one cosine": {"schedule": "restarts", "warmup": 0.0},
    "a rate of 1e-4, as the seed's": {"lr": 1e-4},
    "one number for the age": {"age_head": "number", "age_weight": 0.5},
    "four times the weight of age": {"age_weight": 0.2},
    "the seed's focal loss": {"focal_alpha": 0.25, "focal_gamma": 2.0},
    "without label smoothing": {"label_smoothing": 0.0},
    "class weights of 0.5": {"class_weights": 0.5},
    "mixing half of all steps": {"mix_probability": 0.5, "mix_ramp": 0, "mix_fade": 0.0},
    "without augmentation": {"augment": 0.0},
    "the seed's augmentation": {"augment": 1.0},
    "the seed's dropout": {"dropout_in": 0.5, "dropout_hidden": 0.4},
}
"""``production`` with one thing changed: what it does without, or what it leaves out."""

_TENTH = {"lr": 2e-3, "backbone_lr": 0.1, "layer_decay": 0.9, "head_epochs": 1}
_EVEN = {"lr": 1e-3, "backbone_lr": 1.0, "layer_decay": 1.0, "head_epochs": 0}

GUARDS = ("augment", "mix_probability", "mix_ramp", "mix_fade", "weight_decay", "dropout_in")

STARTS_TRIED: dict[str, dict] = {
    "a tenth of 2e-3, layer decay 0.9, heads first": _TENTH,
    "the same, without heads first": _TENTH | {"head_epochs": 0},
    "the same, without layer decay": _TENTH | {"layer_decay": 1.0},
    "1e-3 for all": _EVEN,
    "5e-4 for all": _EVEN | {"lr": 5e-4},
    "2e-3 for all": _EVEN | {"lr": 2e-3},
    "1e-3, heads at 3e-3": _EVEN | {"lr": 3e-3, "backbone_lr": 1 / 3},
    "1e-3, layer decay 0.9": _EVEN | {"layer_decay": 0.9},
    "1e-3, heads first": _EVEN | {"head_epochs": 1},
    "1e-3, warm-up of 0.1 epochs": _EVEN | {"warmup": 0.1},
    "random weights at 3e-3": {"weights": "none", "lr": 3e-3, "backbone_lr": 1.0, "layer_decay": 1.0, "head_epochs": 0},
}
"""Ways to begin with pretrained weights under ``production``."""

GUARDS_TRIED: dict[str, dict] = {
    "production": {},
    "the guards before": {knob: RECIPES["quick"].flat()[knob] for knob in GUARDS},
    "mixing as before": {knob: RECIPES["quick"].flat()[knob] for knob in GUARDS if knob.startswith("mix")},
    "augmentation as before": {"augment": RECIPES["quick"].flat()["augment"]},
    "weight decay and dropout as before": {"weight_decay": 0.02, "dropout_in": 0.2},
    "without label smoothing": {"label_smoothing": 0.0},
    "age weight 0.05": {"age_weight": 0.05},
    "age weight 0.2": {"age_weight": 0.2},
}
"""What keeps ``production`` from learning by heart, and what the ages may weigh; one thing changed at a time."""


def measure(model: FaceModel, store: FaceStore, flip: bool) -> dict[str, float]:
    """Emotion and gender accuracy in percent, age error in years, on the validation split."""
    found = predict(model.to(DEVICE), store, store.rows("validation"), flip=flip)
    measures = found.point_measures()
    return {name: task.scale * (measures[task.key] or 0.0) for name, task in TASKS.items()}


def by_recipe(name: str, store: FaceStore, minutes: float, folder: Path, epochs: int | None = None, **changes) -> dict:
    """Train a recipe for the minutes: one with a single cosine for the epochs that fit, others until they are over.

    Args:
        epochs: train so many instead, whatever the time.
    """
    config, estimated = recipe(name, patience=1000, **changes), None
    if epochs:
        config = config.replace(epochs=epochs)
    elif config.schedule.schedule == "cosine":
        found = probe(config, store)
        within = [epochs for epochs in range(2, 1001) if found.seconds(epochs=epochs) <= 60 * minutes]
        config = config.replace(epochs=max(within, default=1))
        estimated = found.seconds(epochs=config.schedule.epochs) / 60
    else:
        config = config.replace(max_minutes=minutes)
    start = time.perf_counter()
    run = fit(config, store, folder)
    took = (time.perf_counter() - start) / 60
    plots.curves(run.history, f"{folder.name}, {took:.1f} minutes").savefig(folder.with_suffix(".png"))
    reached = measure(load_best(run), store, config.model.flip_test) | {"minutes": took, "epochs": len(run.history)}
    return reached | ({"estimated": estimated} if estimated else {})


def bare(store: FaceStore, minutes: float, config: TrainConfig) -> dict:
    """The bare loop: no loader, no audit of its own, no resume; measured once, at its end."""
    torch.manual_seed(config.run.seed)
    rng = np.random.default_rng(config.run.seed)
    rows = store.rows("train")
    size, batch_size = config.model.img_size, config.data.batch_size
    faces = torch.cat([resize(torch.from_numpy(store.image(row))[None], size).round().byte() for row in rows])
    faces = faces.permute(0, 2, 3, 1).contiguous().to(DEVICE)
    emotion, gender = (
        torch.from_numpy(store.labels(t)[rows].astype(np.int64)).to(DEVICE) for t in ("emotion", "gender")
    )
    age = torch.from_numpy(store.labels("age")[rows]).to(DEVICE).mean(dim=1)
    model = create_model(config.model).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.02, fused=True)
    average = ModelEmaV3(model, 0.999, use_warmup=True)
    start, step, order = time.perf_counter(), 0, np.array([], int)
    scaler = torch.amp.GradScaler(DEVICE, enabled=DEVICE == "cuda")
    light = {"flip": (0.5, 1.0), "rotate": (0.5, 10.0), "scale": (0.5, 0.1), "shift": (0.5, 0.08)}
    model.train()
    while (done := (time.perf_counter() - start) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + np.cos(np.pi * done)) * min(1, (step + 1) / 200)
        if len(order) < batch_size:
            order = rng.permutation(len(rows))
        chosen, order = torch.from_numpy(order[:batch_size]).to(DEVICE), order[batch_size:]
        warps = torch.from_numpy(draw_warps(rng, batch_size, **light)).to(DEVICE)
        with torch.autocast(DEVICE, torch.float16, enabled=DEVICE == "cuda"):
            out = model(model.normalise(warp(faces[chosen], warps, size)))
        years, known = age[chosen], ~age[chosen].isnan()
        loss = F.cross_entropy(out["emotion"].float(), emotion[chosen], ignore_index=UNKNOWN)
        loss = loss + 0.5 * F.cross_entropy(out["gender"].float(), gender[chosen], ignore_index=UNKNOWN)
        loss = loss + 0.5 * F.smooth_l1_loss(out["age"][known, 0].float(), (years[known] - AGE_CENTRE) / AGE_SPREAD)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        average.update(model, step)
        step += 1
    took = (time.perf_counter() - start) / 60
    return measure(average.module, store, flip=False) | {"minutes": took, "epochs": step * batch_size / len(rows)}


def learn(store: FaceStore, options: argparse.Namespace, keep: Path) -> dict[str, float]:
    """The three ways in turn, for each seed; returns what production is worth, in points and years."""
    about = _about(options, weights="none")
    found: dict[str, list[dict]] = {}
    for seed in range(options.seeds):
        for name in ("production", "seed", "bare"):
            if name == "bare":
                # What one writes in half an hour has one number for the age; it gets the minutes that production took.
                config = recipe("production", **about, seed=seed, age_head="number")
                with computing_with(cpu_threads(torch.device(DEVICE))):
                    one = bare(store, found["production"][-1]["minutes"], config)
            else:
                one = by_recipe(name, store, options.minutes, keep / f"{name}-{seed}", seed=seed, **about)
            found.setdefault(name, []).append(one)
            print(f"seed {seed}, {name}: {_text(one)}", flush=True)

    def paired_difference(task: str, first: str, second: str) -> float:
        pairs = zip(found[first], found[second], strict=True)
        return round(statistics.mean(a[task] - b[task] for a, b in pairs), 2)

    estimates = [one["estimated"] / one["minutes"] for one in found["production"]]
    return {
        "emotion_gain": paired_difference("emotion", "production", "seed"),
        "gender_gain": paired_difference("gender", "production", "seed"),
        "age_gain_years": paired_difference("age", "seed", "production"),
        "over_bare_loop": paired_difference("emotion", "production", "bare"),
        "estimate_ratio": round(statistics.median(estimates), 2),
    }


def ablate(store: FaceStore, options: argparse.Namespace, keep: Path) -> dict[str, float]:
    """``production`` with one thing changed at a time; returns the points of emotion accuracy that each is worth.

    All train the same epochs, since those that fit into the minutes would differ by a whole one here and there.
    """
    about = _about(options, weights="none")
    found: dict[str, dict] = {}
    for number, (name, changes) in enumerate(SWITCHES.items()):
        if options.only and name != "whole" and number not in options.only:
            continue
        folder = keep / f"switch-{number}"
        found[name] = by_recipe("production", store, 0.0, folder, options.epochs, **about | changes)
        print(f"{number} {name}: {_text(found[name])}", flush=True)
        if name == "whole":
            found["without the mirror"] = found[name] | measure(load_best(Run.open(folder)), store, flip=False)
    whole = found.pop("whole")
    print(f"\n{'production':32}{'emotion':>10}{'gender':>10}{'age error':>11}   (changes of the figure)")
    for name, one in found.items():
        print(f"{name:32}" + "".join(f"{one[task] - whole[task]:+10.1f}" for task in ("emotion", "gender", "age")))
    return {name: round(whole["emotion"] - one["emotion"], 2) for name, one in found.items()}


def tried(part: str, ways: dict, store: FaceStore, options: argparse.Namespace, keep: Path) -> dict[str, dict]:
    """What ``production`` reaches from the asked weights with each way's changes, all for the same epochs."""
    about = _about(options, weights=options.weights, seed=options.seed)
    found = {}
    for number, (name, changes) in enumerate(ways.items()):
        if options.only is None or number in options.only:
            folder = keep / f"{part}-{number}-seed-{options.seed}"
            found[name] = by_recipe("production", store, 0.0, folder, options.epochs, **about | changes)
            print(f"{number} {name}: {_text(found[name])}", flush=True)
    return found


def backbones(store: FaceStore, options: argparse.Namespace, keep: Path) -> dict[str, dict[str, float]]:
    """``production`` with each backbone for the same minutes, ``<backbone>`` from random weights or
    ``<backbone>=<start>``; what each reaches, its parameters, and how long one face takes on one thread.
    """
    found = {}
    for asked in options.backbones:
        name, _, weights = asked.partition("=")
        about = _about(options, backbone=name, weights=weights or "none", seed=options.seed)
        found[asked] = one = by_recipe("production", store, options.minutes, keep / f"backbone-{name}", **about)
        model = load_best(Run.open(keep / f"backbone-{name}")).cpu()
        one["parameters"] = parameter_counts(model)[0]
        with computing_with(1), torch.inference_mode():
            pixels = torch.zeros(1, 3, options.size, options.size)
            times = []
            for _ in range(60):
                start = time.perf_counter()
                model(pixels)
                times.append(time.perf_counter() - start)
        one["milliseconds"] = 1000 * statistics.median(times)
        print(f"{asked}: {_text(one)}, {one['parameters'] / 1e6:.1f} M, {one['milliseconds']:.1f} ms", flush=True)
    return found


def fine_tuning(options: argparse.Namespace, keep: Path) -> dict[str, dict[str, float]]:
    """A few hundred drawn faces of people over 60 as one's own: from an earlier run on other drawn faces, and anew.

    The earlier run has learned from faces of all ages, drawn from other seeds. Both ways train the same epochs, and
    are measured on 500 further faces of such people.
    """
    from drawn_faces.datasets import write_own_faces

    def drawn(name: str, faces: int, seed: int) -> FaceStore:
        old = [(n % 7, 60 + n % 35, n // 7 % 2) for n in range(faces)]
        return pack({"own": write_own_faces(keep / name, old, seed)}, keep / f"{name}-faces")

    few, further = drawn("few", options.few, options.seed + 1), drawn("further", 500, options.seed + 1001)
    folder, found = keep / "few-runs", {}
    if not Run.exists(folder / "earlier"):
        with opened(options.faces) as store:
            fit(recipe("demo"), store, folder / "earlier")
    ways: dict[str, dict] = {"anew": {}, "from the earlier run": {"weights": "run:earlier"}}
    for name, changes in ways.items():
        earlier = Run.origin(str(changes.get("weights", "none")), folder / name)
        changes |= {"epochs": options.epochs, "seed": options.seed}
        config = decide("demo", changes, origin=earlier.config if earlier else None)
        run = fit(config, few, folder / f"{name}-{options.seed}-{options.epochs}")
        said = predict(load_best(run), further, np.arange(len(further))).point_measures()
        found[name] = {task.brief: task.scale * (said[task.key] or 0.0) for task in TASKS.values()}
        print(f"{name}: {found[name]}", flush=True)
    return found


def speed(store: FaceStore, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Faces/s of the whole line by those of its steps on batches that lie on the device, per recipe and size."""
    ratios = {}
    for name in options.recipes:
        for size in sorted({options.size, size_at(0, options.size, recipe("production").schedule)}):
            config = recipe(name, **_about(options, weights="none", img_size=size))
            found = paired(options.rounds, _ways(store, config, options.steps))
            ratios[f"{name}_{size}"] = round(ratio(found, "end to end", "on the device"), 3)
            values = ", ".join(f"{way} {statistics.median(values):,.0f} faces/s" for way, values in found.items())
            print(f"{name} at {size} px: {values}", flush=True)
    return {"end_to_end_ratio": ratios}


def _ways(store: FaceStore, config: TrainConfig, steps: int) -> dict:
    """The steps of a config fed by its loader, and by batches that are on the device already."""
    training, size = build(config, store, fetch_weights=False), config.model.img_size
    ready = [batch.to(training.device) for batch in islice(training.batches(size), 8)]

    def timed(batches) -> float:
        training.step = 0
        with computing_with(cpu_threads(training.device)):
            batches = iter(batches())
            for batch in islice(batches, 5):
                train_step(training, batch)
            training.guard.check()
            start = time.perf_counter()
            count = 0
            for batch in islice(batches, steps):
                train_step(training, batch)
                count += len(batch.rows)
                if training.guard.full:
                    training.guard.check()
            training.guard.check()  # waits for the device
            return count / (time.perf_counter() - start)

    return {
        "end to end": lambda: timed(lambda: training.batches(size)),
        "on the device": lambda: timed(lambda: (replace(ready[n % len(ready)], step=n) for n in range(steps + 5))),
    }


def _about(options: argparse.Namespace, **knobs) -> dict:
    """The knobs that the options name, then those of ``--set``, then those of what is compared."""
    now = TrainConfig().flat()
    asked = dict(pair.split("=", 1) for pair in options.set)
    changed = {
        name: value == "True" if isinstance(now[name], bool) else type(now[name])(value)
        for name, value in asked.items()
    }
    about = {"backbone": options.backbone, "img_size": options.size, "workers": options.workers}
    return about | changed | knobs


def _text(reached: dict) -> str:
    return (
        f"emotion {reached['emotion']:.1f} %, gender {reached['gender']:.1f} %, age error {reached['age']:.1f} years "
        f"in {reached['minutes']:.1f} minutes and {reached['epochs']:.1f} epochs"
        + (f" (estimated {reached['estimated']:.1f})" if "estimated" in reached else "")
    )


def main() -> None:
    """Measure, print tables and the last line."""
    made = parser(__doc__.partition("\n")[0])
    parts = ("learn", "speed", "ablation", "starts", "guards", "backbones", "fine_tuning")
    made.add_argument("--part", choices=parts, nargs="*", default=["speed", "learn"])
    made.add_argument("--share", type=float, default=1.0, help="of the training faces (default: %(default)s)")
    made.add_argument("--minutes", type=float, default=4.0, help="for each way (default: %(default)s)")
    made.add_argument("--epochs", type=int, default=3, help="of each switch of the ablation (default: %(default)s)")
    made.add_argument("--only", type=int, nargs="*", help="numbers of the switches, starts or guards (default: all)")
    made.add_argument("--weights", default="imagenet", help="of starts and guards: a file, for example")
    made.add_argument("--backbones", nargs="*", default=["mobilenetv3_small_100"], metavar="NAME[=WEIGHTS]")
    made.add_argument("--few", type=int, default=300, help="faces of one's own in fine_tuning (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of starts, guards and backbones (default: %(default)s)")
    made.add_argument("--seeds", type=int, default=2, help="(default: %(default)s)")
    backbone, size, workers = ("efficientnet_b2", 224, 2) if DEVICE == "cuda" else ("mobilenetv3_small_100", 64, 0)
    made.add_argument("--backbone", default=backbone, help="(default here: %(default)s)")
    made.add_argument("--size", type=int, default=size, help="pixels (default here: %(default)s)")
    made.add_argument("--workers", type=int, default=workers, help="loader processes (default here: %(default)s)")
    made.add_argument("--set", nargs="*", default=[], metavar="KNOB=VALUE", help="further knobs: compile=off, say")
    made.add_argument("--recipes", nargs="*", default=["seed", "production"], help="of speed (default: both)")
    made.add_argument("--steps", type=int, default=40, help="timed for the speed (default: %(default)s)")
    made.add_argument("--keep", type=Path, help="folder that keeps the runs and their curves")
    options = made.parse_args()
    figures: dict = {}
    with opened(options.faces, options.share) as store, tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        if "speed" in options.part:
            figures |= speed(store, options)
        if "learn" in options.part:
            figures |= learn(store, options, keep)
        if "ablation" in options.part:
            figures["worth"] = ablate(store, options, keep)
        for part, ways in (("starts", STARTS_TRIED), ("guards", GUARDS_TRIED)):
            if part in options.part:
                figures[part] = tried(part, ways, store, options, keep)
        if "fine_tuning" in options.part:
            figures["fine_tuning"] = fine_tuning(options, keep)
        if "backbones" in options.part:
            figures["backbones"] = backbones(store, options, keep)
        finish(store, backbone=options.backbone, size=options.size, device=DEVICE, **figures)


if __name__ == "__main__":
    main()
