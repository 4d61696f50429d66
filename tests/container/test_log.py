"""The log in `docker logs`: few lines at the start, one line for each request, and none that a client can forge."""

import json
import re
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.support.docker import docker, follow
from tests.support.http import ask, exchange
from tests.support.stack import Stack

TAGS = ("nginx.access", "nginx.error", "uwsgi", "django", "certbot", "supervisor", "cmd")
TEXT = re.compile(rf"^({'|'.join(map(re.escape, TAGS))}): (?:(debug|warning|error|critical|alert|emergency): )?(.+)$")
ACCESS = re.compile(
    r'(?:slow: )?(?P<ip>[\da-f.:]+) "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+) '
    r'(?P<seconds>\d+\.\d{3})s uwsgi (?P<uwsgi>-|\d+\.\d{3}s) "(?P<referrer>(?:[^"\\]|\\.)*)" '
    r'"(?P<agent>(?:[^"\\]|\\.)*)" (?P<id>[\w.:=-]+)'
)
NUMBERS = ("http.response.status_code", "http.response.body.bytes", "http.request.bytes", "event.duration")
STRINGS = (
    "client.ip",
    "http.request.method",
    "url.original",
    "http.version",
    "http.request.id",
    "url.domain",
    "http.request.referrer",
    "user_agent.original",
)
FORGED = "\r\nuwsgi: error: forged\r\n"


@pytest.fixture(scope="module", params=["text", "json"])
def site_stack(request: pytest.FixtureRequest) -> Stack:
    stack = Stack.trial({"LOG_FORMAT": request.param, "SLOW_REQUEST_SECONDS": "1", "UWSGI_PROCESSES": "2"})
    # What is known by these words, and the access log where it is JSON.
    stack.allowed += ["slow: ", "CSRF cookie not set", "as the test asked", '"event.dataset":"nginx.access"']
    stack.allowed += ["/crash HTTP/1.1 500", "client sent invalid"]
    return stack


def is_json(stack: Stack) -> bool:
    return stack.environment.get("LOG_FORMAT") == "json"


