"""The log record of an exception that leaves the WSGI application."""

import sys

from tests.support.docker import run


def test_what_a_client_asked_for_does_not_end_the_line_of_a_failure() -> None:
    environ = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/a%0Aerror:%20b?c", "PATH_INFO": "/a\nerror: b"}
    fail = "from dockerable.application.uncaught import failed\n"
    fail += f"try: raise RuntimeError\nexcept RuntimeError: failed({environ!r}, lambda *_: None)"
    (line,) = run(sys.executable, "-c", fail).stderr.splitlines()
    assert line.startswith(r"error: dockerable.wsgi: The application failed: GET /a%0Aerror:%20b\nTraceback ")
