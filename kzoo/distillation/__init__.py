"""Distillation: from a teacher to a run folder of its student, studies and reports."""

from kzoo.datasets.few_labels import few_labels
from kzoo.distillation.distill import DistillOptions, distill
from kzoo.distillation.report import compare
from kzoo.distillation.study import study

__all__ = ["DistillOptions", "compare", "distill", "few_labels", "study"]
