"""A copy of the modules that are mounted over /app, made and checked at the container's start and at each reload.

A worker that is replaced at any other time (harakiri, max-requests, kill -9, a crashed master) imports the project
again, and must not get a mounted file that is just being edited. So the start and each reload first copy the
mounted modules and the small files beside them (secrets.json); the check loads that copy, and an import hook makes the
workers load it too, until the next copy has passed its check. The files in /run/secrets, and those that variables
*_FILE name, are copied as well, for dockerable/settings.py, which reads them through this module.

/run/snapshot/NUMBER stands for /app: it has the copied folders in their places and links to the originals of
everything else, so paths that settings derive from __file__ stay right. Compiled code keeps the original path, so a
traceback names the file that the user knows.

/run/snapshot/current is a link to the copy in service. Only the process that made a copy knows its path, and only its
`commit` puts the copy into service; if that process is killed first, the copy is never used.
"""

import contextlib
import errno
import importlib.machinery
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

from dockerable.container.places import APP, SECRETS, SNAPSHOT

CURRENT = SNAPSHOT / "current"
# Within a copy: the list of the folders copied, one a line; and the files from outside /app, by their whole paths.
LIST, FILES = ".snapshot", ".files"
# The bounds of a copied folder, since /run is memory and during a reload holds two copies: bytes, files and folders,
# and bytes of a file that is no module.
MOST_BYTES, MOST_ENTRIES, MOST_DATA = 4 << 20, 4000, 64 << 10


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content, as 0660 since the container's uid may change. Raises OSError."""
    descriptor = os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o660)
    with open(source, "rb") as original, open(descriptor, "wb") as copy:
        shutil.copyfileobj(original, copy)


class TooLarge(Exception):
    """A mounted folder exceeds the bounds of a copy."""


class Copy:
    """The copying of one mounted folder, within its bounds."""

    def __init__(self) -> None:
        self.bytes = self.entries = 0

    def folder(self, source: Path, target: Path) -> bool:
        """Copy a folder if it has modules in it or below. Returns whether it has. Raises TooLarge, OSError."""
        target.mkdir(0o770)
        found, files = False, []
        for entry in self.entries_of(source):
            self.entries += 1
            if self.entries > MOST_ENTRIES:
                raise TooLarge(f"more than {MOST_ENTRIES} files and folders")
            place = target / entry.name
            if entry.is_file():
                files.append(entry)
            elif entry.is_dir(follow_symlinks=False) and self.wanted(entry) and self.folder(Path(entry.path), place):
                found = True
            else:
                place.symlink_to(entry.path)
        here = any(entry.name.endswith(".py") for entry in files)
        for entry in files:
            try:
                self.file(entry, target / entry.name, here)
            except FileNotFoundError:
                # Removed since the folder was listed, such as certbot's temporary files beside the settings.
                (target / entry.name).unlink(missing_ok=True)
        if not (found or here):
            shutil.rmtree(target)
        return found or here

    def entries_of(self, folder: Path) -> "list[os.DirEntry[str]]":
        """A folder's entries; none if the folder has been removed since it was listed. Raises OSError."""
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def wanted(self, folder: "os.DirEntry[str]") -> bool:
        """Whether a folder may hold modules of the project and can be read."""
        return (
            not folder.name.startswith(".")
            and folder.name not in ("__pycache__", "node_modules")
            and os.access(folder.path, os.R_OK | os.X_OK)
        )

    def file(self, entry: "os.DirEntry[str]", target: Path, beside_modules: bool) -> None:
        """Copy a module, or a small file beside one; link any other. Raises TooLarge, OSError."""
        size = entry.stat().st_size
        # No .so: /run is mounted noexec, so a library could not be loaded from the copy.
        small = size <= MOST_DATA and beside_modules and not entry.name.endswith(".so")
        if not (entry.name.endswith(".py") or small) or not os.access(entry.path, os.R_OK):
            target.symlink_to(entry.path)
            return
        self.bytes += size
        if self.bytes > MOST_BYTES:
            raise TooLarge(f"more than {MOST_BYTES >> 20} MiB of modules")
        copy_file(Path(entry.path), target)


class Snapshot:
    """One copy: its place and the folders in it."""

    def __init__(self, root: Path) -> None:
        self.root = f"{root}/"
        self.folders = tuple(f"{line}/" for line in (root / LIST).read_text().splitlines())

    def place(self, path: str) -> str:
        """The copy of `path`; `path` itself if it is not in the copy."""
        if f"{path}/".startswith(self.folders):
            return self.root + path[len(f"{APP}/") :]
        return path

    def file(self, path: str) -> str:
        """Like `place`, also for files outside /app."""
        copy = f"{self.root}{FILES}{path}"
        return copy if os.path.exists(copy) else self.place(path)  # noqa: PTH110

    def original(self, path: str) -> str:
        """The original of the copy `path`; `path` itself if it is not in the copy."""
        return f"{APP}/{path[len(self.root) :]}" if path.startswith(self.root) else path


class Loader(SourceFileLoader):
    """Loads a module from the copy; tracebacks name the original file."""

    def source_to_code(self, data: bytes, path: str, *more: object, **options: object):  # type: ignore[no-untyped-def,override]
        """Compile the module under its original path."""
        return super().source_to_code(data, str(original(path)), *more, **options)  # type: ignore[arg-type]

    def path_stats(self, path: str) -> dict[str, object]:
        """Raise OSError, so that no bytecode is written: it would name the copy."""
        raise OSError


