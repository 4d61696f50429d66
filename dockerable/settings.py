"""Typed settings from variables, files and secrets.json: an optional library for a project's settings modules.

A project declares its keys in one class, and each environment loads it:

    class Settings(EnvironmentSettings):
        secret_key: SecretStr
        debug: bool = False
        allowed_hosts: Words = []

    environment = Settings.load(Path(__file__).parent)

A key is looked for in this order, and the first place that has it wins:

1. the environment variable SECRET_KEY (an empty variable counts as not set);
2. the file that the variable SECRET_KEY_FILE names (one newline at its end is stripped);
3. /run/secrets/secret_key, or /run/secrets/SECRET_KEY (one newline stripped as well);
4. the key SECRET_KEY, in upper or lower case, in secrets.json in the environment's folder;
5. the default in the class.

secrets.json may be missing if every required key has another source. A key in secrets.json that
the class lacks is an error: a misspelt optional key would silently leave the default, such as
another database.

All errors are collected and raised as one SettingsError. No message contains a value; a project's
own validators must not put values into their messages either.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import BeforeValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, SettingsConfigDict

from dockerable.container import snapshot
from dockerable.container.exit_status import BAD_DATA, CANNOT_CREATE, CONFIG, NO_INPUT, SEVERITY
from dockerable.container.places import SECRETS, not_writable, who

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

RUN_SECRETS = SECRETS


def _split(value: object) -> object:
    return value.split() if isinstance(value, str) else value


Words = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list of words: in a variable separated by spaces, in secrets.json that or a JSON list."""


class SettingsError(Exception):
    """Everything that is wrong with the settings.

    `problems` has one line for each error, with the file or variable, the key and the remedy, but
    no value. `exit_status` is the status (sysexits.h) that the program should end with.
    """

    def __init__(self, problems: list[str], exit_status: int) -> None:
        super().__init__(problems, exit_status)
        self.problems = problems
        self.exit_status = exit_status

    def __str__(self) -> str:
        return "\n".join(self.problems)


