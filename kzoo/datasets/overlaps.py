"""Windows that were cut from one series and share steps with each other."""

import numpy as np

CHECKED = 200  # pairs of neighbours


def overlapping_windows(windows: np.ndarray) -> bool:
    """Whether most windows begin with what the one before them ends with.

    Window i + 1 repeats window i, moved by some steps: ``x[i, s:] == x[i + 1, :-s]``,
    number for number, at least two steps of them, which are not all alike. Up to 200
    pairs of neighbours are checked, evenly spread.

    Args:
        windows: (examples, time), or (examples, time, features), in their order.

    Example:
        >>> series = np.sin(np.arange(50.0))
        >>> cut = np.stack([series[i : i + 10] for i in range(0, 40, 4)])
        >>> overlapping_windows(cut), overlapping_windows(cut[::3])
        (True, False)
    """
    if len(windows) < 3 or windows.shape[1] < 3:
        return False
    rows = np.unique(np.linspace(0, len(windows) - 2, CHECKED).astype(int))
    overlapping = sum(_overlap(windows[i], windows[i + 1]) for i in rows)
    return bool(2 * overlapping > len(rows))


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the second window goes on from within the first."""
    first, second = (one.reshape(len(one), -1) for one in (first, second))
    begins = np.flatnonzero((first[1:-1] == second[0]).all(1)) + 1
    for start in begins.tolist():
        shared = first[start:]
        alike = (shared == shared[0]).all()
        if not alike and np.array_equal(shared, second[: len(shared)]):
            return True
    return False