class Finder:
    """Finds modules in the copy that `link` leads to. A process keeps the copy that was in service when it began."""

    def __init__(self) -> None:
        self.link: Path | None = None
        self.pid = 0
        self.kept: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The copy that this process uses; None if there is none."""
        if self.pid != os.getpid():
            self.pid, self.kept = os.getpid(), None
            with contextlib.suppress(FileNotFoundError):
                if self.link:
                    self.kept = Snapshot(self.link.resolve(strict=True))
        return self.kept

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec if the copy has the module, else None."""
        if not (found := self.snapshot):
            return None
        name = fullname.rpartition(".")[2]
        places = []
        for entry in sys.path if path is None else path:
            folder = os.path.abspath(entry) if isinstance(entry, str) else ""  # noqa: PTH100
            folder = found.original(folder)
            copied = found.place(f"{folder}/{name}")
            if copied.startswith(found.root):
                places.append(os.path.dirname(copied))  # noqa: PTH120
        spec = PathFinder.find_spec(fullname, places, target) if places else None
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


finder = Finder()


def use(link: Path = CURRENT) -> None:
    """Make this process and its children import from the copy that `link` leads to, rather than what is mounted."""
    finder.link, finder.pid = link, 0
    if finder not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), finder)
    importlib.invalidate_caches()


def original(path: str | Path) -> Path:
    """The mounted file of which `path` is the copy; for messages."""
    return Path(finder.snapshot.original(str(path))) if finder.snapshot else Path(path)


def copy_of(path: Path) -> Path:
    """The copy of a mounted file, or the file itself if there is none; for reading."""
    return Path(finder.snapshot.file(str(path.absolute()))) if finder.snapshot else path


def mounts(table: str) -> list[Path]:
    """The mounted folders at and below /app, parents first. `table` is the text of /proc/self/mountinfo."""
    # The kernel writes a space in a path as \040.
    words = (line.split(" ")[4] for line in table.splitlines())
    places = {re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), word) for word in words}
    return sorted(Path(place) for place in places if f"{place}/".startswith(f"{APP}/") and Path(place).is_dir())


def place() -> Path:
    """The path for the next copy: one that no other copy has or had."""
    return SNAPSHOT / str(time.monotonic_ns())


def make(root: Path, *, needs_room: bool = False) -> dict[Path, str]:
    """Make the copy `root`. Raises OSError, with `needs_room` also if /run has no room for a folder.

    Returns the folders that could not be copied, with the reason; links to them stand in the copy.
    """
    SNAPSHOT.mkdir(0o770, exist_ok=True)
    root.mkdir(0o770)
    folders: list[Path] = []
    left: dict[Path, str] = {}
    for folder in mounts(Path("/proc/self/mountinfo").read_text()):
        if any(folder.is_relative_to(copied) for copied in folders):
            continue
        lead_to(folder, root)
        target = root / folder.relative_to(APP)
        target.rmdir() if target == root else target.unlink()
        try:
            if Copy().folder(folder, target):
                folders.append(folder)
                continue
        except (TooLarge, OSError) as reason:
            if needs_room and getattr(reason, "errno", None) == errno.ENOSPC:
                raise
            left[folder] = getattr(reason, "strerror", None) or str(reason)
            shutil.rmtree(target, ignore_errors=True)
        target.mkdir() if target == root else target.symlink_to(folder)
    copy_files(root / FILES)
    (root / LIST).write_text("".join(f"{folder}\n" for folder in folders))
    return left


def copy_files(target: Path) -> None:
    """Copy the small files outside /app that settings may read. Raises OSError if /run is full."""
    named = [Path(value) for name, value in os.environ.items() if name.endswith("_FILE") and value.startswith("/")]
    with contextlib.suppress(OSError):
        named += SECRETS.iterdir()
    for file in named:
        copy = target / file.relative_to("/")
        try:
            if file.is_file() and file.stat().st_size <= MOST_DATA:
                copy.parent.mkdir(0o770, parents=True, exist_ok=True)
                copy_file(file, copy)
        except OSError as reason:
            # Without room the copy would be cut. Any other error is left to the settings that need the file.
            if reason.errno == errno.ENOSPC:
                raise
            copy.unlink(missing_ok=True)


def lead_to(folder: Path, root: Path) -> None:
    """Make the folders above `folder` in the copy, filled with links to the originals."""
    for parent in reversed(folder.parents):
        if not parent.is_relative_to(APP):
            continue
        place = root / parent.relative_to(APP)
        if place.is_symlink():
            place.unlink()
        place.mkdir(0o770, exist_ok=True)
        for entry in parent.iterdir():
            if not os.path.lexists(place / entry.name):
                (place / entry.name).symlink_to(entry)


def commit(root: Path) -> None:
    """Put a checked copy into service for all processes that begin from now on. Raises OSError."""
    link = SNAPSHOT / "next"
    link.unlink(missing_ok=True)
    link.symlink_to(root.name)
    link.rename(CURRENT)


def discard(*, older: bool = False) -> None:
    """Remove the copies that never entered service. No other process may be making one meanwhile.

    With `older` also those that were in service before. No process may use them any more.
    """
    name = CURRENT.resolve().name
    in_service = int(name) if name.isdigit() else 0
    for copy in SNAPSHOT.glob("[0-9]*"):
        number = int(copy.name)
        if number > in_service or (older and number < in_service):
            shutil.rmtree(copy, ignore_errors=True)
