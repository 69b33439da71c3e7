"""kzoo's decoders beside those of transformers, on the same random weights."""

from typing import Any

import keras
import numpy as np

import kzoo
from kzoo.weights.convert import from_source, to_source


def randomized(peer: Any, spread: float = 3.0) -> Any:
    """The peer with weights unlike a fresh model's, that say different things.

    Kernels are large, so that what came before matters; biases and scales are drawn.
    With too large a ``spread``, rounding alone parts two libraries.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(spread * drawn * parameter.shape[-1] ** -0.5)
            else:
                parameter.copy_(0.3 * drawn + name.endswith("weight"))
    return peer.eval()


def state_of(peer: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in peer.state_dict().items()}


def converted(peer: Any, name: str, **values: Any) -> keras.Model:
    return from_source(state_of(peer), name, "transformers", **values).model


def assert_same_bits_back(model: keras.Model, peer: Any) -> None:
    """The peer's own tensors come out of kzoo's model, bit by bit."""
    expected, found = state_of(peer), to_source(model, "transformers")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_close(actual: Any, expected: Any, what: str) -> None:
    """To 1e-4 of the greatest value."""
    a, b = keras.ops.convert_to_numpy(actual), expected.detach().numpy()
    assert a.shape == b.shape
    error = np.abs(a - b).max() / np.abs(b).max()
    assert error < 1e-4, f"{what} is off by {error:.2g}"


def prompts(count: int, vocab_size: int, least: int = 1) -> list[list[int]]:
    """Prompts of unequal length, none of which holds the tokens 0 to 3."""
    rng = np.random.default_rng(3)
    lengths = least + np.arange(count) % 11
    return [rng.integers(4, vocab_size, length).tolist() for length in lengths]


def generated_by(peer: Any, prompt: list[int], **options: Any) -> list[int]:
    """What transformers writes for one prompt alone, with its end and no padding."""
    import torch

    ids = torch.tensor([prompt])
    config = {"do_sample": False, "num_beams": 1} | options
    found = peer.generate(ids, attention_mask=torch.ones_like(ids), **config)
    return found[0].tolist()


def without_padding(ids: list[int], end: int) -> list[int]:
    """Up to the first end token, which stays."""
    return ids[: ids.index(end) + 1] if end in ids else ids


def taps_of(model: keras.Model, names: list[str], inputs: Any) -> dict[str, Any]:
    found: dict[str, Any] = kzoo.features(model, names)(inputs, training=False)
    return found
