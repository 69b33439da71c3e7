"""BERT and its kin: counts of transformers' models, and what is theirs alone."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo.layers.positions import CountedPositions

# transformers' BertModel, DistilBertModel and RobertaModel: no head.
COUNTS = {
    "bert_tiny": 4_385_920,
    "bert_base": 109_482_240,
    "bert_large": 335_141_888,
    "distilbert_base": 66_362_880,
    "roberta_base": 124_645_632,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    found = kzoo.describe(name, num_classes=0)["trainable_parameters"]
    assert found == COUNTS[name]


@pytest.mark.contract
def test_positions_are_counted_past_the_padding() -> None:
    layer = CountedPositions(4, first=2)
    x = np.zeros((3, 4, 3), "float32")
    mask = np.array([[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
    found = keras.ops.convert_to_numpy(layer(x, mask=mask))
    table = keras.ops.convert_to_numpy(layer.table)
    assert len(table) == 6
    rows = [[2, 3, 4, 1], [1, 1, 2, 3], [1, 1, 1, 1]]
    np.testing.assert_allclose(found, table[rows], atol=1e-7)
    without = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(without, table[[[2, 3, 4, 5]] * 3], atol=1e-7)
    with pytest.raises(ValueError, match="a sequence of 5 steps is longer than the po"):
        layer(np.zeros((1, 5, 3), "float32"))


@pytest.mark.contract
def test_segments_change_the_answer() -> None:
    model = kzoo.build_model(
        "bert_tiny", vocab_size=9, hidden_dim=8, mlp_dim=8, segment_ids=True
    )
    tokens = np.array([[3, 4, 5, 0]], "int32")
    first, second = (
        keras.ops.convert_to_numpy(model({"tokens": tokens, "segment_ids": segments}))
        for segments in (np.zeros_like(tokens), np.array([[0, 0, 1, 0]], "int32"))
    )
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.contract
@pytest.mark.parametrize("name", ["bert_tiny", "distilbert_base", "roberta_base"])
def test_one_answer_a_token(name: str) -> None:
    small = {"hidden_dim": 8, "num_heads": 2, "mlp_dim": 8, "num_layers": 1}
    model = kzoo.build_model(name, vocab_size=9, per_step=True, num_classes=5, **small)
    assert model.output_shape == (None, None, 5)
    assert "pooled" not in kzoo.list_features(model)
    maps = model.attention_maps(np.array([[3, 4, 5]], "int32"))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(maps["block_0"]).sum(-1), 1, atol=1e-6
    )
