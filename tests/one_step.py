"""One optimiser step, for tests/test_processes.py: run by itself or by accelerate launch.

python tests/one_step.py <packed store> <config.json> <parts> <where the weights and first moments go>
"""

import sys
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from helpers.config import TrainConfig
from helpers.data.store import FaceStore
from helpers.training.loop import train_step
from helpers.training.state import build

torch.set_num_threads(1)
training = build(TrainConfig.load(Path(sys.argv[2])), FaceStore.open(Path(sys.argv[1])))
training.accumulation = int(sys.argv[3])
batch = next(iter(training.batches()))
for module in training.model.modules():
    if isinstance(module, _BatchNorm):
        module.eval()  # its statistics are those of a process's or a part's own faces
train_step(training, batch)
if training.accelerator.is_main_process:
    moments = {str(n): state["exp_avg"] for n, state in training.state_dict()["optimizer"]["state"].items()}
    known = training.loss_sums.cpu()[:, 1]
    torch.save({"weights": dict(training.model.named_parameters()), "moments": moments, "known": known}, sys.argv[4])
training.accelerator.end_training()
