"""Pre-training: encoders that learn without labels, and what features are worth."""

from kzoo.pretraining.objectives import OBJECTIVES
from kzoo.pretraining.pretrain import pretrain
from kzoo.pretraining.probe import probe

__all__ = ["OBJECTIVES", "pretrain", "probe"]
