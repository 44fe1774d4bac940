"""GPUs: what the driver says of those that are here, and what to expect of those that can be had.

The driver is asked through NVML, which does not touch CUDA, so training may still start processes afterwards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

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
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in _visible(pynvml.nvmlDeviceGetCount())]
        return tuple(_read(handle) for handle in handles)
    except pynvml.NVMLError:
        return ()  # a driver that does not answer has no GPU to offer
    finally:
        pynvml.nvmlShutdown()


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
    slowed_by = "heat" if reasons & _HEAT else "power limit" if reasons & _POWER else ""
    return Gpu(name, memory, temperature, slowed_by)


def _told(ask, otherwise):
    """The driver's answer, or ``otherwise`` where this GPU does not tell."""
    try:
        return ask()
    except pynvml.NVMLError:
        return otherwise


def describe_gpu(gpu: Gpu) -> str:
    """Name, memory, temperature and what slows it down, in a few words."""
    parts = [f"{gpu.memory:.0f} GB"]
    parts += [f"{gpu.temperature} °C"] if gpu.temperature is not None else []
    parts += [f"slowed down by {gpu.slowed_by}"] if gpu.slowed_by else []
    return f"{gpu.name} ({', '.join(parts)})"


def batch_size_for(memory: float) -> int:
    """Faces per step that fit EfficientNet-B2 at 224 pixels: 64 in a T4's 16 GB, 128 in more, 32 in less than 12."""
    return 128 if memory >= 20 else 64 if memory >= 12 else 32


@dataclass(frozen=True)
class Offer:
    """A GPU that Colab or Kaggle lends.

    Attributes:
        name, where: the GPU, and who lends it on which terms.
        memory: in GB.
        bandwidth: of its memory in GB/s, from its data sheet.
        units: compute units an hour on Colab, 0 where it is free of them, None where the rate is not known.
        checked: when the rate was read.
        count: of GPUs that come together.
    """

    name: str
    where: str
    memory: int
    bandwidth: int
    units: float | None
    checked: str
    count: int = 1


OFFERS = (
    Offer("T4", "Colab, free or paid", 16, 320, 1.07, "September 2026"),
    Offer("L4", "Colab, paid", 24, 300, 4.82, "April 2024"),
    Offer("A100", "Colab, paid", 40, 1555, 11.77, "April 2024"),
    Offer("H100", "Colab, paid", 80, 3350, None, ""),
    Offer("P100", "Kaggle, free", 16, 732, 0.0, ""),
    Offer("two T4", "Kaggle, free", 16, 320, 0.0, "", count=2),
)
"""What can be had; rates are those that users published, and change. V100 is no longer offered on Colab."""


def offer_of(name: str) -> Offer | None:
    """The offer that a GPU is, by the driver's name of it, such as ``Tesla T4``."""
    return next((offer for offer in OFFERS if offer.name in name.replace("-", " ").split()), None)


UNIT_PRICE = 0.10
"""US dollars for one compute unit: 100 cost about 10."""

_MEASURED_SPEED, _MEASURED_SIZE, _MEASURED_BANDWIDTH = 978.68, 256, 936
"""timm's published benchmark: faces/s trained by efficientnet_b2 at 256 px in mixed precision on an RTX 3090 (GB/s)."""


def expected_speed(offer: Offer, img_size: int) -> float:
    """Faces/s that an EfficientNet-B2 trains: computed, not measured.

    timm's figure for an RTX 3090 in mixed precision, times the ratio of the memories' bandwidths (depthwise
    convolutions wait for memory), times the ratio of pixels. Of two GPUs each adds its own, as if they waited for
    nothing.
    """
    pixels = (_MEASURED_SIZE / img_size) ** 2
    return _MEASURED_SPEED * offer.bandwidth * offer.count / _MEASURED_BANDWIDTH * pixels


def offers_table(faces: int, epochs: int, img_size: int) -> pd.DataFrame:
    """Advice on each GPU that can be had: batch size, and the hours and cost of ``epochs`` over ``faces`` at most."""
    rows = []
    for offer in OFFERS:
        speed = expected_speed(offer, img_size)
        hours = faces * epochs / speed / 3600
        units = "none" if offer.units == 0 else "not known" if offer.units is None else f"{hours * offer.units:.0f}"
        cost = f" (about ${hours * offer.units * UNIT_PRICE:.0f})" if offer.units else ""
        rows.append(
            {
                "GPU": offer.name,
                "where": offer.where,
                "memory": f"{offer.memory} GB",
                "batch_size": batch_size_for(offer.memory),
                "faces/s": f"{speed:.0f}",
                "hours": f"{hours:.1f}",
                "compute units": units + cost,
                "rate read in": offer.checked or "-",
            }
        )
    return pd.DataFrame(rows)
