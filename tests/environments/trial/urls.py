"""Views for tests: they wait, crash, send long answers, or show the request that reached them."""

import gzip
import hashlib
import io
import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

from django.core.files import File
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from project.urls import urlpatterns as project_urls

chatterbox = logging.getLogger("chatter")


def show(request: HttpRequest) -> JsonResponse:
    """The request as Django sees it."""
    return JsonResponse(
        {
            "host": request.get_host(),
            "scheme": request.scheme,
            "secure": request.is_secure(),
            "port": request.get_port(),
            "path": request.path,
            "url": request.build_absolute_uri(),
            "meta": {name: value for name, value in request.META.items() if isinstance(value, str)},
            "pid": os.getpid(),
        }
    )


@csrf_exempt
def body(request: HttpRequest) -> JsonResponse:
    """Length and SHA-256 of the body; for a form with files, those of each file and the path where Django stored it."""
    if request.content_type.startswith("multipart/"):
        files = {
            name: {"size": file.size, "path": getattr(file, "temporary_file_path", lambda: "")()}
            for name, file in request.FILES.items()
        }
        return JsonResponse({"files": files})
    return JsonResponse({"length": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()})


@csrf_exempt
def refuse(request: HttpRequest, kilobytes: int) -> HttpResponse:
    """A refusal, of so many kilobytes, that does not read the body, or only its first bytes; the query says how."""
    # uWSGI takes read(0) for all.
    if "read" in request.GET:
        request.read(int(request.GET["read"]))
    if "streamed" in request.GET:
        return StreamingHttpResponse((b"x" * 1024 for _ in range(kilobytes)), status=401)
    return HttpResponse(b"x" * 1024 * kilobytes, status=401)


def child(request: HttpRequest) -> StreamingHttpResponse:
    """A streamed answer while a process that outlives it holds what it inherits: a program, or a copy of the worker."""
    if request.GET["by"] == "fork":
        if os.fork() == 0:
            time.sleep(int(request.GET["seconds"]))
            os._exit(0)
    else:
        os.system(f"sleep {int(request.GET['seconds'])} &")
    return StreamingHttpResponse([b"answered\n"])


def protected(request: HttpRequest) -> HttpResponse:
    """A POST that CSRF protection lets through; its GET sets the cookie."""
    from django.middleware.csrf import get_token

    return HttpResponse(get_token(request))


@csrf_exempt
def slow(request: HttpRequest, seconds: int) -> HttpResponse:
    time.sleep(seconds)
    return HttpResponse(f"slept {seconds} s\n")


def large(request: HttpRequest, megabytes: int) -> StreamingHttpResponse:
    return StreamingHttpResponse(b"x" * 1024 * 1024 for _ in range(megabytes))


def die(request: HttpRequest) -> HttpResponse:
    os.kill(os.getpid(), signal.SIGKILL)
    return HttpResponse()


def crash(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as the test asked")


LEAKED: list[bytearray] = []


def leak(request: HttpRequest, kilobytes: int) -> HttpResponse:
    """Take memory and never free it; the memory is written to, so that the kernel really assigns it."""
    LEAKED.append(bytearray(b"x") * 1024 * kilobytes)
    return HttpResponse(str(os.getpid()))


def pattern(request: HttpRequest, length: int) -> HttpResponse:
    """Match a regular expression in exponential time: C code that does not release the interpreter."""
    return HttpResponse(str(re.fullmatch("(a+)+b", "a" * length)))


def spin(request: HttpRequest, seconds: int) -> HttpResponse:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return HttpResponse()


def drip(request: HttpRequest, seconds: int) -> StreamingHttpResponse:
    """An answer with its head at once and its end later."""

    def lines() -> Iterator[bytes]:
        for _ in range(seconds * 10):
            yield b"drip\n"
            time.sleep(0.1)

    return StreamingHttpResponse(lines())


def segfault(request: HttpRequest) -> HttpResponse:
    import ctypes

    return HttpResponse(ctypes.string_at(0))


def status(request: HttpRequest, code: int) -> JsonResponse:
    """An answer with any status and with an X-Request-ID of the project's own."""
    seen = {"seen": request.headers["X-Request-ID"]}
    return JsonResponse(seen, status=code, headers={"X-Request-ID": "the-project-s-own"})


def log(request: HttpRequest) -> HttpResponse:
    """One record of `length` bytes or so, of the level and with the message that the query names."""
    message = request.GET["message"] + "x" * int(request.GET.get("length", 0))
    logging.getLogger("shop.orders").log(logging.getLevelName(request.GET["level"]), message, extra={"order": 7})
    return HttpResponse(request.META.get("HTTP_X_REQUEST_ID", ""))


def thread(request: HttpRequest) -> HttpResponse:
    failing = threading.Thread(target=crash, args=[request], name="failing")
    failing.start()
    failing.join()
    return HttpResponse()


def streaming(request: HttpRequest, good: int) -> StreamingHttpResponse:
    """A streaming answer that fails after a number of pieces."""

    def pieces() -> Iterator[bytes]:
        for number in range(good):
            logging.getLogger("shop.stream").info("piece %d", number)
            yield b"x" * 1000
        raise RuntimeError("in the middle")

    return StreamingHttpResponse(pieces())


def leave(request: HttpRequest) -> HttpResponse:
    raise SystemExit("a library that thinks it is a program")


def download(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))


