"""What a command of the command line leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def complaint(self) -> str:
        """Return the one line of a command that was refused."""
        assert self.code == 2, self.err
        assert self.out == ""
        (line,) = (line for line in self.err.splitlines() if line.startswith("error: "))
        return line


Command = Callable[..., Outcome]
