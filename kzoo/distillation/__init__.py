"""Distillation: from a teacher to a run folder of its student, studies and reports."""

from kzoo.lazy import lazily

# Where each public name lives.
_HOMES = {
    "DistillOptions": "kzoo.distillation.options",
    "compare": "kzoo.distillation.report",
    "distill": "kzoo.distillation.distill",
    "few_labels": "kzoo.datasets.few_labels",
    "study": "kzoo.distillation.study",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
