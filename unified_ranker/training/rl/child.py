"""The process that verl runs in: it ends when its parent does, so that a killed run leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, where it can be asked (Linux)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before we could ask.
        sys.exit(1)


def main() -> None:
    """Run a module; the arguments are the parent's process id, the module, and the module's own."""
    die_with(int(sys.argv[1]))
    module = sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
