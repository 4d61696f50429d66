"""The application's log records in a running container, and the handling of its failures."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.environments import LOCAL, MODULE, settings_folder
from tests.support.stack import Stack
from tests.support.wait import wait_until

# An answer that failed half-way is cut 5 s after this.
HARAKIRI = "2"


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    stack = Stack.trial({"UWSGI_HARAKIRI": HARAKIRI, "UWSGI_PROCESSES": "1", "UWSGI_THREADS": "2"})
    stack.allowed = [
        r"\berror: (shop|django|py|dockerable)\.",
        r"upstream timed out",
        "prematurely closed",
        r"GET /\w+.*HTTP/1.1 50\d",
        "level=ERROR",
    ]
    return stack


def lines(stack: Stack, pattern: str) -> list[str]:
    """Lines of the log that match, without Django's tag, once there is one."""
    found = wait_until(lambda: [line for line in stack.logs().splitlines() if re.search(pattern, line)])
    return [line.removeprefix("django: ") for line in found]


def test_a_record_says_its_level_logger_and_request(site: Stack) -> None:
    for level, start in (("INFO", ""), ("ERROR", "error: ")):
        identity = site.get(f"/log?level={level}&message=said+{level}%0Atwice", X_Request_ID="a1").text
        (line,) = lines(site, rf"said {level}\\n")
        assert line == rf"{start}shop.orders [{identity}]: said {level}\ntwice"


def test_a_long_record_is_whole(site: Stack) -> None:
    site.get("/log?level=INFO&message=long+&length=30000")
    pieces = re.compile(r" \[continues\]\ndjango: \[continued\] (\[[\w-]+\] )?")
    wait_until(lambda: re.search("^django: .*: long x{30000}$", pieces.sub("", site.logs()), re.MULTILINE))


def test_a_crash_is_one_record(site: Stack) -> None:
    assert site.get("/crash").status_code == 500
    (line,) = lines(site, "as the test asked")
    assert re.match(r"error: django\.request( \[\S+\])?: Internal Server Error: /crash\\nTraceback", line)


def test_a_failing_thread_is_one_record(site: Stack) -> None:
    site.get("/thread")
    (line,) = lines(site, "thread failing")
    assert line.startswith("error: py.exceptions: ")
    assert line.endswith("RuntimeError: as the test asked")


def test_a_page_that_is_missing_is_said_by_the_access_log_only(site: Stack) -> None:
    site.get("/nothing-here")
    (line,) = lines(site, "nothing-here")
    assert '"GET /nothing-here HTTP/1.1" 404' in line


@pytest.mark.parametrize(("path", "reason"), [("/leave", "SystemExit"), ("/streaming/0", "RuntimeError")])
def test_what_leaves_the_application_is_a_500_and_one_record(site: Stack, path: str, reason: str) -> None:
    answer = site.get(path)
    assert (answer.status_code, answer.content) == (500, b"")
    (line,) = lines(site, f"The application failed: GET {path}")
    assert re.search(rf"\\nTraceback.*\\n{reason}: ", line)
    assert site.get("/show").status_code == 200


