"""Where am I, and what can this machine do? Nothing here touches CUDA, so that training may still start processes."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers.session.gpu import GIGABYTE, Gpu, batch_size_for, describe_gpu, read_gpus
from helpers.session.install import installed

_PLACES = {"colab": "Google Colab", "kaggle": "Kaggle", "local": "This computer"}


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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
    disk_free = shutil.disk_usage(folder).free / GIGABYTE
    shared_memory = shutil.disk_usage(shm).total / GIGABYTE if shm.exists() else 0.0
    return Machine(place(), os.cpu_count() or 1, memory, disk_free, shared_memory, read_gpus())


def advice(machine: Machine) -> list[str]:
    """What to know before starting, in sentences; empty when all is well."""
    how = {
        "colab": "choose Runtime > Change runtime type > T4 GPU and run this notebook again",
        "kaggle": "choose Settings > Accelerator and start the session again",
        "local": "use the recipe 'small', which is made for a CPU",
    }[machine.place]
    hot = ", ".join(describe_gpu(gpu) for gpu in machine.gpus if gpu.slowed_by == "heat")
    gpus, disk, memory, shared = len(machine.gpus), machine.disk_free, machine.memory, machine.shared_memory
    sentences = {
        f"No GPU was found, and the default recipe would take days without one: {how}.": gpus == 0,
        f"{gpus} GPUs were found; notebook 04 trains on all of them together.": gpus > 1,
        f"{hot}: that is slower than it could be; ask for another machine if it stays so.": bool(hot),
        f"Only {disk:.1f} GB of disk are free; the datasets and a run need about 5 GB.": disk < 5,
        f"Only {memory:.1f} GB of memory were found; use workers = 1 if the machine swaps.": memory < 8,
        f"/dev/shm has {shared:.2f} GB: fewer loader processes may be started than workers says; if one is lost all "
        "the same, set workers = 0.": shared < 0.5,
    }
    return [sentence for sentence, applies in sentences.items() if applies]


def fitted_to(machine: Machine) -> dict[str, int] | None:
    """The training knobs that fit this machine's GPU, for :func:`helpers.config.decide`; None without a GPU."""
    return {"batch_size": batch_size_for(machine.gpus[0].memory)} if machine.gpus else None


def describe_machine(machine: Machine) -> str:
    """The machine in one line, which every notebook but the first shows."""
    gpus = ", ".join(describe_gpu(gpu) for gpu in machine.gpus) or "no GPU"
    return f"{_PLACES[machine.place]}: {gpus}, {machine.cores} CPU cores, {machine.memory:.0f} GB of memory."


def machine_table(machine: Machine) -> pd.DataFrame:
    """The machine and the library versions as a table to read."""
    rows = {
        "runs on": _PLACES[machine.place],
        "GPU": ", ".join(describe_gpu(gpu) for gpu in machine.gpus) or "none",
        "CPU cores": machine.cores,
        "memory": f"{machine.memory:.0f} GB",
        "free disk": f"{machine.disk_free:.0f} GB",
        "Python": platform.python_version(),
        **{name: installed(name) or "missing" for name in ("torch", "timm", "albumentations", "onnxruntime")},
    }
    return pd.DataFrame({"found": rows.values()}, index=pd.Index(rows, name="what"))