def parse(stack: Stack, lines: list[str]) -> list[tuple[str, str, dict]]:
    """Tag, level and fields of each line. Raises AssertionError where one is none."""
    parsed = []
    for line in lines:
        if is_json(stack):
            fields = json.loads(line)
            datetime.strptime(fields["@timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ")
            assert fields["event.dataset"] in TAGS
            # As `ctl logs`, rsyslog.conf and the README's filters look for it.
            assert f'"event.dataset":"{fields["event.dataset"]}"' in line
            parsed.append((fields["event.dataset"], fields["log.level"], fields))
        else:
            found = TEXT.match(line)
            assert found, line
            parsed.append((found[1], found[2] or "info", {"message": found[3]}))
        assert parsed[-1][2]["message"], line
        # What one write to nginx's FIFO keeps together; the others' bound is that of a line.
        assert len(line.encode()) < (4096 if parsed[-1][0] == "nginx.access" else 7500), line
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", line)
    return parsed


def lines(stack: Stack) -> list[str]:
    """The lines for a reader that also takes a carriage return for a line's end."""
    return stack.logs().splitlines()


def new_lines(stack: Stack, act: Callable[[], object]) -> list[tuple[str, str, dict]]:
    """What the log gets by `act`, which is a line of nginx.access and perhaps others before it."""
    before = len(lines(stack))
    act()
    seen: list[str] = []

    def enough(line: str) -> bool:
        seen.extend(line.splitlines())
        return any(tag == "nginx.access" for tag, _, _ in parse(stack, seen[before:]))

    assert follow(stack.name, enough, 60)
    return parse(stack, seen[before:])


def access(stack: Stack, act: Callable[[], object]) -> tuple[str, dict]:
    """Level and fields of the one access line that `act` makes; those of text by the names of JSON."""
    ((_, level, fields),) = [one for one in new_lines(stack, act) if one[0] == "nginx.access"]
    if is_json(stack):
        assert {type(fields[name]) for name in NUMBERS} == {int}
        assert {type(fields[name]) for name in STRINGS} == {str}
        assert fields["uwsgi.duration"] is None or isinstance(fields["uwsgi.duration"], int)
        return level, fields
    found = ACCESS.fullmatch(fields["message"])
    assert found, fields
    return level, {
        "client.ip": found["ip"],
        "message": found["request"],
        "http.response.status_code": int(found["status"]),
        "http.response.body.bytes": int(found["bytes"]),
        "event.duration": int(float(found["seconds"]) * 1e9),
        "uwsgi.duration": None if found["uwsgi"] == "-" else int(float(found["uwsgi"].rstrip("s")) * 1e9),
        "http.request.referrer": found["referrer"],
        "user_agent.original": found["agent"],
        "http.request.id": found["id"],
    }


def test_a_healthy_start_is_a_short_story(site: Stack) -> None:
    story = parse(site, site.logs().splitlines())
    print(site.logs())
    assert 5 <= len(story) <= 10
    assert {level for _, level, _ in story} == {"info"}
    assert story[0][0] == "cmd"
    assert (story[-1][0], story[-1][2]["message"]) == ("uwsgi", "accepting requests")


def test_each_request_is_one_line_with_its_figures_within_a_second(site: Stack) -> None:
    answers = []
    headers = {"User-Agent": "Ada/1.0", "Referer": "http://localhost/before"}
    level, fields = access(site, lambda: answers.append(site.get("/show?a=b", **headers)))
    (answer,) = answers
    assert level == "info"
    assert fields["http.request.id"] == answer.headers["X-Request-ID"] == answer.json()["meta"]["HTTP_X_REQUEST_ID"]
    assert (fields["http.response.status_code"], fields["http.response.body.bytes"]) == (200, len(answer.content))
    assert (fields["http.request.referrer"], fields["user_agent.original"]) == (headers["Referer"], "Ada/1.0")
    assert fields["message"].startswith("GET /show?a=b HTTP/1.1")
    # Two clocks: each may round up.
    assert 0 < fields["uwsgi.duration"] <= fields["event.duration"] + 2e6 < 5e9
    if is_json(site):
        assert (fields["url.original"], fields["http.request.method"]) == ("/show?a=b", "GET")
        assert (fields["http.version"], fields["url.domain"]) == ("1.1", "127.0.0.1")

    def delay() -> float:
        """Seconds from an answer to its line, by the engine's clock."""
        answered: list[float] = []

        def ask_and_look() -> None:
            site.get("/show")
            answered.append(time.time())

        access(site, ask_and_look)
        when = docker("logs", "-t", "--tail", "1", site.name).split()[0]
        return datetime.fromisoformat(f"{when[:26]}+00:00").timestamp() - answered[0]

    # This machine may be busy at the moment.
    assert min(delay() for _ in range(3)) < 1


def test_a_file_has_no_time_of_uwsgi(site: Stack) -> None:
    _, fields = access(site, lambda: site.get("/static/start/start.css"))
    assert fields["uwsgi.duration"] is None


def test_the_line_of_a_slow_request_is_a_warning(site: Stack) -> None:
    level, fields = access(site, lambda: site.get("/slow/2"))
    assert level == "warning"
    assert 2e9 <= fields["uwsgi.duration"] < 4e9
    assert access(site, lambda: site.get("/show"))[0] == "info"


def test_a_crash_is_one_record_with_its_request(site: Stack) -> None:
    answers = []
    said = new_lines(site, lambda: answers.append(site.get("/crash")))
    (record,) = [fields for tag, level, fields in said if (tag, level) == ("django", "error")]
    identity = answers[0].headers["X-Request-ID"]
    if is_json(site):
        assert (record["http.request.id"], record["error.type"]) == (identity, "RuntimeError")
        assert record["error.stack_trace"].count("\n") > 4
    else:
        assert identity in record["message"]
        assert r"RuntimeError: as the test asked" in record["message"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /%0d%0auwsgi:%20error:%20forged HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b'GET /"\\nuwsgi:forged"\\ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
        b'GET /","log.level":"error","forged":" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
        b"GET /\xff\xfe\xe2\x80\xa8\xc2\x85 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /\nuwsgi: forged\nHost: localhost\n\n",
        b"GET / HTTP/1.1\ruwsgi: forged\r\nHost: localhost\r\n\r\n",
        b"GET /a\x0bb HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2 + b"\r\n\r\n",
        bytes(range(1, 256)) + b"\n\n",
        b"uwsgi: error: forged\r\n\r\n",
        b"A" * 7000 + b" / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b'a"' * 3000 + b"\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"a" * 7000 + b"\r\nConnection: close\r\n\r\n",
        b"GET http://" + b"a" * 7000 + b"/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /static/start/start.css\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_client_cannot_forge_a_line_by_what_it_sends(site: Stack, request_bytes: bytes) -> None:
    fine = [one for one in new_lines(site, lambda: exchange(site, request_bytes)) if one[0] == "nginx.access"]
    assert len(fine) == 1
    assert "forged" not in fine[0][2]


def test_a_client_cannot_forge_a_line_by_the_name_of_a_file(site: Stack) -> None:
    site.exec("sh", "-c", "mkdir -p /data/media/closed && chmod 0 /data/media/closed")
    forged = b"GET /media/closed/%0aemergency:%20forged HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    said = new_lines(site, lambda: exchange(site, forged))
    # The error's line would come at once, that of the access after a moment.
    assert [(tag, level) for tag, level, _ in said] == [("nginx.access", "info")]
    assert "%0aemergency:%20forged" in said[0][2]["message"]


@pytest.mark.parametrize(
    "name", ["User-Agent", "Referer", "X-Request-ID", "X-Forwarded-For", "Authorization", "Cookie"]
)
@pytest.mark.parametrize(
    "value",
    [
        "x\ruwsgi: error: forged",
        'x" 200 0 "forged',
        r"\",\"forged\":\"",
        "\x1b[31mforged\x08\x7f",
        "\x85\xff\xe2\x80\xa8",
    ],
)
def test_a_client_cannot_forge_a_line_by_a_header(site: Stack, name: str, value: str) -> None:
    if name == "Authorization":
        import base64

        value = "Basic " + base64.b64encode(f"{value}\r\nuwsgi: forged:secret".encode()).decode()
    answers: list = []
    act = lambda: answers.append(ask(site, "/show", headers=f"{name}: {value}\r\n"))  # noqa: E731
    _, fields = access(site, act)
    assert "forged" not in fields
    assert "secret" not in str(fields)
    assert re.fullmatch("[0-9a-f]{32}", fields["http.request.id"])


ODD = {"plain": "x", "quote": '"', "backslash": "\\", "control": "\x01", "byte": "\xff", "space": " "}


@pytest.mark.parametrize("letter", ODD.values(), ids=list(ODD))
def test_a_line_stays_short_and_tells_that_it_was_cut(site: Stack, letter: str) -> None:
    path = letter if letter in 'x"\\\xff' else "x"
    long = f"Referer: {letter * 7000}\r\nUser-Agent: {'y' + letter * 6000}\r\nX-Request-ID: {letter * 5000}\r\n"
    _, fields = access(site, lambda: ask(site, f"/show?{path * 7000}", headers=long))
    assert fields["http.response.status_code"] == 200
    # Spaces at the end are none of the header's.
    assert fields["user_agent.original"].endswith("..." if letter != " " else "y")


def test_a_restarted_container_logs_on_and_a_stop_drains_a_burst(new_stack: Callable[[Stack], Stack]) -> None:
    stack = new_stack(Stack.trial()).up()
    docker("restart", "-t", "30", stack.name)
    stack.wait_healthy()
    stack.get("/show")
    docker("exec", stack.name, "sh", "-c", "echo 'warning: by hand' >/run/log/certbot")
    assert stack.says("certbot: warning: by hand")
    stack.allowed.append("by hand")
    assert [line for line in lines(stack) if line == "uwsgi: accepting requests"] == ["uwsgi: accepting requests"] * 2
    assert "cmd: stopped" in lines(stack)
    # Much of it is in the FIFO when the container is stopped.
    stack.exec("sh", "-c", "seq -f 'burst %06.0f' 1 50000 >/run/log/uwsgi")
    assert stack.stop() == 0
    burst = [line for line in lines(stack) if "burst" in line]
    assert burst == [f"uwsgi: burst {number:06}" for number in range(1, 50001)]
    assert stack.last_line() == "cmd: stopped"


@pytest.mark.parametrize("options", [["--user", "54321:0"], ["-t"]])
def test_another_uid_and_a_terminal_log_as_well(new_stack: Callable[[Stack], Stack], options: list[str]) -> None:
    stack = new_stack(Stack.trial(options=options)).up()
    answer = stack.get("/show")
    assert stack.says(answer.headers["X-Request-ID"])
    parse(stack, stack.logs().replace("\r\n", "\n").splitlines())
    assert stack.stop() == 0
    assert stack.last_line().rstrip() == "cmd: stopped"
