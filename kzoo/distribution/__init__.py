"""Where a run runs: the one place that sees devices.

``resolve("mirrored")`` gives a :class:`Distribution`; training enters its ``scope()``,
and what runs inside asks ``current()``. One noun a file:

    single.py      what a distribution is; one device
    strategies.py  replicas of TensorFlow
    keras_mend.py  what Keras gets wrong there
    meshes.py      meshes of JAX's devices
    layouts.py     how weights lie on them
    cluster.py     which processes train together
    launcher.py    processes on this machine, and their restarts
    resolve.py     from a word to one of these
    seeds.py       generators and their states
"""

from kzoo.distribution.resolve import KINDS, devices, resolve
from kzoo.distribution.seeds import (
    enable_determinism,
    random_state,
    seed,
    set_random_state,
)
from kzoo.distribution.single import Distribution, current

__all__ = [
    "KINDS",
    "Distribution",
    "current",
    "devices",
    "enable_determinism",
    "random_state",
    "resolve",
    "seed",
    "set_random_state",
]
