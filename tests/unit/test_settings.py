"""The library for typed settings: the sources of values, and the messages about wrong ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from dockerable import settings as library
from dockerable.settings import EnvironmentSettings, SettingsError, Words, kept_secret, make_folders

MARKER = "marker-7f3a"
ROOT = Path(__file__).resolve().parents[2]


class Mail(BaseModel):
    port: int = 25


class Settings(EnvironmentSettings):
    secret_key: SecretStr
    debug: bool = False
    hosts: Words = []
    mail: Mail = Mail()

    @field_validator("secret_key")
    @classmethod
    def refuse_one(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() == f"refused {MARKER}":
            raise ValueError("is not allowed: choose another")
        return value


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SECRET_KEY", "DEBUG", "HOSTS", "MAIL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setattr(library, "RUN_SECRETS", tmp_path / "run-secrets")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "environment"
    folder.mkdir()
    return folder


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "secrets.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o640)
    return path


def secret(text: str) -> str:
    return json.dumps({"SECRET_KEY": text})


def refused(folder: Path | None, status: int, *words: str) -> list[str]:
    """Load, and return the problems; each of the words is in one of them, the marker nowhere."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(folder)
    error = caught.value
    assert error.exit_status == status, error.problems
    for word in words:
        assert any(word in problem for problem in error.problems), (word, error.problems)
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    for text in (str(error), repr(error), "".join(shown.format())):
        assert MARKER not in text
    assert error.__context__ is None, "its context may hold values"
    assert all("\n" not in problem for problem in error.problems)
    return error.problems


# Where values come from


def test_each_source_wins_over_those_below_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> str:
        return Settings.load(folder).secret_key.get_secret_value()

    write(folder, secret("from secrets.json"))
    assert found() == "from secrets.json"
    library.RUN_SECRETS.mkdir()
    (library.RUN_SECRETS / "SECRET_KEY").write_text("from RUN/SECRETS\n")
    assert found() == "from RUN/SECRETS"
    (library.RUN_SECRETS / "secret_key").write_text("from run/secrets\r\n")
    assert found() == "from run/secrets"
    (tmp_path / "named").write_text("from a named file \n\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "named"))
    assert found() == "from a named file \n", "one newline is stripped, nothing else"
    monkeypatch.setenv("SECRET_KEY", "from the variable")
    assert found() == "from the variable"


def test_an_empty_variable_counts_as_not_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, secret("x"))
    for name in ("SECRET_KEY", "SECRET_KEY_FILE", "DEBUG"):
        monkeypatch.setenv(name, "")
    settings = Settings.load(folder)
    assert settings.secret_key.get_secret_value() == "x"
    assert settings.debug is False


def test_a_bad_source_that_another_outranks_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    monkeypatch.setenv("SECRET_KEY_FILE", "/nowhere")
    assert Settings.load(folder).secret_key.get_secret_value() == "x"


def test_keys_may_be_in_lower_case(folder: Path) -> None:
    write(folder, '{"secret_key": "x", "debug": true}')
    assert Settings.load(folder).debug is True


def test_secrets_json_may_be_missing_if_nothing_needs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    assert Settings.load(folder).debug is False
    assert Settings.load().debug is False


