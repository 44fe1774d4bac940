"""The network: a timm backbone, one head per task, and the preprocessing as its first layer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from helpers.config import STARTS, ModelConfig, start_of
from helpers.data.geometry import resize
from helpers.files import InputError, first_line
from helpers.runs.checkpoints import not_finite
from helpers.tasks import TASKS
from helpers.training.pretrained import FACES, earlier_weights, fetch_faces, start_from, weights_file

HEAD_WIDTH = 256
"""Units in each head's hidden layer."""


class FaceModel(nn.Module):
    """Reads every task from uint8 faces.

    Preprocessing (resize, scale, normalise) is part of the network, so evaluation and the exported graph cannot differ
    in it; training does the same after its loader has reduced faces larger than the network's size.

    Attributes:
        frozen: while it is set the backbone, the statistics of its BatchNorm too, stays as it is and the heads learn.
        grey: task -> pixels a side, of those that are read from such a grey view, see
            :meth:`helpers.data.store.FaceStore.learned_in_grey`; while it learns it sees the faces as they are.
        heads_anew: the heads that an earlier run's network, from whose weights this one starts, had not or otherwise.

    Args:
        backbone: of timm, without a classifier.
        features: how many it gives.
        config: the knobs.
    """

    mean: Tensor
    std: Tensor
    backbone: Any  # of timm, whose networks have methods that torch does not know of

    def __init__(self, backbone: Any, features: int, config: ModelConfig):
        super().__init__()
        self.img_size, self.flip_test = config.img_size, config.flip_test
        # timm's weights differ in normalisation, so it is read from the backbone. Values are for pixels from 0 to 255.
        for name in ("mean", "std"):
            values = torch.tensor(backbone.pretrained_cfg[name]) * 255.0
            self.register_buffer(name, values.view(1, 3, 1, 1), persistent=False)
        self.backbone, self.frozen, self.heads_anew, self.grey = backbone, False, list[str](), dict[str, int]()
        heads = {name: _head(features, task.outputs(config.age_head), config) for name, task in TASKS.items()}
        self.heads = nn.ModuleDict(heads)

    def views(self) -> tuple[list[int | None], dict[str, int]]:
        """How a face is looked at, as it is (None) or in grey of so many pixels, and by task which of these is read."""
        greys = list(dict.fromkeys(map(self.grey.get, TASKS)))
        return greys, {task: greys.index(self.grey.get(task)) for task in TASKS}

    def preprocess(self, faces: Tensor, grey: int | None = None) -> Tensor:
        """uint8 RGB (B, H, W, 3) to normalised float (B, 3, img_size, img_size), see :func:`resize`."""
        return self.normalise(resize(faces, self.img_size, grey))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Float pixels from 0 to 255 as the backbone was pretrained with."""
        return (pixels - self.mean) / self.std

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Preprocessed pixels to each head's output, (B, outputs), by task; see :mod:`helpers.tasks`."""
        with torch.no_grad() if self.frozen else nullcontext():
            features = self.backbone.forward_head(self.backbone.forward_features(pixels), pre_logits=True)
        return {task: head(features) for task, head in self.heads.items()}

    def train(self, mode: bool = True) -> FaceModel:
        """Into training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self


def answers(outputs: dict[str, Tensor], mirrored: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """What the heads' outputs say, by task; with those of the mirror images too, the mean over both."""
    found = {name: task.answer(outputs[name]) for name, task in TASKS.items()}
    if mirrored is None:
        return found
    return {name: task.mean(found[name], task.answer(mirrored[name])) for name, task in TASKS.items()}


class Reader(nn.Module):
    """A model as its users call it: uint8 faces in, probabilities and years out. This is what is exported.

    Args:
        model: trained.
        calibration: task -> what makes its confidence honest, see :mod:`helpers.evaluation.calibration`.
    """

    def __init__(self, model: FaceModel, calibration: Mapping[str, float] | None = None):
        super().__init__()
        self.model = model
        self.calibration = {name: task.uncalibrated for name, task in TASKS.items()} | dict(calibration or {})

    def forward(self, faces: Tensor) -> tuple[Tensor, ...]:
        """uint8 RGB (B, H, W, 3) to what each task exports, in the order of their ``exports``."""
        greys, view_of = self.model.views()
        views = [self.model.preprocess(faces, grey) for grey in greys]
        sides = [views, [view.flip(3) for view in views]] if self.model.flip_test else [views]
        # All in one batch: a graph of fewer nodes.
        outputs = self.model(torch.cat([view for side in sides for view in side]))
        parts = {task: output.unflatten(0, (len(sides), len(views), -1)) for task, output in outputs.items()}
        said = answers(*({task: parts[task][side, view_of[task]] for task in TASKS} for side in range(len(sides))))
        return tuple(part for name, task in TASKS.items() for part in task.exported(said[name], self.calibration[name]))


