"""The path that the application sees: what the client sent where nginx merged slashes, nginx's in all other cases."""

import pytest

from dockerable.application.request_path import as_sent


@pytest.mark.parametrize(
    ("uri", "nginx", "seen"),
    [
        ("/show/https://example.com/x", "/show/https:/example.com/x", "/show/https://example.com/x"),
        ("/show/a%2F%2Fb", "/show/a/b", "/show/a//b"),
        ("/show/a%2f/b", "/show/a/b", "/show/a//b"),
        ("/show/a/%2Fb", "/show/a/b", "/show/a//b"),
        ("/show///a////", "/show/a/", "/show///a////"),
        # Decoded once.
        ("/show/a//b%252F%2520", "/show/a/b%2F%20", "/show/a//b%2F%20"),
        ("/show/a//100%25+1", "/show/a/100%+1", "/show/a//100%+1"),
        # The query and what follows a `#` are no part of the path; encoded, both characters are.
        ("/show/a//b?next=//evil.test/", "/show/a/b", "/show/a//b"),
        ("/show/a//b#c//d?e", "/show/a/b", "/show/a//b"),
        ("/show/a//b%3Fc%23d", "/show/a/b?c#d", "/show/a//b?c#d"),
        # Bytes that are no UTF-8, raw and encoded, stay the bytes that they are.
        ("/show/a//\xff%FF%C3%A4", "/show/a/\xff\xff\xc3\xa4", "/show/a//\xff\xff\xc3\xa4"),
    ],
)
def test_merged_slashes_are_those_that_the_client_sent(uri: str, nginx: str, seen: str) -> None:
    assert as_sent(nginx, uri) == seen


@pytest.mark.parametrize(
    ("uri", "nginx"),
    [
        ("/", "/"),
        ("/show/a%20b", "/show/a b"),
        ("/show/a%2Fb", "/show/a/b"),
        ("/show?next=//evil.test/%2F%2F", "/show"),
        # Dot segments stay resolved.
        ("/show//../media/x", "/media/x"),
        ("/show/a//./b", "/show/a/b"),
        ("/show/a//%2e%2E/b", "/show/b"),
        # After an internal redirect REQUEST_URI is still the first one.
        ("/download//1", "/show/other"),
    ],
)
def test_any_other_path_is_nginxs(uri: str, nginx: str) -> None:
    assert as_sent(nginx, uri) == nginx


@pytest.mark.parametrize("uri", ["//evil.test/x", "///evil.test/x", "/%2Fevil.test/x", "%2F/evil.test/x"])
def test_a_path_does_not_begin_with_the_name_of_a_host(uri: str) -> None:
    assert as_sent("/evil.test/x", uri) == "/evil.test/x"
    assert as_sent("/evil.test/x", f"{uri[:-2]}//x") == "/evil.test//x"
