"""Addresses of databases that are wrong, and how they are told of without a value."""

import pytest

from dockerable.ops.database_url import EXAMPLE, problem

ENCODED = "must be percent-encoded as "


@pytest.mark.parametrize(
    "url",
    [
        "postgres://app:secret@db:5432/app",
        "postgres://app:p%23%2F%3F%40@db:5432/app",
        "postgres://app:p@ss:word@db/app",
        "postgresql://db/app?sslmode=require&application_name=shop",
        "postgres://db/app?user=a@b",
        "postgres:///app?host=/var/run/postgresql",
        "postgres://app@%2Fvar%2Frun%2Fpostgresql/app",
        "postgres://app:secret@[::1]:5432/app",
        "mysql://app:secret@db:3306/app",
        "sqlite:////data/db@home#1.sqlite3",
        "sqlite:///db.sqlite3",
        "sqlite://:memory:",
    ],
)
def test_what_is_right_has_no_problem(url: str) -> None:
    assert problem(url) == ""


@pytest.mark.parametrize("number", ["", "1"])
@pytest.mark.parametrize(("character", "code"), [("#", "%23"), ("/", "%2F"), ("?", "%3F")])
def test_a_character_that_ends_the_password_is_named_with_its_code(character: str, code: str, number: str) -> None:
    # After digits alone the library takes them for a port and the user for a host.
    for url in (f"postgres://app:{number or 'se'}{character}cret@db:5432/app", f"postgres://ap{character}p:se@db/app"):
        wrong = problem(url)
        assert wrong.startswith(f"has a {character} that {ENCODED}{code}: "), url
        assert "cret" not in wrong


@pytest.mark.parametrize("url", ["postgres://app:se@db:5432/a#b", "postgres://db/app#"])
def test_a_number_sign_is_wrong_everywhere(url: str) -> None:
    assert f"{ENCODED}%23" in problem(url)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotation_marks_are_told_of(quote: str) -> None:
    for url in (f"{quote}postgres://app:secret@db/app{quote}", f"{quote}sqlite:////data/db.sqlite3{quote}"):
        assert problem(url) == f"is in quotation marks: take them away {EXAMPLE}"


@pytest.mark.parametrize("url", [" postgres://db/app", "postgres://db/app\n", "postgres://db/app "])
def test_spaces_around_it_are_told_of(url: str) -> None:
    assert problem(url).startswith("has a space or a line end around it")


@pytest.mark.parametrize("url", ["marker", "db:5432/marker", "://marker", "app:marker@db/app"])
def test_what_has_no_scheme_is_no_address(url: str) -> None:
    assert problem(url) == f"is no database address {EXAMPLE}"


@pytest.mark.parametrize(
    "url", ["postgres://app:[marker@db/app", "postgres://a:marker@db:x/a", "postgres://db:70000/a"]
)
def test_what_cannot_be_taken_apart_is_told_of(url: str) -> None:
    assert "not in the form of an address" in problem(url)
    assert "marker" not in problem(url)


@pytest.mark.parametrize("url", ["postgres://marker", "postgres://app:marker@db:5432", "postgres://db/"])
def test_an_address_without_a_database_is_told_of(url: str) -> None:
    assert problem(url) == f"names no database {EXAMPLE}"
