"""Pre-training: encoders that learn without labels, and what features are worth."""

from kzoo.lazy import lazily

# Where each public name lives.
_HOMES = {
    "OBJECTIVES": "kzoo.pretraining.objectives",
    "pretrain": "kzoo.pretraining.pretrain",
    "probe": "kzoo.pretraining.probe",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
