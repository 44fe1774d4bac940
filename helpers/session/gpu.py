"""GPUs: what the driver says of those that are here, and what to expect of those that can be had.

The driver is asked through NVML, which does not touch CUDA, so training may still start processes afterwards.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pynvml

GIGABYTE = 1e9

_HEAT = 0x08 | 0x20 | 0x40
"""NVML's bits of clocks reduced by the hardware, by software for heat, by the hardware for heat."""

_POWER = 0x04 | 0x80
"""NVML's bits of clocks reduced by the power limit (common on a T4) and by the power supply."""


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        name: as the driver calls it.
        memory: in GB of 10^9 bytes.
        temperature: degrees Celsius, or None where the driver does not tell.
        slowed_by: ``heat``, ``power limit`` or nothing: why its clocks are reduced now.
    """

    name: str
    memory: float
    temperature: int | None = None
    slowed_by: str = ""


def read_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that this process may use; none where there is no driver or it does not answer."""
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            numbers = _visible(pynvml.nvmlDeviceGetCount())
            return tuple(_read(pynvml.nvmlDeviceGetHandleByIndex(number)) for number in numbers)
        finally:
            pynvml.nvmlShutdown()
    return ()


def _visible(count: int) -> list[int]:
    """Numbers of the GPUs that CUDA_VISIBLE_DEVICES leaves; all where it is not set or names them in another way."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not all(part.strip().lstrip("-").isdigit() for part in wanted.split(",") if part):
        return list(range(count))
    return [number for number in map(int, filter(None, wanted.split(","))) if 0 <= number < count]


def _read(handle) -> Gpu:
    name = pynvml.nvmlDeviceGetName(handle)
    memory = _told(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIGABYTE, 0.0)
    temperature = _told(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU), None)
    reasons = _told(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle), 0)
    return Gpu(name, memory, temperature, "heat" if reasons & _HEAT else "power limit" if reasons & _POWER else "")


def _told(ask, otherwise):
    """The driver's answer, or ``otherwise`` where this GPU does not tell."""
    try:
        return ask()
    except pynvml.NVMLError:
        return otherwise


def describe_gpu(gpu: Gpu) -> str:
    """Name, memory, temperature and what slows it down, in a few words."""
    heat = "" if gpu.temperature is None else f", {gpu.temperature} °C"
    slow = f", slowed down by {gpu.slowed_by}" if gpu.slowed_by else ""
    return f"{gpu.name} ({gpu.memory:.0f} GB{heat}{slow})"


def batch_size_for(memory: float) -> int:
    """Faces per step that fit EfficientNet-B2 at 224 pixels: 64 in a T4's 16 GB, 128 in more, 32 in less than 12."""
    return 128 if memory >= 20 else 64 if memory >= 12 else 32


def gpus_table() -> pd.DataFrame:
    """The GPUs that Colab and Kaggle lend, all as text: ``gpus.csv``, whose last column says where a line is from.

    ``hours`` and ``compute units`` are those of the whole ``production`` recipe on all four datasets.
    """
    return pd.read_csv(Path(__file__).with_name("gpus.csv"), dtype=str, keep_default_na=False).replace("", "-")


def units_per_hour(gpu_name: str) -> float | None:
    """Compute units that Colab takes for an hour of a GPU, by the driver's name of it; None where it is not known."""
    table = gpus_table()
    found = table["GPU"].isin(gpu_name.replace("-", " ").split()) & table["where"].str.startswith("Colab")
    rates = pd.to_numeric(table.loc[found, "units per hour"], errors="coerce").dropna()
    return None if rates.empty else float(rates.iloc[0])
