"""Where am I, and what can this machine do? Nothing here touches CUDA, so that training may still start processes."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from helpers.config import TrainConfig, recipe
from helpers.session.gpu import GIGABYTE, Gpu, batch_size_for, describe_gpu, read_gpus

_LIBRARIES = ("torch", "timm", "albumentations", "onnxruntime")


def place() -> str:
    """``colab``, ``kaggle`` or ``local``."""
    if "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "local"


@dataclass(frozen=True)
class Machine:
    """What this machine has; sizes in GB of 10^9 bytes."""

    place: str
    cores: int
    memory: float
    disk_free: float
    shared_memory: float
    gpus: tuple[Gpu, ...]


def inspect_machine(folder: Path = Path()) -> Machine:
    """Look at the machine; ``folder`` is where files will be written."""
    shm = Path("/dev/shm")
    return Machine(
        place=place(),
        cores=os.cpu_count() or 1,
        memory=_memory(),
        disk_free=shutil.disk_usage(folder).free / GIGABYTE,
        shared_memory=shutil.disk_usage(shm).total / GIGABYTE if shm.exists() else 0.0,
        gpus=read_gpus(),
    )


def advice(machine: Machine) -> list[str]:
    """What to know before starting, in sentences; empty when all is well."""
    found = []
    if not machine.gpus:
        how = {
            "colab": "choose Runtime > Change runtime type > T4 GPU and run this notebook again",
            "kaggle": "choose Settings > Accelerator and start the session again",
            "local": "use the recipe 'small', which is made for a CPU",
        }[machine.place]
        found.append(f"No GPU was found, and the default recipe would take days without one: {how}.")
    if len(machine.gpus) > 1:
        found.append(f"{len(machine.gpus)} GPUs were found; notebook 04 trains on all of them together.")
    for gpu in machine.gpus:
        if gpu.slowed_by == "heat":
            found.append(f"{describe_gpu(gpu)}: it runs slower than it could; ask for another machine if that stays.")
    if machine.disk_free < 5:
        found.append(f"Only {machine.disk_free:.1f} GB of disk are free; the datasets and a run need about 5 GB.")
    if machine.memory < 8:
        found.append(f"Only {machine.memory:.1f} GB of memory were found; use workers = 1 if the machine swaps.")
    if machine.shared_memory < 0.5:
        found.append(f"/dev/shm has {machine.shared_memory:.2f} GB; if loading ends in a bus error, set workers = 0.")
    return found


def config_for(machine: Machine, name: str = "auto", /, **changes) -> TrainConfig:
    """The config to start with on this machine: a recipe, its batch size fitted to the GPU, and some fields changed.

    Args:
        machine: where it will be trained.
        name: a recipe, or ``auto``: ``production`` on a GPU, ``small`` without one.
        changes: fields that are set as they are given.

    Raises:
        InputError: there is no such recipe, or a changed field is unknown or out of range.
    """
    if name == "auto":
        name = "production" if machine.gpus else "small"
    fits = machine.gpus and name in ("seed", "production", "quick")
    fitted = {"batch_size": batch_size_for(machine.gpus[0].memory)} if fits else {}
    return recipe(name, **fitted | changes)


def machine_table(machine: Machine) -> pd.DataFrame:
    """The machine and the library versions as a table to read."""
    rows = {
        "runs on": {"colab": "Google Colab", "kaggle": "Kaggle", "local": "this computer"}[machine.place],
        "GPU": ", ".join(describe_gpu(gpu) for gpu in machine.gpus) or "none",
        "CPU cores": machine.cores,
        "memory": f"{machine.memory:.0f} GB",
        "free disk": f"{machine.disk_free:.0f} GB",
        "Python": platform.python_version(),
    }
    rows |= {name: _version(name) for name in _LIBRARIES}
    return pd.DataFrame({"found": rows.values()}, index=pd.Index(rows, name="what"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _memory() -> float:
    """Physical memory in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
