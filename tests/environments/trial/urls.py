"""What a test wants an application to do: wait, crash, answer at length, show what reached it."""

import hashlib
import os
import signal
import time

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from project.urls import urlpatterns as project_urls


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
    """Length and SHA-256 of the body; for a form with files, those of each file and where it was kept."""
    if request.content_type.startswith("multipart/"):
        files = {
            name: {"size": file.size, "path": getattr(file, "temporary_file_path", lambda: "")()}
            for name, file in request.FILES.items()
        }
        return JsonResponse({"files": files})
    return JsonResponse({"length": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()})


def protected(request: HttpRequest) -> HttpResponse:
    """A POST that CSRF protection lets through; its GET sets the cookie."""
    from django.middleware.csrf import get_token

    return HttpResponse(get_token(request))


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


urlpatterns = [
    path("show", show),
    path("show/<path:rest>", lambda request, rest: show(request)),
    path("body", body),
    path("protected", protected),
    path("slow/<int:seconds>", slow),
    path("large/<int:megabytes>", large),
    path("die", die),
    path("crash", crash),
    *project_urls,
]
