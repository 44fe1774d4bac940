"""One optimiser step, for tests/test_processes.py: run by itself or by accelerate launch.

python tests/one_step.py <packed store> <config.json> <parts> <where the weights and first moments go>
"""

import sys
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from helpers.config import TrainConfig
from helpers.data.loaders import train_loader
from helpers.data.store import FaceStore
from helpers.training.learner import Learner, make_accelerator
from helpers.training.losses import class_weights
from helpers.training.model import create_model

store, config = FaceStore.open(Path(sys.argv[1])), TrainConfig.load(Path(sys.argv[2]))
rows = store.rows("train")
torch.manual_seed(config.seed)
torch.set_num_threads(1)
model = create_model(config)
accelerator = make_accelerator(config)
weights = class_weights(store.labels("emotion")[rows], config.class_weights)
learner = Learner(config, model, 10, accelerator, weights)
learner.parts = int(sys.argv[3])
learner.train()
for module in model.modules():
    if isinstance(module, _BatchNorm):
        module.eval()  # its statistics are those of a process's or a part's own faces
share = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
learner.step(next(iter(train_loader(store, rows, config, **share))), config.img_size)
if accelerator.is_main_process:
    moments = {str(number): state["exp_avg"] for number, state in learner.state()["optimizer"]["state"].items()}
    known = learner.sums.cpu()[:, 1]
    torch.save({"weights": dict(model.named_parameters()), "moments": moments, "known": known}, sys.argv[4])
accelerator.end_training()
