r"""Turns the bytes that a program writes to its log FIFO (a source) into tagged lines.

A line is `TAG: [LEVEL: ]message`, or with LOG_FORMAT=json one JSON object with the field names of the Elastic Common
Schema. Bytes that are not UTF-8, control characters and direction marks are replaced, so that a line stays one line
and is shown as it is. A traceback becomes one record. A record longer than LINE bytes is split into marked pieces.
"""

import re
import time
from math import isfinite

from dockerable.container import ecs, uwsgi_lines

# With LOG_FORMAT=json these sources write JSON objects themselves.
JSON_SOURCES = ("django", "nginx.access")
# The most bytes of a line with its tag: by default rsyslog cuts messages at 8 KiB.
LINE = 7500
# Bytes of an unfinished line or traceback after which what there is gets logged. An unfinished JSON object is kept for
# longer, since half an object cannot be read.
KEPT = 1 << 16
KEPT_OBJECT = 1 << 20
# Seconds to wait for the rest of a line, or for the exception that ends a traceback.
UNFINISHED = 1.0
# Seconds to wait for more lines of a traceback that looks complete.
COMPLETE = 0.1
ECS = {"ecs.version": ecs.VERSION}
CONTINUES = " [continues]"

CLEAN = bytes(range(0x20, 0x7F)) + b"\n"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Control characters, ends of lines, and characters that are invisible or turn the direction of the text after them, so
# that a line would be shown in another order than it has. Two joiners (U+200C, U+200D) are part of words and emoji.
CONTROL = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
LEVEL = re.compile(r"(debug|warning|error|critical|alert|emergency): ")
NGINX_ERROR = re.compile(r"(?:[\d/]+ [\d:]+|nginx:) \[(\w+)\] (?:\d+#\d+: )?")
NGINX_LEVELS = {"emerg": "emergency", "crit": "critical", "warn": "warning", "notice": "info"}
# Matches whole lines only, so that a client's request within a line cannot begin a traceback.
TRACEBACK = re.compile(
    r"(?P<named>Traceback \(most recent call last\):)$|[ +|]*Exception Group Traceback \(most recent call last\):$"
    r"|(?:Current thread|Thread|Stack)\b.*\(most recent call first\):$|\*{3} backtrace of \d+ \*{3}$"
)
# Lines within a traceback: indented ones, those between two chained tracebacks, the head of a thread, a C frame.
INSIDE = re.compile(
    r"$|[ \t]|During handling of the above exception|The above exception was|(?:Current thread|Thread) 0x[0-9a-f]+ "
    r"|/[^ (]+\([^ )]*\) \[0x[0-9a-f]+\]$|\*{3} end of backtrace"
)

QUIET = ("debug", "info", "warning")
# Where a line has its request id. uwsgi: uwsgi.ini's log-format and harakiri_report.py; django: ops/logging.py.
REQUEST_ID = {
    "uwsgi": re.compile(r"^\[([\w.:=-]{8,128})\] |\(request id ([\w.:=-]{8,128}),"),
    "django": re.compile(r"^[^ \[\]]+ \[([\w.:=-]{8,128})\]: "),
}


