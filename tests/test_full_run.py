"""A run in pieces of minutes says when to call again, and ends with everything measured and exported."""

import json

from helpers.config import recipe
from tools.full_run import AGAIN, main


def test_the_same_command_again_and_again_ends_with_a_measured_exported_model(store, tmp_path, capsys):
    changes = {"backbone": "test_resnet", "weights": "none", "img_size": 32, "epochs": 3, "workers": 0}
    command = ["--faces", str(store.folder), "--out", str(tmp_path), "--changes", json.dumps(changes)]
    assert main([*command, "--minutes", "0.0001"]) == AGAIN
    assert "1 of 3 epochs; call again." in capsys.readouterr().out
    assert main([*command, "--minutes", "9"]) == 0
    run = tmp_path / "run"
    for name in ("history.jsonl", "metrics.json", "predictions.parquet", "model.onnx", "figures/curves.png"):
        assert (run / name).stat().st_size > 0, name
    config, wanted = json.loads((run / "config.json").read_text()), recipe("production", weights="none")
    assert (config["schedule"], config["lr"]) == (wanted.schedule, wanted.lr)
    assert main([*command[:4], "--changes", '{"epoch": 3}']) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err