def create_model(
    config: ModelConfig, sizes: Iterable[int] = (), fetch_weights: bool = True, folder: Path = Path()
) -> FaceModel:
    """Build the network of a config.

    Args:
        config: names the backbone and what it starts from.
        sizes: pixels a side of the faces that it will meet besides ``img_size``; each is tried.
        fetch_weights: False where a checkpoint is loaded next, so that nothing is downloaded for nothing.
        folder: of the run, beside which lies the earlier one that it may start from.

    Raises:
        InputError: timm has no such backbone, it has no pretrained weights, they cannot be fetched or are another
            backbone's, or it cannot read faces of one of the sizes.
    """
    check_backbone(config)
    start = start_of(config.weights) if fetch_weights else "none"
    earlier = earlier_weights(config, folder) if start in ("run", "file") else None
    backbone = _started_backbone(config, "earlier" if earlier is not None else start)
    features = {size: _features(backbone, size, config) for size in (config.img_size, *sizes)}
    model = FaceModel(backbone, features[config.img_size], config)
    if earlier is not None:
        model.heads_anew = start_from(model, earlier, config.weights)
    if name := not_finite(model.state_dict()):
        raise InputError(f"The weights {config.weights!r} hold what is no finite number ({name}); name others.")
    return model.eval()


def _started_backbone(config: ModelConfig, start: str) -> Any:
    """A backbone with the weights that it starts from, where those are a backbone's.

    Raises:
        InputError: timm cannot build it, or the weights cannot be fetched or are another backbone's.
    """
    file = str(weights_file(config.weights)) if start == "file" else None
    try:
        backbone = _create_backbone(config, start == "imagenet", file)
        if start == "faces":
            backbone.load_state_dict(fetch_faces())
        if file:  # timm fills what it finds there; what another build draws otherwise was not found
            again = _create_backbone(config, False, file).state_dict()
            for name, found in backbone.named_parameters():
                if not torch.isclose(found, again[name], equal_nan=True).all():
                    raise ValueError(f"it lacks {name}")
        return backbone
    # The hub's errors (no network, no such file, refused) derive from OSError.
    except OSError as error:
        raise InputError(
            f"The {config.weights!r} weights of {config.backbone!r} cannot be fetched ({type(error).__name__}); "
            "connect to the internet and run again, or start from random weights with weights = 'none' and a learning "
            f"rate of {STARTS['none']['lr']:g}."
        ) from error
    except Exception as error:  # timm's, torch's and safetensors' own have no common base
        why = first_line(error)
        said = f"timm cannot build the backbone {config.backbone!r} for faces of {config.img_size} pixels ({why}); "
        said += "choose another backbone or img_size."
        if file:
            said = f"{file} does not hold weights of the backbone {config.backbone!r} ({why}); set the backbone that "
            said += "they are of."
        raise InputError(said) from error


def _create_backbone(config: ModelConfig, pretrained: bool, file: str | None) -> Any:
    """A backbone without a classifier; one that is built for a size of picture is told ours, and that it may change.

    A ``file`` is read in place of the weights that timm would fetch.
    """
    about: Any = timm.models.get_pretrained_cfg(config.backbone)
    sized: dict[str, Any] = {"img_size": config.img_size} if about is not None and about.fixed_input_size else {}
    given: dict[str, Any] = {"pretrained": pretrained or file is not None, "num_classes": 0, **sized}
    if file:
        given["pretrained_cfg_overlay"] = {"file": file}
    if sized:
        with suppress(TypeError):  # not all of them can change it
            return timm.create_model(config.backbone, **given, dynamic_img_size=True)
    return timm.create_model(config.backbone, **given)


@torch.no_grad()
def _features(backbone: Any, size: int, config: ModelConfig) -> int:
    """How many features the backbone gives for an empty picture of a size; some take one size only, or give no vector.

    Raises:
        InputError: it cannot read the picture.
    """
    try:
        pixels = torch.zeros(1, 3, size, size)
        _, features = backbone.eval().forward_head(backbone.forward_features(pixels), pre_logits=True).shape
        return features
    except (RuntimeError, AssertionError, AttributeError, TypeError, ValueError) as error:
        grows = size != config.img_size
        raise InputError(
            f"The backbone {config.backbone!r} cannot read faces of {size} pixels"
            f"{', with which first_size begins' if grows else ''} ({first_line(error)}); "
            f"{'set first_size = 1 or choose' if grows else 'choose'} another img_size or backbone."
        ) from error


def check_backbone(config: ModelConfig) -> None:
    """Raise an InputError unless timm knows the backbone and, where they are asked for, has weights for it."""
    if not timm.is_model(config.backbone):
        near = difflib.get_close_matches(config.backbone, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() shows them all."
        raise InputError(f"timm has no backbone {config.backbone!r}; {hint}")
    if config.weights == "faces" and config.backbone != FACES.backbone:
        raise InputError(
            f"The weights 'faces' are for the backbone {FACES.backbone!r}, not {config.backbone!r}; set backbone = "
            f"{FACES.backbone!r} or weights = 'imagenet'."
        )
    if config.weights == "imagenet" and not timm.models.is_model_pretrained(config.backbone):
        raise InputError(f"timm has no pretrained weights for {config.backbone!r}; set weights = 'none'.")


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """All parameters and the trainable ones."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trainable in counts if trainable)


def _head(features: int, outputs: int, config: ModelConfig) -> nn.Sequential:
    """Dropout, hidden layer with BatchNorm and ReLU, dropout, output layer."""
    hidden = nn.Linear(features, HEAD_WIDTH, bias=False)  # BatchNorm brings the bias
    nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")
    last = nn.Linear(HEAD_WIDTH, outputs)
    # Small: training starts from even probabilities and the mean age instead of random guesses to unlearn.
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    first, second = nn.Dropout(config.dropout_in), nn.Dropout(config.dropout_hidden)
    return nn.Sequential(first, hidden, nn.BatchNorm1d(HEAD_WIDTH), nn.ReLU(), second, last)
