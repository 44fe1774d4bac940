"""Where am I, and what can this machine do? Nothing here touches CUDA, so that training may still start processes."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

GIGABYTE = 1e9
_LIBRARIES = ("torch", "timm", "albumentations", "onnxruntime")


def place() -> str:
    """``colab``, ``kaggle`` or ``local``."""
    if "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "local"


@dataclass(frozen=True)
class Machine:
    """What this machine has; sizes in GB of 10^9 bytes. ``gpus`` holds (name, memory) of each."""

    place: str
    cores: int
    memory: float
    disk_free: float
    shared_memory: float
    gpus: tuple[tuple[str, float], ...]


def inspect_machine(folder: Path = Path()) -> Machine:
    """Look at the machine; ``folder`` is where files will be written."""
    shm = Path("/dev/shm")
    return Machine(
        place=place(),
        cores=os.cpu_count() or 1,
        memory=_memory(),
        disk_free=shutil.disk_usage(folder).free / GIGABYTE,
        shared_memory=shutil.disk_usage(shm).total / GIGABYTE if shm.exists() else 0.0,
        gpus=_gpus(),
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
    if machine.disk_free < 5:
        found.append(f"Only {machine.disk_free:.1f} GB of disk are free; the datasets and a run need about 5 GB.")
    if machine.memory < 8:
        found.append(f"Only {machine.memory:.1f} GB of memory were found; use workers = 1 if the machine swaps.")
    if machine.shared_memory < 0.5:
        found.append(f"/dev/shm has {machine.shared_memory:.2f} GB; if loading ends in a bus error, set workers = 0.")
    return found


def suggest_recipe(machine: Machine) -> str:
    """The recipe to start with on this machine."""
    return "seed" if machine.gpus else "small"


def machine_table(machine: Machine) -> pd.DataFrame:
    """The machine and the library versions as a table to read."""
    rows = {
        "runs on": {"colab": "Google Colab", "kaggle": "Kaggle", "local": "this computer"}[machine.place],
        "GPU": ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in machine.gpus) or "none",
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


def _gpus() -> tuple[tuple[str, float], ...]:
    """Name and memory of each NVIDIA GPU, read through its driver's own program."""
    program = shutil.which("nvidia-smi")
    if not program:
        return ()
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return ()  # a driver that does not answer has no GPU to offer
    lines = [line.rpartition(",") for line in answer.splitlines() if line.strip()]
    return tuple((name.strip(), float(memory) * 2**20 / GIGABYTE) for name, _, memory in lines)
