"""One thing done on all machines at once, and one holder for all their connections."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from fabric import Connection, ThreadingGroup

T = TypeVar("T")
R = TypeVar("R")

#: Most threads `on_all` uses at once.
LIMIT = 32

#: Seconds `on_all` gives the closers, and the functions they free, when it is interrupted.
CLOSE_GRACE = 5.0


def fleet(connections: Mapping[str, Connection] | Iterable[Connection]) -> ThreadingGroup:
    """Put connections into a Fabric group: a container, and a closer for all of them.

    Two names for one machine stay two members. The group's own `run` keys its results by host, user and port,
    where they would collapse: use `on_all` with a mapping by name. Gateways are not closed by the group.
    """
    from fabric import ThreadingGroup

    return ThreadingGroup.from_connections(
        connections.values() if isinstance(connections, Mapping) else connections
    )


def on_all(
    items: Mapping[str, T] | Iterable[T],
    function: Callable[[T], R],
    limit: int = LIMIT,
    *,
    close: Callable[[T], object] | None = None,
    patience: Callable[[R, float], float | None] = lambda _result, _took: None,
    late: dict[Any, Future[R]] | None = None,
) -> dict[Any, R | Exception]:
    """Call ``function(item)`` for all items side by side, at most ``limit`` at once.

    What a call returns or raises stands in the result under the item's key, in the order of ``items``: one
    machine's error is its own. Keys are those of a mapping; else an item's ``name``, or the item itself.

    Who need not wait for the slowest gives ``late``, and ``patience``: that is shown each result with the seconds
    that it took, and may say how many seconds more the others have. Those that take longer go into ``late``, and
    their calls go on.

    When it is interrupted (Ctrl-C, or whatever else is no `Exception`), what has not begun is dropped and every
    item is closed, by ``close`` or else by its own ``close()`` if it has one, so that calls which wait for a
    machine return; then the interruption goes on to the caller.
    """
    if isinstance(items, Mapping):
        keyed: dict[Any, T] = dict(items)
    else:
        keyed = {getattr(item, "name", item): item for item in items}
    futures: dict[Any, Future[R]] = {key: Future() for key in keyed}
    try:
        begin([(futures[key], item) for key, item in keyed.items()], function, limit)
        began = time.monotonic()
        until: float | None = None
        pending = set(futures.values())
        while pending:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            done, pending = wait(pending, timeout=left, return_when=FIRST_COMPLETED)
            now = time.monotonic()
            for future in done:
                error = future.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error  # noqa: TRY301 - an interruption in a thread is handled as one of ours
                if error is None and late is not None and until is None:
                    more = patience(future.result(), now - began)
                    until = None if more is None else now + more
            if late is not None and until is not None and now >= until:
                break
    except BaseException:
        for future in futures.values():
            future.cancel()
        _close_all(keyed.values(), close)
        wait(futures.values(), timeout=CLOSE_GRACE)
        raise
    if late is not None:
        late.update((key, future) for key, future in futures.items() if future in pending)
    results: dict[Any, R | Exception] = {}
    for key, future in futures.items():
        if late and key in late:
            continue
        error = future.exception()
        results[key] = error if isinstance(error, Exception) else future.result()
    return results


def begin(calls: Iterable[tuple[Future[R], T]], function: Callable[[T], R], limit: int = LIMIT) -> None:
    """Begin calls, at most ``limit`` at once, whose outcome goes into their futures; does not wait.

    An executor would keep the process from ending until the last call returns, and some wait for a machine.
    """
    todo: queue.SimpleQueue[tuple[Future[R], T]] = queue.SimpleQueue()
    for call in calls:
        todo.put(call)

    def work() -> None:
        while True:
            try:
                future, item = todo.get_nowait()
            except queue.Empty:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function(item)
            except BaseException as exc:  # noqa: BLE001 - raised where the outcome is asked for
                future.set_exception(exc)
            else:
                future.set_result(result)

    for number in range(min(max(limit, 1), todo.qsize())):
        threading.Thread(target=work, name=f"machine {number}", daemon=True).start()


def _close_all(items: Iterable[T], close: Callable[[T], object] | None) -> None:
    """Close all items at once; one that takes long does not keep the others, or us."""

    def quietly(item: T) -> None:
        try:
            own = getattr(item, "close", None)
            if close is not None:
                close(item)
            elif callable(own):
                own()
        except Exception:  # noqa: BLE001, S110 - it is being given up anyway
            pass

    threads = [threading.Thread(target=quietly, args=(item,), daemon=True) for item in items]
    deadline = time.monotonic() + CLOSE_GRACE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
