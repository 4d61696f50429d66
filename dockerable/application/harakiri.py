"""Each worker records its requests; if one exceeds UWSGI_HARAKIRI, the worker's stacks are written before it is killed.

uWSGI sends SIGNAL one second before it kills a worker. faulthandler then writes the stacks of all threads by a handler
in C, which also works while C code holds the interpreter lock. The worker that replaces the killed one logs the
requests and stacks (harakiri_report.py).

uWSGI counts its deadline from a worker's newest request, and drops it when any request of the worker ends. So a worker
with several threads has one more thread, which checks once a second how long the oldest request has been running.

wsgi.py calls `start` when a worker has loaded the application and `begin` for each request; standard library only.
"""

import faulthandler
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dockerable.application import request_notes
from dockerable.application.harakiri_report import report
from dockerable.application.request_notes import HEAD, notes
from dockerable.container import limits
from dockerable.container.places import WORKERS

# harakiri-graceful-signal in uwsgi.ini; a real-time signal, since uWSGI and projects use the others.
SIGNAL = 40
# Seconds after the deadline at which faulthandler ends the worker. This happens only if the watching thread cannot run
# because C code of a request holds the interpreter lock.
LATE = 3.0


def _nothing(environ: Mapping[str, Any]) -> None:
    """Record nothing: used before `start`, and outside uWSGI."""


begin: Callable[[Mapping[str, Any]], None] = _nothing


def start(uwsgi: Any, threads: int, deadline: float, folder: Path = WORKERS) -> None:
    """Log the report about this worker's predecessor, then record requests from now on. Raises OSError.

    `uwsgi` is uWSGI's module, `deadline` its harakiri in seconds.
    """
    global begin
    folder.mkdir(exist_ok=True)
    requests, stacks = folder / f"{uwsgi.worker_id()}.requests", folder / f"{uwsgi.worker_id()}.stacks"
    for line in report(requests, stacks, uwsgi.worker_id(), deadline):
        os.write(2, line)
    size = request_notes.size(threads)
    requests.write_bytes(HEAD.pack(os.getpid(), limits.oom_kills() or 0).ljust(size, b"\0"))
    with requests.open("r+b") as file:
        slots = mmap.mmap(file.fileno(), size)
    begin, end = notes(slots, threads)
    _call_after_each_request(uwsgi, end)

    # Never closed, since faulthandler writes to the descriptor.
    output = stacks.open("wb", buffering=0)
    faulthandler.enable(output)
    # SIGHUP makes the worker accept no further requests in its last second; a request that ends in time is answered.
    signal.signal(SIGNAL, lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    faulthandler.register(SIGNAL, output, all_threads=True, chain=True)
    if threads > 1:
        threading.Thread(target=watch, args=(uwsgi, slots, deadline, output), daemon=True).start()


def _call_after_each_request(uwsgi: Any, function: Callable[[], None]) -> None:
    """Make uWSGI call `function` after each request, in addition to the project's own hook."""
    theirs = getattr(uwsgi, "after_req_hook", None)

    def both() -> None:
        function()
        if theirs:
            theirs()

    uwsgi.after_req_hook = both if theirs else function


def watch(uwsgi: Any, slots: mmap.mmap, deadline: float, output: Any) -> None:
    """Make uWSGI replace this worker once its oldest request exceeds the deadline; runs in its own thread."""
    # uWSGI's signal handlers must run in its main thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        running = [one.begin for one in request_notes.read(slots[:]).requests if one.begin and not one.end]
        left = min(running, default=time.monotonic()) + deadline - time.monotonic()
        if left <= 0:
            break
        # Set again in each turn. If this thread does not run in time, faulthandler's C thread writes the stacks and
        # exits.
        faulthandler.dump_traceback_later(left + LATE, exit=True, file=output)
        time.sleep(min(left, 1.0))
    # The worker accepts no more requests. Those it has may finish until uWSGI's master kills it, about a second after
    # SIGNAL.
    os.kill(os.getpid(), signal.SIGHUP)
    while True:
        # A deadline in the past. It is set repeatedly, since the end of any other request removes it.
        uwsgi.set_user_harakiri(-1)
        time.sleep(0.2)
