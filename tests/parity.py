"""kzoo's networks beside the same ones of another zoo, on the same weights.

The peer gets random weights and statistics of batch normalisation that are far from
0 and 1; they go over by the names of ``kzoo/weights/names``; then both see the same
images. No number here comes from kzoo alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from tolerance import rounding_noise, unit_roundoff

from kzoo.features import features
from kzoo.weights.convert import from_source

BATCH = 2


def peer_model(path: str, **options: Any) -> Any:
    """``timm/NAME`` or ``torchvision/NAME``, as it is drawn."""
    source, _, name = path.partition("/")
    if source == "timm":
        import timm

        return timm.create_model(name, **options)
    import torchvision

    return torchvision.models.get_model(name, **options)


def assert_parity(
    name: str,
    peer: Any,
    source: str,
    *,
    sizes: tuple[tuple[int, int], ...],
    taps: Mapping[str, str],
    state: Mapping[str, np.ndarray] | None = None,
    gradients: bool = False,
    tolerance: float = 1e-4,
    **values: Any,
) -> None:
    """Asserts that kzoo's model answers as the peer does.

    Args:
        name: of kzoo's model.
        peer: a ``torch.nn.Module`` that takes (batch, channels, height, width).
        source: whose names the peer's state dict has.
        sizes: height and width of the images.
        taps: kzoo's taps -> the peer's modules with the same output.
        state: what kzoo reads, where the peer is to stay as it is; by default the
            peer gets weights anew, and kzoo reads them.
        gradients: compare those of the images too, at the last size.
        tolerance: of the greatest difference, as a share of the greatest value.
        **values: hyper-parameters of kzoo's model.
    """
    channels = values.get("channels", 3)
    if state is None:
        state = state_of(randomized(peer, images_of(sizes[0], channels, batch=4)))
    model = from_source(state, name, source, **values).model
    for size in sizes:
        images = images_of(size, channels)
        expected = outputs_of(peer, images, taps)
        assert np.ptp(expected["logits"]) > 1e-3, "the peer says nothing"
        found = features(model, list(expected))(images, training=False)
        for tap, value in expected.items():
            actual = keras.ops.convert_to_numpy(found[tap])
            error = relative_error(actual, like(actual, value))
            assert error < tolerance, f"{name} at {size}: {tap} is off by {error:.2g}"
    if gradients:
        assert_gradients(model, peer, sizes[-1])


def assert_gradients(model: keras.Model, peer: Any, size: tuple[int, int]) -> None:
    """Asserts that both move their logits alike when the images move.

    On one of eight pairs of images: a unit that rounding puts on the other side of its
    kink has a gradient all of its own, in one library as in the other. (In float64 it
    would be as rare as never, but Keras normalises batches in float32 at most.) Where
    each pair has such units, as inception_v3 on some processors, the best of them may
    be off by what noise of float32's size makes of the network's own gradients, see
    ``tolerance``: 2e-6 of that network's where no unit is turned, 2e-2 where some are.
    """
    errors, moved = [], []
    for seed in range(8):
        images = images_of(size, model.input_shape[-1], seed=seed)
        logits = model(images, training=False)
        weights = np.random.default_rng(2).normal(size=tuple(logits.shape))
        weights = weights.astype("float32")
        ours = input_gradients(model, images, weights)
        errors.append(relative_error(ours, peer_gradients(peer, images, weights)))
        if errors[-1] < 1e-3:
            return
        with rounding_noise(unit_roundoff("float32")):
            noisy = input_gradients(model, images, weights)
        moved.append(relative_error(noisy, ours))
    off, noise = min(errors), max(moved)
    assert off <= noise, (
        f"{model.name}: gradients are off by {off:.2g}, not {noise:.2g}"
    )


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The greatest |a - b| over the greatest |b|; infinite where the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def randomized(peer: Any, images: np.ndarray) -> Any:
    """The peer, to be compared, with weights and statistics unlike a fresh model's.

    Statistics of batch normalisation are made on the way of ``images`` through the
    network, each from what comes in under those before it, so that no depth makes the
    numbers grow. They let most units be positive by a standard deviation: ReLUs about
    the mean tear neighbours apart, each by a fifth, until float32 alone moves a deep
    network's logits by 1e-3.
    """
    import torch

    generator = torch.Generator().manual_seed(1)

    def draw(like: Any) -> Any:
        return torch.randn(like.shape, generator=generator)

    def calibrate(norm: Any, inputs: Any) -> None:
        axes = (0, *range(2, inputs[0].ndim))
        mean, variance = inputs[0].mean(axes), inputs[0].var(axes, correction=0)
        norm.running_mean.copy_(mean + (0.2 * draw(mean) - 1) * variance.sqrt())
        uneven = 0.25 + 1.5 * torch.rand(variance.shape, generator=generator)
        norm.running_var.copy_(variance * uneven)

    peer.eval()
    norms = [m for m in peer.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, tensor in peer.named_parameters():
            if tensor.ndim > 1:
                tensor.copy_(draw(tensor) * (2 / tensor[0].numel()) ** 0.5)
            else:
                mean = 1 if name.endswith("weight") else 0
                tensor.copy_(draw(tensor) * 0.2 + mean)
        hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
        peer(channels_first(images))
        for hook in hooks:
            hook.remove()
    return peer


def state_of(peer: Any) -> dict[str, np.ndarray]:
    """The peer's state dict in numpy."""
    return {key: value.numpy().copy() for key, value in peer.state_dict().items()}


