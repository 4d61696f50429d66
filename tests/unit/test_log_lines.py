"""From bytes to tagged lines: levels, pieces, tracebacks, JSON, and input that must not forge lines."""

import json
import os
import random
import re
import time

import pytest

from dockerable.container import log_lines, uwsgi_lines
from dockerable.container.log_lines import LINE, Source, split
from tests.support.docker import ROOT

HOST = os.uname()
# All lines that uWSGI wrote about itself in one run: start, chain reload, SIGHUP, stop.
SAID = (ROOT / "tests/support/uwsgi.log").read_text().splitlines()
SAID += [f"os: {HOST.sysname}-{HOST.release} {HOST.version}", f"nodename: {HOST.nodename}", f"machine: {HOST.machine}"]
TRACE = ["Traceback (most recent call last):", '  File "a.py", line 1, in <module>', "    1 / 0", "    ~~^~~"]
NAME = "ZeroDivisionError: division by zero"


def text(tag: str, *blocks: bytes) -> list[str]:
    """The lines that come of these blocks, when nothing more comes."""
    source = Source(tag, json=False)
    output = b"".join(source.take(block) for block in blocks) + source.settle(now=True)
    assert output == b"" or output.endswith(b"\n")
    return output.decode().split("\n")[:-1]


def records(tag: str, *blocks: bytes) -> list[dict]:
    """The same with LOG_FORMAT=json."""
    source = Source(tag, json=True)
    output = b"".join(source.take(block) for block in blocks) + source.settle(now=True)
    lines = [json.loads(line) for line in output.decode().splitlines()]
    for line in lines:
        assert list(line)[:3] == ["@timestamp", "event.dataset", "log.level"], line
        assert (line["event.dataset"], type(line["message"])) == (tag, str)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["@timestamp"])
    return lines


def test_each_line_gets_the_tag_of_its_source_once() -> None:
    assert text("cmd", b"one\ntw", b"o\n") == ["cmd: one", "cmd: two"]
    assert text("django", b"uwsgi: nginx.access: x\n") == ["django: uwsgi: nginx.access: x"]


def test_empty_lines_are_no_records() -> None:
    for empty in (b"\n", b"\n\n\n", "\n\n\u2003\n".encode()):
        assert text("cmd", b"\none" + empty + b"two\n" + empty) == ["cmd: one", "cmd: two"]


def test_what_has_no_end_comes_when_nothing_follows() -> None:
    source = Source("cmd", json=False)
    assert source.take(b"one\nhalf") == b"cmd: one\n"
    assert source.unfinished()
    assert source.settle() == b""
    source.since -= log_lines.UNFINISHED + 0.1
    assert source.settle() == b"cmd: half\n"
    assert not source.unfinished()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"a\x00b\x1b]0;title\x07c\rd\x7f", "a\ufffdb\ufffd]0;title\ufffdc\ufffdd\ufffd"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\xff\xfe \xc3\xa9 \xe2\x82", "\ufffd\ufffd é \ufffd"),
        ("a\u2028b\x85c".encode(), "a\ufffdb\ufffdc"),
        (b"a\tb", "a b"),
        # Shown, the text after a direction mark would come in another order.
        ("a\u202egpj.exe\u202c".encode(), "a\ufffdgpj.exe\ufffd"),
        (
            "\u2066a\u2067b\u2068c\u2069d\u061ce\u200ef\u200f".encode(),
            "\ufffda\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffd",
        ),
        ("\ufeffa\u200bb\u2060c\u206fd\ufffbe".encode(), "\ufffda\ufffdb\ufffdc\ufffdd\ufffde"),
        # What is written from right to left, and what joins letters or emoji, stays.
        (
            "\u05e9\u05dc \u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f680".encode(),
            "\u05e9\u05dc \u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f680",
        ),
    ],
)
@pytest.mark.parametrize("tag", [*log_lines.JSON_SOURCES, "uwsgi"])
def test_control_characters_and_broken_utf8_are_replaced(tag: str, raw: bytes, shown: str) -> None:
    assert text(tag, raw + b"\n") == [f"{tag}: {shown}"]
    assert [line["message"] for line in records(tag, raw + b"\n")] == [shown]


