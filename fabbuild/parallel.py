"""Call one function for many items at once, in threads that do not delay an interrupt."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

#: Most threads that one `start` uses.
LIMIT = 32

#: Seconds that calls have to return after an interrupt, once their connections were cut.
CUT_GRACE = 5.0


def start(items: Mapping[K, T], function: Callable[[T], R], limit: int = LIMIT) -> dict[K, Future[R]]:
    """Begin to call ``function(item)`` for all items, at most ``limit`` at once; return a future for each key.

    The threads are daemons. An executor's would keep the process from ending until the last call returns, and some
    calls wait for a machine that never answers.
    """
    futures: dict[K, Future[R]] = {key: Future() for key in items}
    todo: queue.SimpleQueue[K] = queue.SimpleQueue()
    for key in items:
        todo.put(key)

    def work() -> None:
        while True:
            try:
                key = todo.get_nowait()
            except queue.Empty:
                return
            future = futures[key]
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function(items[key])
            except BaseException as exc:  # noqa: BLE001 - raised where the outcome is asked for
                future.set_exception(exc)
            else:
                future.set_result(result)

    for number in range(min(max(limit, 1), len(futures))):
        threading.Thread(target=work, name=f"machine {number}", daemon=True).start()
    return futures


def gather(
    futures: Mapping[K, Future[R]],
    cut: Callable[[], object],
    patience: Callable[[float], float] | None = None,
    told: Callable[[K, R | Exception], object] | None = None,
) -> dict[K, R | Exception]:
    """Wait for calls that `start` began; return by key what each returned, or the exception that it raised.

    Args:
        futures: the calls.
        cut: called after an interrupt (Ctrl-C, or any other exception that is not an `Exception`, here or in a
            call); it must make waiting calls return. Calls that have not begun are dropped.
        patience: takes the seconds until the first success, and returns how many more seconds the other calls
            have; calls that take longer are missing from the result and continue. None: wait for all calls.
        told: called in this thread with each outcome as soon as it is there.
    """
    try:
        began = time.monotonic()
        until: float | None = None
        pending = set(futures.values())
        keys = {future: key for key, future in futures.items()}
        while pending:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            done, pending = wait(pending, timeout=left, return_when=FIRST_COMPLETED)
            now = time.monotonic()
            for future in done:
                error = future.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error  # noqa: TRY301 - an interrupt in a thread is handled like one in this thread
                if error is None and patience is not None and until is None:
                    until = now + patience(now - began)
                if told is not None:
                    told(keys[future], error if error is not None else future.result())
            if until is not None and now >= until:
                break
    except BaseException:
        for future in [*futures.values()][::-1]:  # the last first: a free thread takes the next one
            future.cancel()
        cut()
        wait(futures.values(), timeout=CUT_GRACE)
        raise
    results: dict[K, R | Exception] = {}
    for key, future in futures.items():
        if future not in pending:
            error = future.exception()
            results[key] = error if isinstance(error, Exception) else future.result()
    return results
