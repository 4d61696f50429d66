"""What dockerable/ops/logging.py makes of a record, and how it gets to the FIFO; no container."""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from dockerable.container.log_lines import Source
from dockerable.ops.logging import JSONFormatter, LogHandler, TextFormatter, logging_configuration
from dockerable.ops.request_id import request_id
from tests.support.docker import ROOT

Make = Callable[..., logging.LogRecord]
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def record(message: Any = "sold", *arguments: Any, level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    return logging.getLogger("shop").makeRecord("shop", level, "x.py", 1, message, arguments, None, **more)


def failure() -> Any:
    try:
        raise ValueError("no\nstock")
    except ValueError:
        return sys.exc_info()


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("not even shown")


@pytest.fixture
def request_a1() -> Iterator[None]:
    token = request_id.set("a1")
    yield
    request_id.reset(token)


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A handler sets them for the whole process."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    logging.captureWarnings(False)


@pytest.mark.parametrize(
    ("level", "start"),
    [(10, "debug: "), (20, ""), (25, ""), (30, "warning: "), (40, "error: "), (50, "critical: "), (60, "critical: ")],
)
def test_text_says_the_level_except_for_info(level: int, start: str) -> None:
    assert TextFormatter().format(record(level=level)) == f"{start}shop: sold"


def test_text_says_the_request(request_a1: None) -> None:
    assert TextFormatter().format(record(level=logging.ERROR)) == "error: shop [a1]: sold"


@pytest.mark.parametrize("formatter", [TextFormatter(), JSONFormatter()])
def test_a_record_is_one_line_whatever_it_holds(formatter: logging.Formatter) -> None:
    made = record(f"a{LINE_ENDS}b \ud800", level=logging.ERROR)
    made.exc_info, made.stack_info = failure(), "Stack:\n  here"
    line = formatter.format(made)
    assert line.splitlines() == [line]
    assert "ValueError: no\\nstock" in line
    assert "Stack:\\n  here" in line


def test_a_line_end_and_a_written_one_differ() -> None:
    assert TextFormatter().format(record("a\nb\\nc\n")) == "shop: a\\nb\\\\nc"


def test_only_a_terminal_is_shown_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    assert TextFormatter().format(record("a\nb")) == "shop: a\nb"
    monkeypatch.setenv("DOCKERABLE_LOG", "/run/log/django")
    assert TextFormatter().format(record("a\nb")) == "shop: a\\nb"


def test_json_has_the_schemas_keys(request_a1: None) -> None:
    made = record("sold %d", 3, level=logging.CRITICAL)
    made.exc_info, made.created = failure(), 1700000000.5
    fields = json.loads(JSONFormatter().format(made))
    assert re.match(r"Traceback(.|\n)*ValueError: no\nstock$", fields.pop("error.stack_trace"))
    assert fields == {
        "@timestamp": "2023-11-14T22:13:20.500Z",
        "event.dataset": "django",
        "log.level": "critical",
        "message": "sold 3",
        "log.logger": "shop",
        "process.pid": os.getpid(),
        "ecs.version": "8.11",
        "http.request.id": "a1",
        "error.type": "ValueError",
        "error.message": "no\nstock",
    }


def test_all_json_records_name_the_same_version_of_the_schema() -> None:
    record_of_pid_1 = json.loads(Source("cmd", json=True).take(b"one\n"))
    nginx = (ROOT / "dockerable/nginx/logging.conf").read_text()
    assert json.loads(JSONFormatter().format(record("one")))["ecs.version"] == record_of_pid_1["ecs.version"]
    assert re.findall(r'"ecs\.version":"([^"]+)"', nginx) == [record_of_pid_1["ecs.version"]]


def test_json_has_the_callers_fields() -> None:
    request = SimpleNamespace(path="/cart", method="GET", secret="marker")
    extra = {"order": 7, "at": Path("/x"), "bad": Hostile(), "nan": float("nan"), "huge": 10**5000}
    extra |= {"event.action": "sale", "log.level": "forged", "request": request, "status_code": 500}
    line = JSONFormatter().format(record(extra=extra))
    fields = json.loads(line, parse_constant=pytest.fail)
    assert (fields["labels.order"], fields["event.action"], fields["log.level"]) == (7, "sale", "info")
    assert fields["labels.at"].endswith("Path('/x')")
    assert (fields["url.path"], fields["http.request.method"]) == ("/cart", "GET")
    assert fields["http.response.status_code"] == 500
    assert {"labels.bad", "labels.nan", "labels.huge"} <= set(fields)
    assert "marker" not in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JSONFormatter()])
