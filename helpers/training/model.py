"""The network: a timm backbone, one head per task, and the preprocessing as its first layer."""

from __future__ import annotations

import difflib
import math

import timm
import torch
from torch import Tensor, nn

from helpers.config import (
    AGE_BINS,
    AGE_CENTRE,
    AGE_RANGE,
    AGE_SPREAD,
    EMOTIONS,
    GENDERS,
    STARTS,
    InputError,
    TrainConfig,
)
from helpers.data.geometry import resize
from helpers.training.pretrained import FACES, fetch_faces


class FaceModel(nn.Module):
    """Emotion, age and gender from uint8 faces.

    Preprocessing (resize, scale, normalise) is part of the network, so evaluation and the exported graph cannot differ
    in it; training does the same after its loader has reduced faces larger than the network's size.
    """

    def __init__(self, backbone: nn.Module, config: TrainConfig):
        super().__init__()
        self.img_size = config.img_size
        self.flip_test = config.flip_test
        # timm's weights differ in normalisation, so it is read from the backbone. Values are for pixels from 0 to 255.
        for name in ("mean", "std"):
            values = torch.tensor(backbone.pretrained_cfg[name]) * 255.0
            self.register_buffer(name, values.view(1, 3, 1, 1), persistent=False)
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {
                "emotion": _head(backbone.head_hidden_size, len(EMOTIONS), config),
                "age": _head(backbone.head_hidden_size, 1 if config.age_head == "number" else AGE_BINS, config),
                "gender": _head(backbone.head_hidden_size, len(GENDERS), config),
            }
        )

    def preprocess(self, faces: Tensor) -> Tensor:
        """uint8 RGB (B, H, W, 3) to normalised float (B, 3, img_size, img_size), resized with antialiasing."""
        return self.normalise(resize(faces, self.img_size))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Float pixels from 0 to 255 as the backbone was pretrained with."""
        return (pixels - self.mean) / self.std

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Preprocessed pixels to ``emotion`` (B, 7) and ``gender`` (B, 2) logits and ``age`` (B,) years.

        Where the age is a distribution, its logits are there too, ``age_logits`` (B, AGE_BINS) with one for each year
        from 0 on, and ``age`` is their expectation (DEX, IJCV 2018, equation 3).
        """
        features = self.backbone.forward_head(self.backbone.forward_features(pixels), pre_logits=True)
        outputs = {task: head(features) for task, head in self.heads.items()}
        # Years in float32 also where the rest is half as precise: bfloat16 knows none between 64 and 64.5.
        if outputs["age"].shape[1] == 1:
            outputs["age"] = AGE_CENTRE + AGE_SPREAD * outputs["age"][:, 0].float()
        else:
            outputs["age_logits"] = outputs["age"]
            years = torch.arange(AGE_BINS, dtype=torch.float32, device=pixels.device)
            outputs["age"] = (outputs["age_logits"].float().softmax(dim=1) * years).sum(dim=1)
        return outputs

    def answer(self, pixels: Tensor, flip: bool = False) -> dict[str, Tensor]:
        """What :meth:`forward` gives as an answer: log-probabilities of emotion and gender, ages within AGE_RANGE.

        With ``flip`` the probabilities and the age are the mean over each face and its mirror image, and there are no
        ``age_logits``.
        """
        outputs = self(pixels)
        outputs |= {task: outputs[task].float().log_softmax(dim=1) for task in ("emotion", "gender")}
        outputs["age"] = outputs["age"].float().clamp(*AGE_RANGE)
        if not flip:
            return outputs
        mirrored = self.answer(pixels.flip(3))
        both = {task: torch.logaddexp(outputs[task], mirrored[task]) - math.log(2) for task in ("emotion", "gender")}
        return both | {"age": (outputs["age"] + mirrored["age"]) / 2}


class Reader(nn.Module):
    """A model as its users call it: uint8 faces in, probabilities and years out. This is what is exported."""

    def __init__(self, model: FaceModel):
        super().__init__()
        self.model = model

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 RGB (B, H, W, 3) to emotion (B, 7), age (B,) in years and gender (B, 2)."""
        answers = self.model.answer(self.model.preprocess(faces), self.model.flip_test)
        return answers["emotion"].exp(), answers["age"], answers["gender"].exp()


def create_model(config: TrainConfig, fetch_weights: bool = True) -> FaceModel:
    """Build the network of a config.

    Args:
        config: names the backbone and what it starts from.
        fetch_weights: False where a checkpoint is loaded next, so that nothing is downloaded for nothing.

    Raises:
        InputError: timm has no such backbone, it has no pretrained weights, or they cannot be fetched.
    """
    check_backbone(config)
    pretrained = fetch_weights and config.weights == "imagenet"
    try:
        backbone = timm.create_model(config.backbone, pretrained=pretrained, num_classes=0)
        if fetch_weights and config.weights == "faces":
            backbone.load_state_dict(fetch_faces())
    # The hub's errors (no network, no such file, refused) derive from OSError.
    except OSError as error:
        raise InputError(
            f"The {config.weights!r} weights of {config.backbone!r} cannot be fetched ({type(error).__name__}); "
            "connect to the internet and run again, or start from random weights with weights = 'none' and a learning "
            f"rate of {STARTS['none']['lr']:g}."
        ) from error
    except RuntimeError as error:
        raise InputError(f"timm cannot build the backbone {config.backbone!r}: {error}") from error
    try:
        model = FaceModel(backbone, config)
        with torch.no_grad():  # one empty picture: some backbones take one size only, or give no feature vector
            model.eval()(torch.zeros(1, 3, config.img_size, config.img_size))
    except (RuntimeError, AssertionError, AttributeError, TypeError) as error:
        raise InputError(
            f"The backbone {config.backbone!r} cannot read faces of {config.img_size} pixels ({error}); "
            "choose another img_size or backbone."
        ) from error
    return model


def check_backbone(config: TrainConfig) -> None:
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


def _head(features: int, outputs: int, config: TrainConfig) -> nn.Sequential:
    """Dropout, hidden layer with BatchNorm and ReLU, dropout, output layer."""
    hidden = nn.Linear(features, config.head_width, bias=False)  # BatchNorm brings the bias
    nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")
    last = nn.Linear(config.head_width, outputs)
    # Small: training starts from even probabilities and the mean age instead of random guesses to unlearn.
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Dropout(config.dropout_in),
        hidden,
        nn.BatchNorm1d(config.head_width),
        nn.ReLU(),
        nn.Dropout(config.dropout_hidden),
        last,
    )
