"""Sweeps on KerasTuner: spaces, oracles, pruning, resume, reports."""

from kzoo.tuning.after import replay, retrain
from kzoo.tuning.request import TuneOptions
from kzoo.tuning.sweep import Sweep
from kzoo.tuning.tune import SweepError, tune

__all__ = ["Sweep", "SweepError", "TuneOptions", "replay", "retrain", "tune"]
