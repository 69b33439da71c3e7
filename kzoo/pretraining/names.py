"""The names of the objectives; without Keras, so that a typo gets its error at once."""

from kzoo.hparams import nearest

NAMES = (
    "contrastive",
    "autoencoder",
    "denoising",
    "masked_image",
    "masked_tokens",
    "next_token",
    "replaced_token",
)


def check_objective(name: str) -> None:
    """Raises a ``ValueError`` with the nearest where none has this name."""
    if name not in NAMES:
        raise ValueError(f"unknown objective {name!r}{nearest(name, NAMES)}")