def images_of(
    size: tuple[int, int], channels: int, batch: int = BATCH, seed: int = 0
) -> np.ndarray:
    rng = np.random.default_rng([sum(size), seed])
    return rng.normal(size=(batch, *size, channels)).astype("float32")


def channels_first(images: np.ndarray) -> Any:
    """(batch, h, w, c) -> a tensor of PyTorch's (batch, c, h, w)."""
    import torch

    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def outputs_of(
    peer: Any, images: np.ndarray, taps: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The peer's logits and the outputs of some of its modules, by kzoo's taps."""
    import torch

    outputs: dict[str, np.ndarray] = {}

    def record(tap: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            outputs[tap] = output.detach().numpy().copy()

        return hook

    modules = dict(peer.named_modules())
    hooks = [
        modules[module].register_forward_hook(record(tap))
        for tap, module in taps.items()
    ]
    with torch.no_grad():
        logits = peer(channels_first(images))
    for hook in hooks:
        hook.remove()
    return {**outputs, "logits": logits.numpy()}


def channels_last(tensor: Any) -> np.ndarray:
    """(batch, c, h, w) -> (batch, h, w, c), in memory of its own."""
    array = tensor.detach().numpy()
    return (array.transpose(0, 2, 3, 1) if array.ndim == 4 else array).copy()


def like(actual: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The peer's output with channels last, as some peers have it already."""
    if value.ndim == 4 and value.shape != actual.shape:
        return value.transpose(0, 2, 3, 1)
    return value


def peer_gradients(peer: Any, images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of the weighted sum of the logits by the images, (batch, h, w, c)."""
    import torch

    x = channels_first(images).requires_grad_()
    (peer(x) * torch.from_numpy(weights)).sum().backward()
    return channels_last(x.grad)


def input_gradients(
    model: keras.Model, images: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The same of a Keras model, on whatever backend there is."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(model(x, training=False) * weights)
        return tape.gradient(total, x).numpy()
    if backend == "jax":
        import jax

        def weighted(x: Any) -> Any:
            return (model(x, training=False) * weights).sum()

        return np.asarray(jax.grad(weighted)(images))
    import torch

    x = torch.from_numpy(images).requires_grad_()
    (model(x, training=False) * torch.from_numpy(weights)).sum().backward()
    return x.grad.numpy()
