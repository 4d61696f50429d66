"""What ends the application's start, as it is explained: exceptions of the project, and settings that are refused."""

import importlib
import json
from collections.abc import Callable
from types import SimpleNamespace

import django
import pytest
from django.core.checks.security import base as security

from dockerable.application import refusals, start
from dockerable.application.refusals import Final, explain, refuse_unfit

SETTINGS = "/app/project/settings/prod/settings.py"


class WithStatus(Exception):
    """As dockerable.settings.SettingsError: it says itself what is wrong."""

    exit_status = 65
    problems = ("SECRET_KEY is empty", "DEBUG should be true or false")


def raised(source: str, file: str = SETTINGS, **names: object) -> BaseException:
    """What running this source, as if it were in that file, raises."""
    with pytest.raises(BaseException) as caught:
        exec(compile(source, file, "exec"), dict(names))
    return caught.value


def explained(reason: BaseException) -> tuple[int, list[str]]:
    final = explain(reason)
    return final.status, final.problems


def test_an_exception_with_an_exit_status_says_itself_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(WithStatus("x")) == (65, ["SECRET_KEY is empty", "DEBUG should be true or false"])
    bare = Exception("the disk is full")
    bare.exit_status = 73  # type: ignore[attr-defined]
    assert explained(bare) == (73, ["the disk is full"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status", [None, "70"])
def test_an_exit_status_that_is_no_number_counts_for_nothing(status: object) -> None:
    odd = Exception("odd")
    odd.exit_status = status  # type: ignore[attr-defined]
    assert explained(odd) == (70, ["Exception: odd"])


def test_any_other_is_named_with_the_projects_last_file_and_line(capsys: pytest.CaptureFixture[str]) -> None:
    # Its own module calls what is not the project's.
    inner = raised("import json\n\njson.loads('{')")
    status, (line,) = explained(inner)
    assert status == 70
    assert line.startswith("JSONDecodeError: Expecting property name")
    assert line.endswith(f" ({SETTINGS}, line 3)")
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback (most recent call last):\n")
    assert printed.count("JSONDecodeError: ") == 1


def test_a_text_of_several_lines_becomes_one() -> None:
    assert explained(raised("raise RuntimeError('two\\n\\tlines')")) == (
        70,
        [f"RuntimeError: two lines ({SETTINGS}, line 1)"],
    )


@pytest.mark.parametrize("file", ["/app/dockerable/settings.py", "/opt/app/lib/site-packages/x.py", "/srv/app/x.py"])
def test_a_file_that_is_not_the_projects_is_not_named(file: str) -> None:
    assert explained(raised("1 / 0", file)) == (70, ["ZeroDivisionError: division by zero"])


@pytest.mark.parametrize("source", ["import sys\nsys.exit(3)", "class Odd(BaseException): ...\nraise Odd(3)"])
def test_what_is_no_exception_is_explained_too(source: str) -> None:
    status, (line,) = explained(raised(source))
    assert (status, line.partition(": ")[2]) == (70, f"3 ({SETTINGS}, line 2)")


def test_in_the_container_the_traceback_is_one_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKERABLE_LOG", "/run/log/django")
    explain(raised("1 / 0"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(r"error: application: the project failed\nTraceback ")
    monkeypatch.setenv("LOG_FORMAT", "json")
    explain(raised("1 / 0"))
    assert json.loads(capsys.readouterr().err)["error.type"] == "ZeroDivisionError"


@pytest.mark.parametrize("module", ["nowhere", "nowhere.settings", "nowhere.settings.prod"])
def test_settings_that_are_not_there_are_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", module)
    # As setup() does, and whatever settings another test has loaded.
    monkeypatch.setattr(django, "setup", lambda: importlib.import_module(module))
    with pytest.raises(Final) as final:
        start.load_settings()
    assert final.value.status == 66
    assert final.value.problems == [f"DJANGO_SETTINGS_MODULE names {module}: No module named 'nowhere'"]


def test_a_module_that_the_settings_lack_is_an_error_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    def setup() -> None:
        raise ModuleNotFoundError("No module named 'celery'", name="celery")

    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "project.settings")
    monkeypatch.setattr(django, "setup", setup)
    with pytest.raises(ModuleNotFoundError, match="celery"):
        start.load_settings()


GOOD = {"DEBUG": False, "ALLOWED_HOSTS": ["www.example.com"], "SECRET_KEY": "0123456789abcdef" * 4}
INSECURE: dict[str, tuple[dict[str, object], str]] = {
    "security.W018": ({"DEBUG": True}, "DEBUG is on: every error page shows code and settings"),
    "dockerable.E001": ({"ALLOWED_HOSTS": ["a.test", "*"]}, "ALLOWED_HOSTS holds '*': name your hosts"),
    "security.W009": (
        {"SECRET_KEY": "django-insecure-" + "0123456789abcdef" * 4},
        "SECRET_KEY is short or predictable (remedy: python3 -c 'import secrets; print(secrets.token_urlsafe(50))')",
    ),
}


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Takes changes of good settings; what is wrong with them."""

    def problems(
        silenced: list[str],
        module: str = "project.settings.prod.settings",
        names: str = "www.example.com",
        **changes: object,
    ) -> list[str]:
        settings = SimpleNamespace(**{**GOOD, "SECRET_KEY_FALLBACKS": [], **changes}, SILENCED_SYSTEM_CHECKS=silenced)
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", module)
        monkeypatch.setenv("NGINX_SERVER_NAME", names)
        monkeypatch.setattr(refusals, "settings", settings)
        monkeypatch.setattr(security, "settings", settings)
        try:
            refuse_unfit()
        except Final as final:
            assert final.status == 78
            return final.problems
        return []

    return problems


def test_sound_settings_are_not_refused(refusal: Callable[..., list[str]]) -> None:
    assert refusal([]) == []


@pytest.mark.parametrize("check", INSECURE)
def test_insecure_settings_are_refused_each_with_how_to_allow_it(check: str, refusal: Callable[..., list[str]]) -> None:
    changes, text = INSECURE[check]
    assert refusal([], **changes) == [f"{text}; to allow it: SILENCED_SYSTEM_CHECKS = ['{check}']"]
    assert refusal([check], **changes) == []
    assert refusal([], "project.settings.local.settings", **changes) == []


def test_all_that_is_insecure_is_told_of_at_once(refusal: Callable[..., list[str]]) -> None:
    together = {name: value for changes, _ in INSECURE.values() for name, value in changes.items()}
    assert [line.rpartition("'")[0].rpartition("'")[2] for line in refusal([], **together)] == list(INSECURE)
    assert len(refusal(["security.W018"], **together)) == 2
    # Only a whole part of the module's name makes it the local environment.
    assert len(refusal([], "project.settings.locally.settings", **together)) == 3


NO_NAME = (
    "ALLOWED_HOSTS = {} allows no name of NGINX_SERVER_NAME, so every page would be 400: write {} in settings.py, or "
    "{} in the variable or secrets.json; to allow it: SILENCED_SYSTEM_CHECKS = ['dockerable.E002']"
)


@pytest.mark.parametrize(
    ("names", "hosts", "right"),
    [
        ("www.example.com", ["localhost,127.0.0.1"], ["www.example.com"]),
        ("www.example.com", [], ["www.example.com"]),
        ("www.example.com", [None], ["www.example.com"]),
        ("www.example.com", ["https://www.example.com"], ["www.example.com"]),
        ("www.example.com", ["www.example.com:443"], ["www.example.com"]),
        ("www.example.com", ["*.example.com"], ["www.example.com"]),
        ("*.example.com", ["*.example.com"], [".example.com"]),
        ("*.example.com", ["example.com"], [".example.com"]),
        ("*.example.com", ["badexample.com"], [".example.com"]),
        ("a.test b.test", ["a.test,b.test"], ["a.test", "b.test"]),
        ("[2001:db8::1]", ["2001:db8::1"], ["[2001:db8::1]"]),
    ],
)
@pytest.mark.parametrize("module", ["project.settings.prod.settings", "project.settings.local.settings"])
def test_hosts_that_fit_no_name_are_refused_with_their_right_spelling(
    names: str, hosts: list[str], right: list[str], module: str, refusal: Callable[..., list[str]]
) -> None:
    wrong = refusal([], module, names, ALLOWED_HOSTS=hosts)
    assert wrong == [NO_NAME.format(hosts, right, " ".join(right))]
    assert refusal(["dockerable.E002"], module, names, ALLOWED_HOSTS=hosts) == []


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        ("www.example.com", ["WWW.example.com"]),
        ("www.example.com", (".example.com",)),
        ("example.com www.example.com", [".example.com"]),
        ("*.example.com", [".example.com"]),
        ("*.example.com", [".com"]),
        # Of a wildcard's names the settings may allow some.
        ("*.example.com", ["shop.example.com"]),
        ("*.example.com", [".shop.example.com"]),
        ("[::1] 127.0.0.1", ["127.0.0.1", "[::1]"]),
    ],
)
def test_hosts_that_fit_are_neither_refused_nor_warned_of(
    names: str, hosts: list[str], refusal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal([], names=names, ALLOWED_HOSTS=hosts) == []
    assert capsys.readouterr().err == ""


def test_with_debug_and_no_hosts_django_allows_this_machine(refusal: Callable[..., list[str]]) -> None:
    local = "project.settings.local.settings"
    assert refusal([], local, "localhost 127.0.0.1 [::1]", DEBUG=True, ALLOWED_HOSTS=[]) == []
    assert refusal([], local, "www.example.com", DEBUG=True, ALLOWED_HOSTS=[])[0].startswith("ALLOWED_HOSTS = [] ")


def test_each_name_that_the_hosts_do_not_fit_is_warned_of(
    refusal: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal([], names="a.test b.test *.c.test", ALLOWED_HOSTS=["a.test"]) == []
    warned = capsys.readouterr().err.splitlines()
    assert [line.partition(", a name of")[0] for line in warned] == [
        "warning: ALLOWED_HOSTS does not allow b.test",
        "warning: ALLOWED_HOSTS does not allow *.c.test",
    ]
    assert "(remedy: add '.c.test'; to allow it: SILENCED_SYSTEM_CHECKS = ['dockerable.W001'])" in warned[1]
    assert refusal(["dockerable.W001"], names="a.test b.test", ALLOWED_HOSTS=["a.test"]) == []
    assert capsys.readouterr().err == ""
