"""Kim's network against its formula in numpy, row by row over the real words."""

import keras
import numpy as np
import pytest

import kzoo

TOKENS = np.array([[3, 4, 5, 6, 7], [6, 2, 8, 0, 0], [5, 0, 0, 0, 0]], "int32")


@pytest.mark.contract
def test_pooled_is_the_papers_formula() -> None:
    """The maximum over i of relu(w . x[i : i + h] + b), zeros past both ends."""
    model = kzoo.build_model(
        "text_cnn", vocab_size=9, embedding_dim=4, kernel_sizes=(2, 3), filters=5
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    found = kzoo.features(model, ["pooled"])(TOKENS)["pooled"]
    table = model.get_layer("embedding").get_weights()[0]
    for row, tokens in enumerate(TOKENS):
        x = table[tokens[tokens != 0]]
        expected = []
        for i, size in enumerate((2, 3)):
            kernel, bias = model.get_layer(f"block_{i}").get_weights()
            before = (size - 1) // 2
            padded = np.pad(x, ((before, size - 1 - before), (0, 0)))
            answers = [
                np.tensordot(padded[at : at + size], kernel, 2) + bias
                for at in range(len(x))
            ]
            expected.append(np.maximum(answers, 0).max(axis=0))
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found)[row], np.concatenate(expected), atol=1e-5
        )


@pytest.mark.parametrize("trainable", [True, False])
def test_count_is_the_closed_form(trainable: bool) -> None:
    model = kzoo.build_model(
        "text_cnn", vocab_size=1000, num_classes=2, trainable_embedding=trainable
    )
    convolutions = sum(100 * (size * 300 + 1) for size in (3, 4, 5))
    expected = convolutions + 300 * 2 + 2
    assert kzoo.registry.trainable_parameters(model) == (
        expected + 1000 * 300 if trainable else expected
    )


def test_without_a_width_there_is_no_network() -> None:
    with pytest.raises(ValueError, match="text_cnn: kernel_sizes is empty"):
        kzoo.build_model("text_cnn", kernel_sizes=())