@pytest.mark.parametrize(("text", "words"), [("a b", ["a", "b"]), (" [::1]  *.a.example", ["[::1]", "*.a.example"])])
def test_a_list_is_words_in_a_variable(text: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    monkeypatch.setenv("HOSTS", text)
    assert Settings.load().hosts == words


def test_a_list_is_a_list_in_secrets_json(folder: Path) -> None:
    write(folder, '{"SECRET_KEY": "x", "HOSTS": ["a", "b"]}')
    assert Settings.load(folder).hosts == ["a", "b"]


def test_nested_values_are_json_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    monkeypatch.setenv("MAIL", '{"port": 587}')
    assert Settings.load().mail.port == 587


def test_a_field_whose_name_ends_in_file_keeps_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class WithFile(EnvironmentSettings):
        log: str = "default"
        log_file: str = ""

    monkeypatch.setenv("LOG_FILE", "/nowhere")
    settings = WithFile.load()
    assert (settings.log, settings.log_file) == ("default", "/nowhere")


# Messages about wrong values


def test_a_missing_file_names_its_path_and_the_keys(folder: Path) -> None:
    (problem,) = refused(folder, 66, f"{folder}/secrets.json is missing", "gives SECRET_KEY")
    assert '{"SECRET_KEY": "..."}' in problem and "SECRET_KEY_FILE" in problem


def test_paths_are_short_where_that_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (problem,) = refused(folder, 66)
    assert problem.startswith("environment/secrets.json is missing")


def test_a_missing_folder_is_a_missing_file(folder: Path) -> None:
    refused(folder / "none", 66, f"{folder}/none/secrets.json is missing")


def test_a_missing_key_names_file_and_variable(folder: Path) -> None:
    path = write(folder, "{}")
    refused(folder, 78, f"SECRET_KEY is not set: put it into {path}, or set the variable")
    refused(None, 78, "SECRET_KEY is not set: set the variable SECRET_KEY or SECRET_KEY_FILE")


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_key_is_refused(text: str, folder: Path) -> None:
    path = write(folder, secret(text))
    assert refused(folder, 65) == [f"SECRET_KEY in {path} is empty: give it a value"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f'{{"SECRET_KEY": "{MARKER}"\n    "DEBUG": 1}}', "is not JSON at line 2, column 5"),
        ("", "is not JSON at line 1, column 1"),
        (f'["{MARKER}"]', "is not a JSON object"),
        ("[" * 100_000, "is nested too deeply"),
        (
            b"\xef\xbb\xbf" + secret(MARKER).encode(),
            r"byte order mark: sed -i '1s/^\xEF\xBB\xBF//'",
        ),
        (
            f'{{\n"SECRET_KEY": "{MARKER} \xe9"}}'.encode("latin-1"),
            "not UTF-8 at line 2, column 28",
        ),
        (secret(MARKER).encode("utf-16"), "is not UTF-8 at line 1, column 1"),
        (f'{{"SECRET_KEY": "{MARKER}", "secret_key": "{MARKER}"}}', "has secret_key twice"),
        (f'{{"SECRET_KEY": "x", "DEBUG": "{MARKER}"}}', "should be true or false"),
        ('{"SECRET_KEY": 12345}', "should be text in quotation marks"),
        ('{"SECRET_KEY": null}', "should be text in quotation marks"),
        (f'{{"SECRET_KEY": "x", "HOSTS": {{"{MARKER}": 1}}}}', "should be a valid list"),
        (f'{{"SECRET_KEY": "x", "MAIL": {{"port": "{MARKER}"}}}}', "at port should be a valid int"),
        (f'{{"SECRET_KEY": "x", "DEBGU": "{MARKER}"}}', "unknown key DEBGU: did you mean DEBUG?"),
        (f'{{"SECRET_KEY": "x", "Q": "{MARKER}"}}', "keys are SECRET_KEY, DEBUG, HOSTS, MAIL"),
    ],
)
def test_a_bad_file_is_refused(content: str | bytes, words: str, folder: Path) -> None:
    path = write(folder, content)
    (problem,) = refused(folder, 65, words)
    assert str(path) in problem


def test_the_mending_command_for_a_byte_order_mark_mends_it(folder: Path) -> None:
    write(folder, b"\xef\xbb\xbf" + secret("x").encode())
    (problem,) = refused(folder, 65)
    subprocess.run(problem.partition(": ")[2], shell=True, check=True)
    assert Settings.load(folder).secret_key.get_secret_value() == "x"


def test_a_directory_in_place_of_the_file_is_explained(folder: Path) -> None:
    (folder / "secrets.json").mkdir()
    refused(folder, 66, f"{folder}/secrets.json is a directory, as Docker makes")


def test_what_a_project_refuses_has_status_78_and_its_source(folder: Path) -> None:
    path = write(folder, secret(f"refused {MARKER}"))
    problems = refused(folder, 78)
    assert problems == [f"SECRET_KEY in {path} is not allowed: choose another"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DEBUG", "the variable DEBUG should be true or false"),
        ("MAIL", "the variable MAIL should be a valid dictionary"),
    ],
)
def test_a_bad_variable_is_refused(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    monkeypatch.setenv(name, f"ture {MARKER}")
    refused(None, 78, words)


def test_a_variable_that_names_a_missing_file_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, secret(MARKER))
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "none"))
    problems = refused(folder, 66)
    assert problems == [f"SECRET_KEY_FILE names {tmp_path}/none, which does not exist: correct the variable"]


def test_an_empty_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named").write_text("\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "named"))
    refused(None, 65, f"SECRET_KEY in {tmp_path}/named is empty")


def test_all_problems_are_listed_and_the_first_kind_gives_the_status(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, f'{{"SECRET_KEY": "", "HOTS": "{MARKER}", "MAIL": 1}}')
    monkeypatch.setenv("DEBUG", MARKER)
    assert len(refused(folder, 65, "SECRET_KEY in", "HOTS", "MAIL in", "variable DEBUG")) == 4
    monkeypatch.setenv("HOSTS_FILE", "/nowhere")
    assert len(refused(folder, 66, "HOSTS_FILE names /nowhere")) == 5


def test_a_file_that_cannot_be_used_is_the_only_thing_said_about_its_keys(folder: Path) -> None:
    write(folder, "not JSON")
    assert len(refused(folder, 65)) == 1


