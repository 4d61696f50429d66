"""Which requests are not begun, since they waited for a worker for too long."""

import time
from typing import Any

import pytest

from dockerable.application import waiting
from dockerable.container import patience

HARAKIRI = 20


def request(waited: float) -> dict[str, Any]:
    return {"DOCKERABLE_SENT": f"{time.time() - waited:.3f}", "PATH_INFO": "/"}


@pytest.mark.parametrize(
    ("waited", "left", "refused"),
    [
        (0, False, False),
        (0, True, False),
        (15, False, False),
        (15, True, True),
        (21, False, True),
        # nginx gives up after 50: the clock has jumped.
        (51, False, False),
        (15 * 365 * 86400, True, False),
        (-3600, True, False),
    ],
)
def test_a_request_is_refused_after_its_patience_or_once_its_client_has_left(
    waited: float, left: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "has_left", lambda: left)
    environ = request(waited)
    assert waiting.refused(environ, HARAKIRI) == refused
    # The project sees nothing of it.
    assert environ == {"PATH_INFO": "/"}


def test_a_request_that_does_not_say_when_it_was_sent_is_begun() -> None:
    assert not waiting.refused({}, HARAKIRI)


@pytest.mark.parametrize(("harakiri", "request_s", "nginx_s"), [(1, 10, 21), (10, 10, 30), (20, 20, 50), (60, 60, 130)])
def test_nginx_waits_longer_than_a_request_may_wait_and_take(harakiri: int, request_s: int, nginx_s: int) -> None:
    assert (patience.of_a_request(harakiri), patience.of_nginx(harakiri)) == (request_s, nginx_s)


def test_the_refusal_is_nginxs() -> None:
    said: list[Any] = []
    assert waiting.refuse(lambda *words: said.append(words)) == [b""]
    assert said == [("200 OK", [("X-Accel-Redirect", "@not_begun"), ("Content-Length", "0")])]