class Source:
    """One source: takes bytes as they were read and gives tagged lines."""

    def __init__(self, tag: str, *, json: bool) -> None:
        self.tag = tag
        self.json = json
        self.prefix = f"{tag}: ".encode()
        self.rest = b""
        self.since = 0.0
        # Level and request id of a line that was logged in part: its rest has not come yet.
        self.continued: tuple[str, str] | None = None
        self.traceback: list[str] = []
        self.collected = 0
        self.complete = False
        self.last_error = ""

    def take(self, data: bytes) -> bytes:
        """Add `data`. Returns the tagged lines that are complete now."""
        self.since = time.monotonic()
        lines, newline, self.rest = (self.rest + data).rpartition(b"\n")
        output = self.lines(lines) if newline else b""
        kept = KEPT_OBJECT if self.json and self.tag in JSON_SOURCES and self.rest.startswith(b"{") else KEPT
        if len(self.rest) > kept:
            cut = boundary(self.rest, kept)
            output += self.end_traceback() + self.line(decode(self.rest[:cut]), unfinished=True)
            self.rest = self.rest[cut:]
        return output

    def skip(self, data: bytes) -> int:
        """Add `data` and drop the lines that are complete now. Returns their number."""
        lines, newline, self.rest = (self.rest + data).rpartition(b"\n")
        self.rest = self.rest[:KEPT]
        return lines.count(b"\n") + len(newline)

    def lines(self, data: bytes) -> bytes:
        """Tag complete lines; all at once if none of them needs anything else."""
        if not (
            self.traceback
            or self.continued
            or self.tag in ("uwsgi", "nginx.error")
            or data.translate(None, CLEAN)
            or b"(most recent call " in data
        ):
            split = data.split(b"\n")
            if not self.json and all(split) and len(max(split, key=len)) <= LINE - len(self.prefix):
                return self.prefix + (b"\n" + self.prefix).join(split) + b"\n"
            # Such objects can pass unparsed: nginx escapes quotes and newlines, and its lines are below 4,096 bytes.
            if (
                self.json
                and self.tag == "nginx.access"
                and data.startswith(b'{"@timestamp":"')
                and data.endswith(b'"}')
                and data.count(b'"}\n{"@timestamp":"') == len(split) - 1
            ):
                return data + b"\n"
        return b"".join(map(self.line, decode(data).split("\n")))

    def line(self, text: str, *, unfinished: bool = False) -> bytes:
        """One line, cleaned and tagged; empty if it is part of an unfinished traceback or is left out."""
        text = CONTROL.sub("\ufffd", COLOUR.sub("", text.replace("\t", " ")))
        if self.continued:
            return self.record(self.continued[0], text, unfinished=unfinished)
        if self.traceback:
            if self.belongs(text):
                return self.end_traceback() if self.collected > KEPT else b""
            return self.end_traceback() + self.line(text, unfinished=unfinished)
        if self.tag not in ("nginx.error", "nginx.access") and (found := TRACEBACK.match(text)):
            self.traceback, self.collected, self.complete = [text], len(text), not found["named"]
            return b""
        if self.json and self.tag in JSON_SOURCES and text.startswith("{") and not unfinished:
            return self.object(text)
        level, text = self.level(text)
        return self.record(level, text, unfinished=unfinished) if text.strip() else b""

    def belongs(self, text: str) -> bool:
        """Add a line to the traceback that is being collected. Returns False if it is not part of that traceback."""
        inside, again = INSIDE.match(text), TRACEBACK.match(text)
        if self.complete and not (inside or (again and self.chained())):
            return False
        self.traceback.append(text)
        self.collected += len(text)
        # The first line without an indent names the exception and so completes a Python traceback.
        self.complete = not again["named"] if again else self.complete or not inside
        return True

    def chained(self) -> bool:
        """Whether the last line collected announces another traceback."""
        last = next((line for line in reversed(self.traceback) if line), "")
        return last.startswith(("During handling", "The above exception"))

    def level(self, text: str) -> tuple[str, str]:
        """A line's level, and the line without it."""
        if self.tag == "nginx.error":
            found = NGINX_ERROR.match(text)
            return (NGINX_LEVELS.get(found[1], found[1]), text[found.end() :]) if found else ("error", text)
        if found := LEVEL.match(text):
            return found[1], text[found.end() :]
        return uwsgi_lines.read(text) if self.tag == "uwsgi" else ("info", text)

    def end_traceback(self) -> bytes:
        """End the traceback that is being collected. Returns it as one record."""
        lines, self.traceback = self.traceback, []
        while lines and not lines[-1].strip():
            lines.pop()
        if not lines:
            return b""
        self.last_error = (lines[-1] if lines[0].startswith("Traceback") else lines[0]).strip()
        if self.json:
            return b"".join(self.objects(self.fields("error", self.last_error, stack="\n".join(lines))))
        return b"".join(self.texts("error", "\\n".join(lines)))

    def record(self, level: str, text: str, *, unfinished: bool = False) -> bytes:
        """One line as a record, in pieces if it is too long."""
        if level not in QUIET:
            self.last_error = text
        request = self.continued[1] if self.continued else self.request_id(text)
        text = f"{continued(request) if self.continued else ''}{text}{CONTINUES if unfinished else ''}"
        self.continued = (level, request) if unfinished else None
        if self.json:
            return b"".join(self.objects(self.fields(level, text, request)))
        return b"".join(self.texts(level, text, request))

    def request_id(self, text: str) -> str:
        """The id of the request that a line is about; empty if it has none."""
        found = REQUEST_ID[self.tag].search(text) if self.tag in REQUEST_ID else None
        return next(filter(None, found.groups()), "") if found else ""

    def texts(self, level: str, text: str, request: str = "") -> list[bytes]:
        """A record as text. Of one that is too long each piece has the request id and a mark that it continues."""
        head = self.prefix + (b"" if level == "info" else f"{level}: ".encode())
        whole = head + text.encode()
        if len(whole) <= LINE:
            return [whole + b"\n"]
        again = head + continued(request).encode()
        parts = split(text, LINE - len(again) - len(CONTINUES))
        return [head + f"{CONTINUES}\n".encode().join([parts[0], *(again + part for part in parts[1:])]) + b"\n"]

    def fields(self, level: str, message: str, request: str = "", stack: str = "") -> dict:
        """The fields of a record in JSON."""
        fields = {"@timestamp": timestamp(), "event.dataset": self.tag, "log.level": level, "message": message}
        if request:
            fields["http.request.id"] = request
        return {**fields, **({"error.stack_trace": stack} if stack else {}), **ECS}

    def object(self, text: str) -> bytes:
        """A JSON object that the source wrote itself, with missing fields added.

        It is encoded anew, without spaces: `ctl logs` and rsyslog.conf look for `"event.dataset":"TAG"`.
        """
        from json import loads

        try:
            written = loads(text, parse_constant=finite, parse_float=finite)
        except (ValueError, RecursionError):
            return self.record("info", text)
        fields = {**self.fields("info", ""), **written, "event.dataset": self.tag}
        if fields["log.level"] not in QUIET:
            self.last_error = str(fields.get("error.message") or fields["message"])
        return b"".join(self.objects(fields))

    def objects(self, fields: dict) -> list[bytes]:
        """A record as JSON. If it is too long, its long fields are split over the messages of several objects.

        Each object has its number in `part` and the number of all in `parts`.
        """
        whole = encode(fields)
        if len(whole) <= LINE:
            return [whole]
        head: dict = {}
        texts = [str(fields.pop("message"))]
        room = LINE // 2
        for name, value in fields.items():
            room -= (size := len(encode({name: value})))
            if room > 0:
                head[name] = value
            else:
                room += size
                texts.append(value if name == "error.stack_trace" else f"{name}: {value}")
        room = LINE - len(encode(head)) - len('"part":1000,"parts":1000,"message":""')
        # A character may take six bytes in JSON.
        for size in (room, room // 2, room // 6):
            parts = split("\n".join(texts), size)
            pieces = [
                encode({**head, "message": part.decode(), "part": number, "parts": len(parts)})
                for number, part in enumerate(parts, 1)
            ]
            if len(max(pieces, key=len)) <= LINE:
                break
        return pieces

    def unfinished(self) -> bool:
        """Whether a line or traceback is held back because its end has not come yet."""
        return bool(self.rest or self.traceback)

    def settle(self, *, now: bool = False) -> bytes:
        """Called when the FIFO is empty: the lines that were held back long enough; with `now` all of them."""
        quiet = time.monotonic() - self.since
        output = b""
        if self.rest and (now or quiet > UNFINISHED):
            rest, self.rest = self.rest, b""
            output += self.line(decode(rest))
        if self.traceback and (now or quiet > (COMPLETE if self.complete else UNFINISHED)):
            output += self.end_traceback()
        return output


def decode(data: bytes) -> str:
    """`data` as text, with a replacement character for bytes that are not UTF-8."""
    return data.decode(errors="replace")


def encode(fields: dict) -> bytes:
    """`fields` as one line of JSON."""
    from json import dumps

    text = dumps(fields, ensure_ascii=False, separators=(",", ":"))
    # Some readers take a few of these characters for the end of a line.
    text = CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode(errors="replace") + b"\n"


def finite(number: str) -> float:
    """A number in JSON. Raises ValueError for NaN, and for Infinity or a number that large: JSON cannot hold them."""
    if not isfinite(value := float(number)):
        raise ValueError(number)
    return value


def continued(request: str) -> str:
    """The beginning of each further piece of a record."""
    return f"[continued] {f'[{request}] ' if request else ''}"


def boundary(data: bytes, size: int) -> int:
    """The largest index up to `size` that does not cut a UTF-8 character."""
    end = size
    while end > size - 4 and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def split(text: str, size: int) -> list[bytes]:
    """`text` in parts of at most `size` bytes of UTF-8, none cut inside a character."""
    data = text.encode(errors="replace")
    parts = []
    while len(data) > size:
        end = boundary(data, size)
        parts.append(data[:end])
        data = data[end:]
    return [*parts, data]


def timestamp() -> str:
    """Now, in UTC, as RFC 3339 with milliseconds."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
