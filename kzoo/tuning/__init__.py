"""Sweeps on KerasTuner: spaces, oracles, pruning, resume, reports."""

from kzoo.lazy import lazily

# Where each public name lives.
_HOMES = {
    "Sweep": "kzoo.tuning.sweep",
    "SweepError": "kzoo.tuning.tune",
    "TuneOptions": "kzoo.tuning.options",
    "replay": "kzoo.tuning.after",
    "retrain": "kzoo.tuning.after",
    "tune": "kzoo.tuning.tune",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