FAILS = """
from django.http import StreamingHttpResponse
from django.urls import path

def pieces():
    # So much that nginx sends the head.
    yield b"x" * 100_000
    raise RuntimeError("in the middle")

def leave(request):
    raise SystemExit(3)

urlpatterns = [path("streaming", lambda request: StreamingHttpResponse(pieces())), path("leave", leave)]
"""
# Two LOGGINGs without the request id. The first is typical; Python then disables loggers that existed before.
PLAIN = {
    "version": 1,
    "formatters": {"plain": {"format": "plain %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
SILENT = {"version": 1, "handlers": {"no": {"class": "logging.NullHandler"}}, "root": {"handlers": ["no"]}}


@pytest.mark.parametrize(("logging", "log_format"), [(PLAIN, "text"), (SILENT, "json")], ids=["plain", "silent"])
def test_whatever_the_projects_logging_is_what_leaves_the_application_is_logged_with_the_requests_id(
    logging: dict[str, object], log_format: str, new_stack: Callable[[Stack], Stack], tmp_path: Path
) -> None:
    settings = f"{LOCAL}ROOT_URLCONF = 'project.settings.prod.urls'\nLOGGING = {logging!r}\n"
    mounts = settings_folder(tmp_path / "prod", {"settings.py": settings, "urls.py": FAILS})
    variables = {"DJANGO_SETTINGS_MODULE": MODULE, "LOG_FORMAT": log_format, "UWSGI_HARAKIRI": HARAKIRI}
    stack = new_stack(Stack(variables, mounts=mounts))
    stack.allowed = [
        "dockerable.*(RuntimeError|SystemExit)",
        "upstream timed out",
        '"log.level":"error"',
        "GET /streaming HTTP",
    ]
    stack.up()
    headers = {}
    with stack.client() as client:
        for path in ("/leave", "/streaming"):
            # Of the second no more than the head: its end comes with nginx's timeout.
            with client.stream("GET", path) as begun:
                headers[path] = begun.headers
    answers = [(headers["/leave"], "SystemExit: 3", "The application failed: GET /leave")]
    answers.append((headers["/streaming"], "RuntimeError: in the middle", "was sent: GET /streaming"))
    for answer, reason, message in answers:
        (line,) = wait_until(lambda: [one for one in stack.logs().splitlines() if reason in one])  # noqa: B023
        assert message in line
        if log_format == "json":
            assert json.loads(line)["http.request.id"] == answer["x-request-id"]
        else:
            assert line.startswith("django: error: dockerable.")
            assert f" [{answer['x-request-id']}]: " in line


def test_an_answer_that_fails_half_way_is_cut_and_one_record(site: Stack) -> None:
    before = time.monotonic()
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
        site.get("/streaming/100")
    assert time.monotonic() - before < int(HARAKIRI) + 40
    (line,) = lines(site, "failed while it was sent: GET /streaming/100")
    assert line.endswith("RuntimeError: in the middle")
    assert not [line for line in site.logs().splitlines() if line.startswith("Traceback")]


def test_workers_serve_on_while_such_answers_wait_to_be_cut(site: Stack) -> None:
    with site.client(limits=httpx.Limits(max_connections=None)) as client:
        for _ in range(150):
            with pytest.raises(httpx.ReadTimeout):
                client.get("/streaming/1", timeout=0.02)
        assert client.get("/show").status_code == 200
        worker = client.get("/show").json()["pid"]
    assert len(site.exec("ls", f"/proc/{worker}/fd").split()) < 100


UNWRAPPED = """
from django.conf import settings
settings.ALLOWED_HOSTS = ["testserver"]
from django.test import RequestFactory
from django.http import FileResponse, HttpResponse
import dockerable.application.wsgi as it
def kind(path):
    environ = RequestFactory().get(path).environ | {"wsgi.file_wrapper": lambda file, size: file}
    return type(it.application(environ, lambda *words: None)).__name__
print(*map(kind, ("/show", "/download", "/streaming/1")))
"""


def test_only_streaming_answers_are_wrapped(site: Stack) -> None:
    """uWSGI uses sendfile only if it gets the file object itself, unwrapped."""
    assert site.exec("manage", "shell", "-v", "0", "-c", UNWRAPPED) == "JsonResponse BufferedReader Streaming"
    assert "def download" in site.get("/download").text


RECORDS = """
import logging
for level in ("info", "error"):
    getattr(logging.getLogger("shop"), level)("said " + level, extra={"order": 7})
"""


def test_json_and_the_level_are_chosen_by_variables(site: Stack) -> None:
    shell = 'LOG_FORMAT=json LOG_LEVEL=error manage shell -v 0 -c "$1" 2>&1'
    fields = json.loads(site.exec("sh", "-c", shell, "sh", RECORDS))
    assert (fields["message"], fields["log.level"], fields["labels.order"]) == ("said error", "error", 7)