# Files that other users' permissions close


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any uid can enter: those of tmp_path are their owner's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(action: Callable[[], object]) -> tuple[int, str]:
    """Run it in a child without root's rights; return its exit status and message."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(4242)
                os.setuid(4242)
            action()
            status = 0
        except SettingsError as error:
            os.write(writing, str(error).encode())
            status = error.exit_status
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        message = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), message


@pytest.mark.parametrize("closed", ["secrets.json", "."])
def test_an_unreadable_file_names_uid_and_command(closed: str, open_folder: Path) -> None:
    path = write(open_folder, secret(MARKER))
    (open_folder / closed).chmod(0)
    status, message = as_nobody(lambda: Settings.load(open_folder))
    subject, _, command = message.partition(": ")
    uid, gid = (4242, 4242) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    assert (status, subject) == (66, f"{path} is not readable by uid {uid} (gid {gid})")
    assert command.startswith(f"chgrp {gid} {open_folder / closed} && ")
    if os.geteuid() == 0:
        subprocess.run(command, shell=True, check=True)
        if closed == ".":
            subprocess.run(["chgrp", str(gid), path], check=True)
        assert as_nobody(lambda: Settings.load(open_folder)) == (0, "")
    open_folder.chmod(0o755)


def test_folders_that_cannot_be_written_are_all_listed(open_folder: Path) -> None:
    there, new, file = open_folder / "there", open_folder / "new", open_folder / "file"
    there.mkdir()
    file.touch()
    there.chmod(0o555)
    open_folder.chmod(0o555)
    status, message = as_nobody(lambda: make_folders(there, there / "inside", new, file))
    open_folder.chmod(0o755)
    assert status == 73
    first, second, third = message.splitlines()
    assert first.startswith(f"{there} cannot be written by uid ") and "(remedy: sudo sh -c 'chgrp -R " in first
    assert second.startswith(f"{new} cannot be written by uid ") and "(remedy: sudo sh -c 'install -d " in second
    assert all(line.endswith(f" {path}')") for line, path in ((first, there), (second, new)))
    assert third == f"{file} cannot be written: File exists"


def test_a_read_only_file_system_wants_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(SettingsError, match="read-only file system: mount a volume there"):
        make_folders(tmp_path)


def test_a_secret_that_cannot_be_made_names_uid_and_command(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    status, message = as_nobody(lambda: kept_secret(open_folder / "key"))
    open_folder.chmod(0o755)
    assert status == 73
    assert "cannot be written by uid" in message and message.endswith(f" {open_folder}')")


# Files that everybody can read


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False), (0o600, False)])
def test_only_a_public_file_is_warned_of(
    mode: int, warned: bool, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, secret(MARKER))
    path.chmod(mode)
    Settings.load(folder)
    warning = f"settings: warning: {path} is readable by everyone: chmod o-rwx {path}\n"
    assert capfd.readouterr().err == (warning if warned else "")


def test_workers_of_uwsgi_do_not_repeat_the_warning(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, secret("x")).chmod(0o644)
    monkeypatch.setitem(sys.modules, "uwsgi", ModuleType("uwsgi"))
    Settings.load(folder)
    assert capfd.readouterr().err == ""


# Secrets that are made


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "data/key"
    first = kept_secret(path).get_secret_value()
    assert len(first) >= 50
    assert f"{path.stat().st_mode & 0o777:o}" == "660"
    assert kept_secret(path).get_secret_value() == first
    assert list(path.parent.iterdir()) == [path]
    assert kept_secret(tmp_path / "other").get_secret_value() != first


def test_a_secret_that_another_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("of another\n")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert kept_secret(tmp_path / "key").get_secret_value() == "of another"


def test_processes_that_race_get_the_same_secret(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dockerable.settings import kept_secret\n"
        "sys.stdin.read(1)\n"
        "for i in range(50): print(kept_secret(Path(sys.argv[1], str(i))).get_secret_value())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write(".")
        racer.stdin.flush()
    outputs = {racer.communicate()[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(outputs) == 1 and len(outputs.pop().split()) == 50


def test_an_empty_kept_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    with pytest.raises(SettingsError, match="key is empty: remove it") as caught:
        kept_secret(tmp_path / "key")
    assert caught.value.exit_status == 65


def test_what_a_default_raises_is_listed_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    class Made(EnvironmentSettings):
        key: SecretStr = Field(default_factory=lambda: kept_secret(Path("/proc/none/key")))
        debug: bool = False

    monkeypatch.setenv("DEBUG_FILE", "/nowhere")
    with pytest.raises(SettingsError) as caught:
        Made.load()
    assert caught.value.exit_status == 66
    assert len(caught.value.problems) == 2


# Values that must stay hidden


def test_no_value_is_shown(folder: Path) -> None:
    write(folder, f'{{"SECRET_KEY": "{MARKER}", "HOSTS": ["{MARKER}"]}}')
    settings = Settings.load(folder)
    for text in (str(settings), repr(settings), f"{settings}"):
        assert MARKER not in text
    assert "secret_key" in repr(settings)
    with pytest.raises(ValidationError) as caught:
        Settings(secret_key=SecretStr("x"), debug=MARKER)  # type: ignore[arg-type]
    assert MARKER not in str(caught.value)


def test_the_library_needs_no_django() -> None:
    code = "import sys, dockerable.settings; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
