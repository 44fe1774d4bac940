"""Variants of the exported graph are smaller or faster, answer alike, and are offered by the stated rule."""

import numpy as np
import pandas as pd

from helpers.export.graph import EXPORTS, build_graph, open_session
from helpers.export.variants import COLUMNS, compare_variants, halved, offered

FP32 = {"variant": "fp32", "MB": 18.0, "p50 ms": 4.0, "emotion_accuracy": 0.65, "age_mae": 5.0, "gender_accuracy": 0.9}


def table(**others: dict) -> pd.DataFrame:
    return pd.DataFrame([FP32, *(FP32 | {"variant": name} | values for name, values in others.items())])


def test_half_a_point_or_a_tenth_of_a_year_worse_is_offered_and_more_is_not():
    fast = {"p50 ms": 2.0}
    found = offered(
        table(
            same=fast,
            little=fast | {"emotion_accuracy": 0.6451, "age_mae": 5.09},
            emotion=fast | {"emotion_accuracy": 0.644},
            age=fast | {"age_mae": 5.11},
            gender=fast | {"gender_accuracy": 0.894},
            better=fast | {"age_mae": 4.0},
            unknown=fast | {"gender_accuracy": np.nan},
            slow={"p50 ms": 3.7},
            small={"MB": 9.0},
        )
    )
    assert list(found["variant"][found["offered"]]) == ["fp32", "same", "little", "better", "unknown", "small"]


def test_the_fastest_is_recommended_and_of_those_as_fast_the_smallest():
    def pick(**others):
        found = offered(table(**others))
        return found["variant"][found["recommended"]].item()

    assert pick() == "fp32"
    assert pick(half={"MB": 9.0}, faster={"p50 ms": 2.0}) == "faster"
    assert pick(half={"MB": 9.0, "p50 ms": 2.1}, faster={"p50 ms": 2.0}) == "half"
    assert pick(worse={"MB": 1.0, "p50 ms": 1.0, "emotion_accuracy": 0.6}) == "fp32"


def test_the_variants_of_a_run_are_written_measured_and_answer_alike(trained, store, tmp_path):
    found = compare_variants(trained, store, tmp_path).set_index("variant")
    assert tuple(found.reset_index()) == COLUMNS and found["recommended"].sum() == 1
    assert {"fp32", "fp16 weights", "24 px", "int8"} == set(found.index)
    assert found["MB"]["fp16 weights"] < 0.6 * found["MB"]["fp32"] and found["MB"]["int8"] < found["MB"]["fp32"]
    assert (found[["p50 ms", "p95 ms"]] > 0).all(axis=None) and found["emotion_accuracy"].between(0, 1).all()
    face = store.image(0)[None]
    told = {path.stem: open_session(path).run(EXPORTS, {"faces": face}) for path in tmp_path.glob("*.onnx")}
    for want, got in zip(told["model_fp32"], told["model_fp16_weights"], strict=True):
        np.testing.assert_allclose(got, want, atol=0.01, rtol=0.01)


def test_a_variant_keeps_what_the_graph_tells_of_itself(trained):
    whole = build_graph(trained)
    assert halved(whole).metadata_props == whole.metadata_props