class EnvironmentSettings(BaseSettings):
    """Base class of a project's settings; the module's docstring lists where values come from."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Read all sources; secrets.json is one of them only if `folder` is given.

        Raises SettingsError, here and outside of any exception handler, so that neither its
        context nor a frame of its traceback holds a value.
        """
        settings, problems = _load(cls, folder)
        if settings is None:
            status = min((problem.status for problem in problems), key=SEVERITY.index)
            raise SettingsError([problem.text for problem in problems], status)
        return settings

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Any, ...]:
        """Use no source of pydantic-settings: `load` reads all, to name the source of a bad value."""
        return (sources["init_settings"],)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Hide all values: a project may have declared a secret without SecretStr."""
        return [(name, SecretStr("hidden")) for name in type(self).model_fields]


S = TypeVar("S", bound=EnvironmentSettings)


class _Problem(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _Missing(_Problem):
    """A file does not exist."""


class _Found(NamedTuple):
    value: object
    where: str
    status: int  # exit status if the value is wrong


class _Reader:
    """Reads all sources once, and collects the values and the problems."""

    def __init__(self, settings_class: type[EnvironmentSettings], folder: Path | None) -> None:
        self.settings_class = settings_class
        self.fields = settings_class.model_fields
        self.secrets_json = _from_here(snapshot.original(folder) / "secrets.json") if folder else None
        self.no_secrets_json = False
        self.problems: list[_Problem] = []
        self.unreadable: set[str] = set()  # keys whose source has a problem: not reported as unset
        self.found: dict[str, _Found] = {}

    def read(self) -> None:
        """Fill `found`, `unreadable` and `problems`."""
        stored = self._read_secrets_json()
        for name, field in self.fields.items():
            try:
                item = self._read_text(name) or stored.get(name)
                if item and field.is_required() and not str(item.value).strip():
                    raise _Problem(item.status, f"{item.where} is empty: give it a value")
            except _Problem as problem:
                self.problems.append(problem)
                self.unreadable.add(name)
            else:
                if item:
                    self.found[name] = item
                    self.unreadable.discard(name)

    def _read_text(self, name: str) -> _Found | None:
        """Look for a key in the sources of text: variable, named file, /run/secrets."""
        key = name.upper()
        if text := os.environ.get(key):
            return _Found(self._decode(name, text), f"the variable {key}", CONFIG)
        named = os.environ.get(f"{key}_FILE")
        if named and f"{name}_file" not in self.fields:
            path = Path(named)
            text = _read_file(path, f"{key}_FILE names {path}, which", "correct the variable")
        else:
            paths = (RUN_SECRETS / spelling for spelling in (name, key))
            there = next(filter(os.path.lexists, paths), None)
            if there is None:
                return None
            path, text = there, _read_file(there, str(there), "correct the mount")
        text = text.removesuffix("\n").removesuffix("\r")
        return _Found(self._decode(name, text), f"{key} in {path}", BAD_DATA)

    def _decode(self, name: str, text: str) -> object:
        """Parse the text of a field that is no scalar as JSON, as pydantic-settings does."""
        source = InitSettingsSource(self.settings_class, {})
        try:
            return source.prepare_field_value(name, self.fields[name], text, False)
        except ValueError:
            return text  # Validation reports what the value should be.

    def _read_secrets_json(self) -> dict[str, _Found]:
        path = self.secrets_json
        if path is None:
            return {}
        try:
            pairs = _parse_object(path, _read_file(path, str(path), "put the file there"))
        except _Missing:
            self.no_secrets_json = True  # wrong only if a required key is found nowhere else
            return {}
        except _Problem as problem:
            self.problems.append(problem)
            self.unreadable.update(self.fields)
            return {}
        _warn_if_public(path)
        stored: dict[str, _Found] = {}
        for key, value in pairs:
            name = key.lower()
            if name in stored:
                self._refuse(f"{path} has {key} twice: remove one")
            elif name not in self.fields:
                self._refuse(f"{path} has the unknown key {key}: {self._nearest(key)}")
            stored[name] = _Found(value, f"{key} in {path}", BAD_DATA)
        return stored

    def _refuse(self, text: str) -> None:
        self.problems.append(_Problem(BAD_DATA, text))

    def _nearest(self, key: str) -> str:
        from difflib import get_close_matches  # a good start does not need it

        keys = [name.upper() for name in self.fields]
        near = get_close_matches(key.upper(), keys, n=1)
        return f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}"

    def unset(self, names: list[str]) -> list[_Problem]:
        """Return the problems for required keys that no source has."""
        keys = [name.upper() for name in names if name not in self.unreadable]
        if keys and self.no_secrets_json:
            text = (
                f"{self.secrets_json} is missing, and nothing else gives {', '.join(keys)}: make"
                f' it, as {{"{keys[0]}": "..."}}, or set the variable {keys[0]} or {keys[0]}_FILE'
            )
            return [_Missing(NO_INPUT, text)]
        place = f"put it into {self.secrets_json}, or " if self.secrets_json else ""
        text = "{0} is not set: " + place + "set the variable {0} or {0}_FILE"
        return [_Problem(CONFIG, text.format(key)) for key in keys]


def _load(settings_class: type[S], folder: Path | None) -> tuple[S | None, list[_Problem]]:
    reader = _Reader(settings_class, folder)
    reader.read()
    problems = reader.problems
    try:
        settings = settings_class(**{name: item.value for name, item in reader.found.items()})
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        unset = [item for item in errors if item["type"] == "missing" and len(item["loc"]) == 1]
        problems += [_explain(item, reader.found) for item in errors if item not in unset]
        problems += reader.unset([str(item["loc"][0]) for item in unset])
    except SettingsError as error:  # of a default_factory
        problems += [_Problem(error.exit_status, text) for text in error.problems]
    return (None if problems else settings), problems


def _from_here(path: Path) -> Path:
    """Make a path relative to the current folder, the project's: commands in messages then work
    both on the host and in the container."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _read_file(path: Path, subject: str, remedy: str) -> str:
    """Return a file's text. Raises _Problem.

    Messages begin with `subject` and end with `remedy` if the file does not exist.
    """
    try:
        data = snapshot.copy_of(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _Missing(NO_INPUT, f"{subject} does not exist: {remedy}") from None
    except IsADirectoryError:
        text = f"{subject} is a directory, as Docker makes for a missing mount: {remedy}"
        raise _Problem(NO_INPUT, text) from None
    except PermissionError:
        closed = (parent for parent in reversed(path.parents) if not os.access(parent, os.X_OK))
        target = next(closed, path)
        mend = f"chgrp {os.getgid()} {target} && chmod g+rX {target}"
        raise _Problem(NO_INPUT, f"{subject} is not readable by {who()}: {mend}") from None
    except OSError as error:
        raise _Problem(NO_INPUT, f"{subject} cannot be read: {error.strerror}") from None
    if data.startswith(b"\xef\xbb\xbf"):
        text = f"{subject} starts with a byte order mark: sed -i '1s/^\\xEF\\xBB\\xBF//' {path}"
        raise _Problem(BAD_DATA, text)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        text = f"{subject} is not UTF-8 at line {line}, column {column}: save it as UTF-8"
        raise _Problem(BAD_DATA, text) from None


class _Object(dict[str, object]):
    """A JSON object that keeps all pairs, to find keys given twice."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _parse_object(path: Path, text: str) -> list[tuple[str, object]]:
    try:
        value = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        problem = f"is not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        problem = "is nested too deeply"
    else:
        if isinstance(value, _Object):
            return value.pairs
        problem = 'is not a JSON object: write {"KEY": "value"}'
    raise _Problem(BAD_DATA, f"{path} {problem}")


def _warn_if_public(path: Path) -> None:
    # Not in uWSGI's workers, which load the settings too: the check before their start has warned.
    if path.stat().st_mode & 0o004 and "uwsgi" not in sys.modules:
        text = f"settings: warning: {path} is readable by everyone: chmod o-rwx {path}\n"
        sys.stderr.write(text)


_SHOULD = {
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "string_type": "should be text in quotation marks",
}


def _explain(error: ErrorDetails, found: dict[str, _Found]) -> _Problem:
    """Turn one of pydantic's errors into a problem that names its source."""
    name, *path = map(str, error["loc"] or ["settings"])
    source = found.get(name) or _Found(None, name.upper(), CONFIG)
    inner = f" at {'.'.join(path)}" if path else ""
    if error["type"] == "value_error":  # raised by a validator of the project
        return _Problem(CONFIG, f"{source.where}{inner} {error['ctx']['error']}")
    _, should, rest = error["msg"].partition("should ")
    text = _SHOULD.get(error["type"]) or (should + rest if should else f"is wrong: {error['msg']}")
    return _Problem(source.status, f"{source.where}{inner} {text}")


def make_folders(*folders: Path) -> None:
    """Make folders that the application writes to.

    Raises SettingsError with all folders that are not writable, except those inside another one.
    """
    problems: dict[Path, str] = {}
    for folder in folders:
        if any(parent in problems for parent in folder.parents):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError
        except OSError as error:
            problems[folder] = _not_writable(folder, error)
    if problems:
        raise SettingsError(list(problems.values()), CANNOT_CREATE)


def kept_secret(path: Path) -> SecretStr:
    """Return the secret that a file holds; the first call makes the file.

    Processes that race get the same secret: each links a complete file into place, which fails
    if there is one already. The file is 0660, so that a later uid of the same group can read it.

    Raises SettingsError if the file can neither be read nor made.
    """
    try:
        if not path.exists():
            _make_secret(path)
    except OSError as error:
        problem = _not_writable(path.parent, error)
        status = CANNOT_CREATE
    else:
        try:
            text = _read_file(path, str(path), "start again").strip()
        except _Problem as error:
            problem, status = error.text, error.status
        else:
            if text:
                return SecretStr(text)
            problem, status = f"{path} is empty: remove it, and a new one is made", BAD_DATA
    raise SettingsError([problem], status)


def _make_secret(path: Path) -> None:
    # Imported here, since a secret is made only once.
    import secrets
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:
        file.write(f"{secrets.token_urlsafe(48)}\n")
        file.flush()
        os.fsync(file.fileno())
        temporary = Path(file.name)
        temporary.chmod(0o660)
        with suppress(FileExistsError):
            path.hardlink_to(temporary)


def _not_writable(folder: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return not_writable(folder)
    return f"{folder} cannot be written: {error.strerror}"
