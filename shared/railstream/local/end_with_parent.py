"""Become another program that the kernel ends when the supervisor dies, however it dies (Linux).

Run as a script, so that it needs only the standard library:
``end_with_parent.py SUPERVISOR_PID SIGNAL PROGRAM [ARGUMENT…]``.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tether(supervisor: int, ending: signal.Signals) -> None:
    """Ask for ``ending`` on the supervisor's death; exit if that has happened already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, ending, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit(1)


if __name__ == "__main__":
    tether(int(sys.argv[1]), signal.Signals[sys.argv[2]])
    os.execvp(sys.argv[3], sys.argv[3:])
