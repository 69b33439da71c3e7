"""The table of a sweep, as it fills."""

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

SHOWN = 12


class SweepTable:
    """The best trials and the latest ones; a line a trial where there is no terminal.

    Args:
        trials: of the whole sweep.
    """

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.told: set[int] = set()

    def __enter__(self) -> "SweepTable":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Takes the rows of ``trials.csv``."""
        if self.console.is_terminal:
            self.live.update(self._table(rows), refresh=True)
            return
        for row in rows:
            if row["status"] != "running" and row["trial"] not in self.told:
                self.told.add(row["trial"])
                self.console.print(
                    f"trial {row['trial'] + 1}/{self.trials}  "
                    + "  ".join(f"{k} {_short(v)}" for k, v in row.items() if v != ""),
                    highlight=False,
                    soft_wrap=True,
                )

    def _table(self, rows: list[dict[str, Any]]) -> Table:
        ended = sum(row["status"] != "running" for row in rows)
        table = Table(title=f"{ended} of {self.trials} trials")
        for name in rows[0]:
            if name != "seed":
                table.add_column(name, overflow="fold")
        for row in rows[-SHOWN:]:
            table.add_row(*(_short(v) for k, v in row.items() if k != "seed"))
        return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
