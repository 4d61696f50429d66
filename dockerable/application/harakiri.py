"""A worker notes its requests and, when one exceeds UWSGI_HARAKIRI, writes the stacks of its threads before it dies.

uWSGI sends SIGNAL a second before it kills. faulthandler then writes the stacks by a handler in C, which works also
where C code keeps the interpreter. The worker that takes the killed one's place logs what it did: harakiri_report.py.

uWSGI counts its deadline from a worker's newest request, and forgets it when any of its requests ends. So a worker
with several threads has one more thread, which looks once a second how long its oldest request has been running.

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
# Seconds after the deadline at which C code ends the worker if the watching thread has not: the C code of a request
# then keeps the interpreter.
LATE = 3.0


def _nothing(environ: Mapping[str, Any]) -> None:
    """Note nothing: before `start`, and outside uWSGI."""


begin: Callable[[Mapping[str, Any]], None] = _nothing


def start(uwsgi: Any, threads: int, deadline: float, folder: Path = WORKERS) -> None:
    """Log the report about this worker's predecessor, then note requests from now on. Raises OSError.

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

    # Never closed: faulthandler keeps the descriptor.
    output = stacks.open("wb", buffering=0)
    faulthandler.enable(output)
    # By SIGHUP the worker takes no other request in the second that is left, and a request that ends in time gets its
    # answer.
    signal.signal(SIGNAL, lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    faulthandler.register(SIGNAL, output, all_threads=True, chain=True)
    if threads > 1:
        threading.Thread(target=watch, args=(uwsgi, slots, deadline, output), daemon=True).start()


def _call_after_each_request(uwsgi: Any, function: Callable[[], None]) -> None:
    """Have uWSGI call it, and what the project has there."""
    theirs = getattr(uwsgi, "after_req_hook", None)

    def both() -> None:
        function()
        if theirs:
            theirs()

    uwsgi.after_req_hook = both if theirs else function


def watch(uwsgi: Any, slots: mmap.mmap, deadline: float, output: Any) -> None:
    """Have this worker replaced once its oldest request exceeds the deadline; runs in a thread of its own."""
    # uWSGI's signal handlers belong on its own main thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        running = [one.begin for one in request_notes.read(slots[:]).requests if one.begin and not one.end]
        left = min(running, default=time.monotonic()) + deadline - time.monotonic()
        if left <= 0:
            break
        # Set again in each turn. Where this thread gets no turn in time, a thread in C writes the stacks and exits.
        faulthandler.dump_traceback_later(left + LATE, exit=True, file=output)
        time.sleep(min(left, 1.0))
    # The worker takes no more requests; those it has may finish until uWSGI's master kills it, about a second after
    # its signal.
    os.kill(os.getpid(), signal.SIGHUP)
    while True:
        # A deadline in the past, set again and again, since the end of another request removes it.
        uwsgi.set_user_harakiri(-1)
        time.sleep(0.2)
