"""The machine's processors and load, and the signals by which it asks a process to end."""

from __future__ import annotations

import math
import os
import signal

from fabbuild.worker.base import cgroups

#: From a terminal, a user or the system; each ends a process of ours in order.
END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def usable_threads() -> int:
    """Return how many processors this process may use, by its affinity and by the quotas of its control groups."""
    try:
        most = len(os.sched_getaffinity(0))
    except OSError:
        most = os.cpu_count() or 1
    quota = cgroups.processors()
    return max(1, most if quota is None else min(most, math.ceil(quota)))


def load_average() -> float:
    """Return the load average over one minute; 0 if the system does not report it.

    The system's is that of all its processors. Where this process may use only some, it is their share.
    """
    try:
        load = os.getloadavg()[0]
    except OSError:
        return 0.0
    threads = usable_threads()
    return round(load * threads / max(os.cpu_count() or 1, threads), 2)
