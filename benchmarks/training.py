"""Training: what a recipe learns in equal time, and how much of the device's speed the whole line keeps.

Three ways to train the same network from the same random weights on the same faces for the same minutes: the recipes
``seed`` and ``production``, and a bare loop, which is what one writes in half an hour: AdamW at 3e-3, one cosine,
averaged weights, light augmentation, faces decoded beforehand. All are measured on the validation split.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch.nn import functional as F

from helpers.config import TASKS, UNKNOWN, TrainConfig, recipe
from helpers.data.geometry import draw_warps, resize, warp
from helpers.data.store import FaceStore
from helpers.training.estimate import probe
from helpers.training.fit import fit, load_best
from helpers.training.model import FaceModel, create_model
from helpers.training.predict import predict

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

SWITCHES = {
    "whole": {},
    "without progressive size": {"first_size": 1.0},
    "without averaged weights": {"ema": 0.0},
    "without one cosine (restarts)": {"schedule": "restarts"},
    "without warm-up": {"warmup": 0.0},
    "without class weights": {"class_weights": 0.0},
    "without age distribution": {"age_head": "number", "age_weight": 1.0},
    "without label smoothing": {"label_smoothing": 0.0},
    "with the focal loss": {"focal_gamma": 2.0},
    "without quotas": {"quotas": ""},
    "without mixing": {"mix_probability": 0.0},
    "without the mixing's fade": {"mix_fade": 0.0},
    "without augmentation": {"augment": 0.0},
    "with the seed's augmentation": {"augment": 1.0},
    "with the seed's dropout": {"dropout_in": 0.5, "dropout_hidden": 0.4},
    "with the seed's learning rate": {"lr": 1e-4},
    "without the mirror": {"flip_test": False},
}
"""What each part of ``production`` is worth: the recipe with one thing changed."""


def measure(model: FaceModel, store: FaceStore, flip: bool) -> dict[str, float]:
    """Emotion and gender accuracy in percent, age error in years, on the validation split."""
    found = predict(model.to(DEVICE), store, store.rows("validation"), flip=flip)
    measures = {}
    for task in TASKS:
        _, labels, answers = found.known(task)
        measures[task] = float(np.abs(answers - labels).mean() if task == "age" else 100 * (answers == labels).mean())
    return measures


def by_recipe(name: str, store: FaceStore, minutes: float, folder: Path, **changes) -> dict:
    """Train a recipe for the minutes; ``production`` and its kin are told how many epochs fit into them."""
    config = recipe(name, **changes)
    if config.schedule == "cosine":
        config = replace(config, epochs=probe(config, store).epochs_within(minutes))
        hurry = {}
    else:
        hurry = {"max_minutes": minutes}
    start = time.perf_counter()
    run = fit(replace(config, patience=1000, **hurry), store, folder)
    took = (time.perf_counter() - start) / 60
    return measure(load_best(run), store, config.flip_test) | {"minutes": took, "epochs": len(run.history)}


def bare(store: FaceStore, minutes: float, config: TrainConfig) -> dict:
    """The bare loop: no loader, no audit of its own, no resume; measured once, at its end."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    rows = store.rows("train")
    size, batch_size = config.img_size, config.batch_size
    faces = torch.cat([resize(torch.from_numpy(store.image(row))[None], size).round().byte() for row in rows])
    faces = faces.permute(0, 2, 3, 1).contiguous().to(DEVICE)
    emotion, gender = (
        torch.from_numpy(store.labels(t)[rows].astype(np.int64)).to(DEVICE) for t in ("emotion", "gender")
    )
    age = torch.from_numpy(store.labels("age")[rows]).to(DEVICE)
    model = create_model(config).to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.02, fused=True)
    average = ModelEmaV3(model, 0.999, use_warmup=True)
    start, step, order = time.perf_counter(), 0, np.array([], int)
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
        loss = loss + 0.5 * F.smooth_l1_loss(out["age"].float()[known] / 20, years[known] / 20)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(model, step)
        step += 1
    took = (time.perf_counter() - start) / 60
    return measure(average.module, store, flip=False) | {"minutes": took, "epochs": step * batch_size / len(rows)}