def accelerated(request: HttpRequest) -> HttpResponse:
    """An answer that names the file to send, in `to`; the rest of the query are headers."""
    headers = request.GET.dict()
    return HttpResponse(headers={"X-Accel-Redirect": headers.pop("to"), **headers})


def many_headers(request: HttpRequest, number: int) -> HttpResponse:
    """An answer with that many headers of about 1,000 bytes each."""
    return HttpResponse("whole", headers={f"X-Many-{place}": "x" * 985 for place in range(number)})


CONTENT = b"".join(b"%07d\n" % number for number in range(40_000))


class Decrypting(io.FileIO):
    """A file whose content is read as something else than what is on the disk."""

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        return bytes(255 - byte for byte in super().read(size))


def read_in_part(path: str) -> io.BufferedReader:
    opened = os.fdopen(os.open(path, os.O_RDONLY), "rb")
    opened.seek(len(CONTENT) // 2)
    return opened


def file(request: HttpRequest, kind: str) -> FileResponse:
    """CONTENT as a file of some kind; its last half for `rest`."""
    path = f"/tmp/content-{os.getpid()}"
    with gzip.open(path, "wb") if kind == "gzip" else open(path, "wb") as made:
        made.write(bytes(255 - byte for byte in CONTENT) if kind == "decrypting" else CONTENT)
    if kind == "gzip":
        return FileResponse(gzip.open(path))
    if kind == "decrypting":
        return FileResponse(Decrypting(path))
    if kind == "memory":
        return FileResponse(io.BytesIO(CONTENT))
    if kind == "pipe":
        return FileResponse(subprocess.Popen(["cat", path], stdout=subprocess.PIPE).stdout)
    if kind == "text":
        return FileResponse(open(path))
    if kind == "django":
        return FileResponse(File(open(path, "rb")))
    return FileResponse(read_in_part(path) if kind == "rest" else open(path, "rb"))


def plain(request: HttpRequest) -> HttpResponse:
    """The page of the logging benchmark."""
    return HttpResponse("plain\n", content_type="text/plain")


def chatter(request: HttpRequest, lines: int) -> HttpResponse:
    """As many numbered lines by print and by logging, each with its `name`, until /tmp/enough is there."""
    name = request.GET.get("name", "")
    for number in range(lines):
        if number % 100 == 0 and os.path.exists("/tmp/enough"):
            break
        print(f"{name} {number} {'.' * 100}", flush=True)
        chatterbox.info("%s %s %s", name, number, "." * 100)
    return HttpResponse(str(os.getpid()))


urlpatterns = [
    path("plain", plain),
    path("chatter/<int:lines>", chatter),
    path("leak/<int:kilobytes>", leak),
    path("pattern/<int:length>", pattern),
    path("spin/<int:seconds>", spin),
    path("drip/<int:seconds>", drip),
    path("segfault", segfault),
    path("status/<int:code>", status),
    path("show", show),
    path("show/<path:rest>", lambda request, rest: show(request)),
    path("body", body),
    path("refuse/<int:kilobytes>", refuse),
    path("child", child),
    path("protected", protected),
    path("slow/<int:seconds>", slow),
    path("large/<int:megabytes>", large),
    path("die", die),
    path("crash", crash),
    path("log", log),
    path("thread", thread),
    path("streaming/<int:good>", streaming),
    path("leave", leave),
    path("download", download),
    path("accelerated", accelerated),
    path("many-headers/<int:number>", many_headers),
    path("file/<kind>", file),
    *project_urls,
]
