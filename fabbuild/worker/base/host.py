"""The machine's processors and load, and the signals by which it asks a process to end."""

from __future__ import annotations

import os
import signal

#: From a terminal, a user or the system; each ends a process of ours in order.
END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def usable_threads() -> int:
    """Return how many processors this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except OSError:
        return max(1, os.cpu_count() or 1)


def load_average() -> float:
    """Return the load average over one minute; 0 if the system does not report it."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return 0.0