@pytest.mark.parametrize("arguments", [("%d", "x"), ("%s %s", 1), ("%r", Hostile()), (Hostile(),)])
def test_no_record_makes_a_formatter_fail(formatter: logging.Formatter, arguments: tuple[Any, ...]) -> None:
    assert "shown" in (line := formatter.format(record(*arguments))) or "formatted" in line


@pytest.mark.parametrize("variable", ["LOG_LEVEL", "LOG_FORMAT"])
def test_a_wrong_value_is_named(variable: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"{variable}='loud' must be one of (debug|text), "):
        logging_configuration({variable: "loud"})


def test_the_settings_import_it_without_django() -> None:
    program = "import sys, dockerable.ops.logging as it; it.logging_configuration({}); print('django' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def logger(hooks: None, tmp_path: Path) -> Iterator[logging.Logger]:
    """A logger whose handler writes to the FIFO tmp_path/fifo."""
    os.mkfifo(tmp_path / "fifo")
    root, handler = logging.getLogger(), LogHandler(str(tmp_path / "fifo"))
    handler.setFormatter(TextFormatter())
    root.addHandler(handler)
    yield root
    root.removeHandler(handler)


def reader(folder: Path) -> int:
    return os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)


def test_without_a_reader_a_record_goes_to_stderr_until_there_is_one(
    logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for lines in ("before", "after"):
        logger.error(lines)
        assert capfd.readouterr().err == f"error: root: {lines}\n"
        fifo = reader(tmp_path)
        logger.error("now")
        assert os.read(fifo, 100) == b"error: root: now\n"
        # The next write finds the pipe broken.
        os.close(fifo)
    assert not capfd.readouterr().err


def test_what_nobody_caught_is_a_record(logger: logging.Logger, tmp_path: Path) -> None:
    fifo = reader(tmp_path)
    failing = threading.Thread(target=lambda: [][0], name="failing")
    failing.start()
    failing.join()
    sys.excepthook(*failure())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", stacklevel=1)
    lines = os.read(fifo, 65536).decode().splitlines()
    os.close(fifo)
    assert [line.partition("\\n")[0].partition(" /")[0] for line in lines] == [
        "error: py.exceptions: Uncaught exception in thread failing",
        "error: py.exceptions: Uncaught exception",
        "warning: py.warnings:",
    ]


LENGTHS = (100, 500, 4000, 4100, 9000, 30000)
WRITERS = (
    f"LENGTHS = {LENGTHS}"
    + """
import logging, os, random, sys
from dockerable.ops.logging import LogHandler, TextFormatter
handler = LogHandler(sys.argv[1])
handler.setFormatter(TextFormatter())
logging.getLogger().addHandler(handler)
logging.getLogger("w").error("before the fork")
for worker in range(8):
    if not os.fork():
        dice = random.Random(worker)
        for number in range(2500):
            length = dice.choice(LENGTHS)
            logging.getLogger("w").error("%d %s", number, "abcdefgh"[worker] * length)
        os._exit(0)
for _ in range(8):
    assert os.wait()[1] == 0
"""
)


@pytest.fixture
def writers(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    os.mkfifo(tmp_path / "fifo")
    kept = os.open(tmp_path / "fifo", os.O_RDWR)  # as PID 1 does
    command = [sys.executable, "-c", WRITERS, str(tmp_path / "fifo")]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as running:
        yield running
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    os.close(kept)


def test_records_of_many_processes_are_neither_mixed_nor_lost(
    writers: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    with open(tmp_path / "fifo") as lines:
        assert next(lines) == "error: w: before the fork\n"
        seen = dict.fromkeys("abcdefgh", 0)
        for _ in range(20_000):
            letter = (line := next(lines))[-2:-1]
            start = f"error: w: {seen.get(letter)} "
            length = len(line) - len(start) - 1
            # By one comparison: a pattern would take longer than the writers do.
            assert line == f"{start}{letter * length}\n", f"mixed: {line[:200]!r}"
            assert length in LENGTHS
            seen[letter] += 1
    assert writers.wait() == 0