def test_a_direction_mark_that_an_object_escapes_stays_escaped() -> None:
    written = Source("django", json=True).take(b'{"message":"a\\u202eb","labels.name":"\\u2066"}\n')
    assert b'"message":"a\\u202eb"' in written
    assert b'"labels.name":"\\u2066"' in written
    assert written.isascii()


def test_the_level_is_the_sources_word() -> None:
    assert text("cmd", b"error: no\nyes\n") == ["cmd: error: no", "cmd: yes"]
    assert [(line["log.level"], line["message"]) for line in records("cmd", b"warning: no\nerrors: 0\n")] == [
        ("warning", "no"),
        ("info", "errors: 0"),
    ]
    said = b"2026/11/21 13:04:50 [crit] 12#12: *1 connect() failed\n2026/11/21 13:04:50 [notice] 12#12: signal\n"
    assert text("nginx.error", said) == ["nginx.error: critical: *1 connect() failed", "nginx.error: signal"]
    assert text("nginx.error", b"nginx: [emerg] unknown directive\n") == ["nginx.error: emergency: unknown directive"]
    assert text("nginx.error", b"emergency: forged\n") == ["nginx.error: error: emergency: forged"]


@pytest.mark.parametrize("start", ["", "error: "])
@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_a_line_is_whole_up_to_its_bound_and_then_in_marked_pieces(start: str, letter: str) -> None:
    room = LINE - len(f"uwsgi: {start}")
    fits = start + (letter * room)[: room // len(letter.encode())]
    assert text("uwsgi", fits.encode() + b"\n") == [f"uwsgi: {fits}"]
    for length in (room + 1, 3 * room, 20 * room):
        long = letter * (length // len(letter.encode()) + 1)
        lines = text("uwsgi", (start + long).encode() + b"\nnext\n")
        assert max(len(line.encode()) for line in lines) <= LINE
        assert lines.pop() == "uwsgi: next"
        parts = [line.removeprefix(f"uwsgi: {start}") for line in lines]
        assert all(part.endswith(" [continues]") for part in parts[:-1])
        assert all(part.startswith("[continued] ") for part in parts[1:])
        assert "".join(part.removeprefix("[continued] ").removesuffix(" [continues]") for part in parts) == long


def test_exactly_7500_bytes_pass_in_bulk_as_well_as_one_by_one() -> None:
    line = b"x" * (LINE - len("cmd: "))
    assert [len(one) for one in text("cmd", line + b"\n")] == [LINE]
    assert [len(one.encode()) for one in text("cmd", "é".encode() + line[2:] + b"\n")] == [LINE]
    assert len(text("cmd", line + b"x\n")) == 2


def test_a_huge_line_without_an_end_is_not_kept_in_memory() -> None:
    source = Source("uwsgi", json=False)
    block, output = b"error: " + b"y" * 65529, b""
    for _ in range(50):
        output += source.take(block)
        assert len(source.rest) <= log_lines.KEPT
    lines = (output + source.take(b"\nspawned\n")).decode().splitlines()
    assert lines.pop() == "uwsgi: spawned"
    shown = "".join(re.sub(r"^uwsgi: error: (\[continued\] )?| \[continues\]$", "", line) for line in lines)
    assert "error: " + shown.replace("[continued] ", "") == (block * 50).decode()
    assert source.continued is None
    together = records("uwsgi", *[block] * 5, b"\n", b"next\n")
    assert together.pop()["message"] == "next"
    assert {line["log.level"] for line in together} == {"error"}


@pytest.mark.parametrize("size", [4, 7, 1000])
def test_no_character_is_cut(size: int) -> None:
    mixed = "aé€\U0001f600\n" * 100
    parts = split(mixed, size)
    assert b"".join(parts).decode() == mixed
    assert all(part.decode() for part in parts)
    assert max(map(len, parts)) <= size


def test_a_traceback_is_one_record() -> None:
    block = "\n".join(["before", *TRACE, NAME, "after"]).encode() + b"\n"
    assert text("uwsgi", block) == ["uwsgi: before", "uwsgi: error: " + "\\n".join([*TRACE, NAME]), "uwsgi: after"]
    cut = [block[start : start + 7] for start in range(0, len(block), 7)]
    assert text("uwsgi", *cut) == text("uwsgi", block)
    _, trace, _ = records("uwsgi", block)
    assert (trace["log.level"], trace["message"]) == ("error", NAME)
    assert trace["error.stack_trace"] == "\n".join([*TRACE, NAME])


def test_a_chain_of_tracebacks_is_one_record_and_two_of_them_are_two() -> None:
    during = "During handling of the above exception, another exception occurred:"
    chain = [*TRACE, NAME, "", during, "", *TRACE, NAME]
    assert len(text("uwsgi", "\n".join([*chain, "after", ""]).encode())) == 2
    assert len(text("uwsgi", "\n".join([*TRACE, NAME, *TRACE, NAME, ""]).encode())) == 2


def test_stacks_of_faulthandler_exception_groups_and_c_are_one_record() -> None:
    fault = ["Fatal Python error: Segmentation fault", "", "Current thread 0x00007f (most recent call first):"]
    fault += ['  File "a.py", line 1 in f', "", "Thread 0x00007e (most recent call first):", '  File "b.py", line 2']
    assert len(text("uwsgi", "\n".join([*fault, "after", ""]).encode())) == 3
    group = ["  + Exception Group Traceback (most recent call last):", '  |   File "a.py"', "  | ExceptionGroup: two"]
    group += [
        "  +-+---------------- 1 ----------------",
        "    | ValueError: 1",
        "    +------------------------------------",
    ]
    assert len(text("uwsgi", "\n".join([*group, "after", ""]).encode())) == 2
    c = ["*** backtrace of 1 ***", "/opt/pyuwsgi.so(uwsgi_backtrace+0x2f) [0x7f]", "*** end of backtrace ***"]
    assert len(text("uwsgi", "\n".join([*c, "after", ""]).encode())) == 2


def test_what_a_client_asked_for_begins_no_traceback() -> None:
    asked = b"error: django.request [1]: Internal Server Error: /\\nTraceback (most recent call last):\\n  x\nnext\n"
    assert len(text("django", asked)) == 2
    for words in (b"Not Found: /Traceback (most recent call last):\n", b"Not Found: /x (most recent call first):\n"):
        assert len(text("django", words + b"next\n")) == 2
        assert len(text("nginx.access", words + b"next\n")) == 2


def test_a_traceback_without_an_end_is_not_kept_in_memory() -> None:
    source = Source("uwsgi", json=False)
    output = source.take((TRACE[0] + "\n").encode())
    for number in range(10000):
        output += source.take(f"  line {number:05}\n".encode())
        assert source.collected <= log_lines.KEPT + 100
    assert set(re.findall(r"line (\d{5})", (output + source.settle(now=True)).decode())) >= {"00000", "05000", "09999"}


DJANGO = {"@timestamp": "2026-11-21T13:04:50.850Z", "event.dataset": "django", "log.level": "error", "message": "m"}


def test_objects_of_django_are_as_filters_look_for_them_and_what_lacks_something_is_completed() -> None:
    line = json.dumps(DJANGO)
    assert text("django", line.encode() + b"\n") == [f"django: {line}"]
    compact = json.dumps({**DJANGO, **log_lines.ECS}, separators=(",", ":")).encode() + b"\n"
    assert Source("django", json=True).take(line.encode() + b"\n") == compact
    assert Source("django", json=True).take(compact) == compact
    assert records("django", b'{"event.dataset": "nginx.access", "event": "paid"}\n')[0]["event"] == "paid"


def test_the_last_error_of_a_source_is_known_from_its_objects_too() -> None:
    source = Source("django", json=True)
    for fields in (DJANGO, {**DJANGO, "error.message": "no stock"}, {**DJANGO, "log.level": "info"}):
        source.take(json.dumps(fields).encode() + b"\n")
    assert source.last_error == "no stock"


@pytest.mark.parametrize(
    "odd",
    [
        "{'a': 1}",
        "{",
        "{}}",
        '{"a": NaN}',
        '{"a": -1e999}',
        '{"a":' * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        "{\n}",
        '{"a": "\x00"}',
    ],
)
def test_what_only_looks_like_json_becomes_a_message(odd: str) -> None:
    assert records("django", odd.encode() + b"\n")
    assert records("nginx.access", odd.encode() + b"\n")


def test_a_long_object_loses_nothing_in_pieces() -> None:
    many = {f"labels.{number}": "v" * 150 for number in range(300)}
    fields = {**DJANGO, "message": 'ä"\n' * 3000, "labels.sql": "s" * 9000, "error.stack_trace": "\x01\u2028" * 3000}
    fields = {**fields, **many, "labels.lone": "\ud800" * 10, "n" * 8000: "1"}
    source = Source("django", json=True)
    output = source.take(json.dumps(fields).encode() + b"\n")
    lines = output.decode().split("\n")[:-1]
    assert output.decode().splitlines() == lines
    assert max(map(len, lines)) <= LINE
    pieces = [json.loads(line) for line in lines]
    assert [piece["part"] for piece in pieces] == list(range(1, pieces[0]["parts"] + 1))
    assert {piece["log.level"] for piece in pieces} == {"error"}
    together = "".join(piece["message"] for piece in pieces)
    assert together.startswith(str(fields["message"]))
    for part in ("s" * 9000, "\x01\u2028" * 3000, "n" * 8000):
        assert part in together
    assert all(name in pieces[0] or name in together for name in many)


def test_an_object_longer_than_a_line_may_be_keeps_level_and_request_in_its_pieces() -> None:
    long = {**DJANGO, "http.request.id": "a1b2c3d4", "message": "m" * 100_000, "error.stack_trace": "\\x" * 50_000}
    data = json.dumps(long).encode() + b"\n"
    pieces = records("django", *[data[at : at + 65536] for at in range(0, len(data), 65536)])
    assert {(piece["log.level"], piece["http.request.id"]) for piece in pieces} == {("error", "a1b2c3d4")}
    assert "".join(piece["message"] for piece in pieces) == f"{long['message']}\n{long['error.stack_trace']}"


def test_an_object_that_is_too_long_for_that_comes_in_marked_pieces_of_one_level() -> None:
    data = b'{"message":"' + b"error: forged" * 200_000 + b'"}\n'
    pieces = records("django", *[data[at : at + 65536] for at in range(0, len(data), 65536)])
    assert {piece["log.level"] for piece in pieces} == {"info"}
    ends = [piece["message"].endswith(" [continues]") for piece in pieces if piece["part"] == piece["parts"]]
    assert ends == [True] * (len(ends) - 1) + [False]


@pytest.mark.parametrize("tag", ["django", "uwsgi"])
def test_each_piece_of_a_long_line_names_its_request(tag: str) -> None:
    start = "error: django.request [a1b2c3d4]: " if tag == "django" else "[a1b2c3d4] "
    data = (start + "x" * 20_000).encode()
    for blocks in ([data], [data, b"x" * 65536, b"x"]):
        lines = text(tag, *blocks, b"\n")
        assert len(lines) > 2
        assert all(re.match(rf"{tag}: (error: )?\[continued\] \[a1b2c3d4\] x", line) for line in lines[1:])
        assert max(map(len, lines)) <= LINE
        found = records(tag, *blocks, b"\n")
        assert {line["http.request.id"] for line in found} == {"a1b2c3d4"}


def test_nothing_that_is_written_stops_the_relay() -> None:
    chance = random.Random(7)
    words = [b"{", b"}", b'"', b"\n", b"\\u00", b"\xff", b"\x1b[", b"Traceback (most recent call last):\n", b"  x\n"]
    words += [
        b'{"@timestamp":"',
        b'"}\n',
        b"error: ",
        b"*** backtrace of 1 ***\n",
        b"x" * 9000,
        b"[1] G / HTTP/1 500 in ",
    ]
    for tag in ("uwsgi", "django", "nginx.access", "nginx.error"):
        # nginx's own objects are not read.
        for json_too in (False, tag != "nginx.access"):
            source = Source(tag, json=json_too)
            for _ in range(3000):
                output = source.take(b"".join(chance.choices(words, k=5))) + source.settle()
                for line in output.split(b"\n")[:-1]:
                    assert len(line) <= LINE
                    assert json.loads(line) if json_too else line.startswith(f"{tag}: ".encode())
                    assert len(line.decode().splitlines()) == 1


def test_what_uwsgi_says_of_itself_is_left_out() -> None:
    shown = [(level, line) for level, line in map(uwsgi_lines.read, SAID) if line]
    assert [line for level, line in shown if level == "info"] == [
        "accepting requests",
        "chain reload starting...",
        "Respawned uWSGI worker 1 (new pid: 165)",
        "Respawned uWSGI worker 2 (new pid: 166)",
        "chain reloading complete",
    ]
    assert [level for level, _ in shown if level != "info"] == ["error"] * 3 + ["warning"] * 2


@pytest.mark.parametrize(
    "why",
    [
        "invalid cheaper value: must be lower than processes",
        "invalid min-worker-lifetime value (70), must be lower than max-worker-lifetime (60)",
        'invalid value for option "x": must be > 0',
        "invalid cron syntax",
        "hook action not found: nonsense",
        "the async loop engine requires async mode (--async <n>)",
        "[strict-mode] unknown config directive: port",
        "unable to load configuration from /nowhere.ini",
        'open("/nowhere/x"): No such file or directory [core/logging.c line 288]',
    ],
)
def test_why_uwsgi_does_not_start_is_its_last_error(why: str) -> None:
    source = Source("uwsgi", json=False)
    end = [
        'running "unlink:/run/ready" (atexit)...',
        "uwsgi_hook_unlink()/unlink(): No such file or directory [core/hooks.c line 120]",
        "unlink(): No such file or directory [core/uwsgi.c line 1687]",
    ]
    assert source.take("\n".join([why, *end, ""]).encode()) == f"uwsgi: error: {why}\n".encode()
    assert source.last_error == why


def test_a_file_that_uwsgi_may_not_remove_is_an_error() -> None:
    line = "unlink(): Permission denied [core/uwsgi.c line 1687]"
    assert uwsgi_lines.read(line) == ("error", line)


@pytest.mark.parametrize("line", [line for line in SAID if uwsgi_lines.read(line)[1] == ""])
def test_nothing_of_the_projects_is_left_out(line: str) -> None:
    for mine in (f"{line} mine", f"mine {line}", f"mine: {line}", f"{line.split()[0]} mine"):
        assert "mine" in uwsgi_lines.read(mine)[1]


@pytest.mark.parametrize(
    "mine",
    [
        "machine: wash", "os: Linux", "nodename: db-1", "max-fd 4", "lock engine: v8", "thunder lock: on",
        "VACUUM: done",
        "spawned uWSGI workers for the test", "chdir() to /tmp", "goodbye to uWSGI, hello to the next",
        "Sat Nov 21 13:09:25 2026 - backup done", "*** hello ***", "2 tasks killed", "the error rate is 0",
    ],
)  # fmt: skip
def test_what_resembles_uwsgis_words_stays_as_it_is(mine: str) -> None:
    assert uwsgi_lines.read(mine) == ("info", mine)


def test_indents_of_the_project_are_kept() -> None:
    assert text("uwsgi", b"total\n  one: 1\n") == ["uwsgi: total", "uwsgi:   one: 1"]
    assert uwsgi_lines.read("no error and no warning here")[0] == "info"


def test_a_long_line_takes_no_long_time() -> None:
    for letters in (b": ", b"[a: ", b"x ", b"/a(", b"(", b'{"a":', b"\x1b["):
        for tag in ("uwsgi", "django", "nginx.error"):
            assert text(tag, letters * (log_lines.KEPT // len(letters) * 2) + b"\n")
            # After a traceback every line is compared with what may belong to it.
            began = time.process_time()
            text(
                tag,
                b"Traceback (most recent call last):\nValueError: a\n/"
                + letters * (log_lines.KEPT // len(letters))
                + b"\n",
            )
            assert time.process_time() - began < 2
