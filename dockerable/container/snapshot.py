"""What is mounted over /app, as it was when it was last checked: at the container's start, and at each reload.

A worker that is replaced between the two (harakiri, max-requests, kill -9, a crashed master) imports the project
anew; what somebody has begun to change in a mounted folder must not reach it. So a copy of the mounted modules,
and of the small files beside them (secrets.json), is made first, the check loads that copy, and an import hook
gives it to the workers until the next copy has passed its check. The files of /run/secrets, and those that
variables named *_FILE name, are copied too, for dockerable/settings.py, which asks here before it reads.

/run/snapshot/NUMBER stands for /app: the copied folders are in their places in it, everything else is a link
to the original, so paths that settings derive from __file__ lead where they would have led. Code keeps the
original path: a traceback names the file that the user has.

/run/snapshot/current leads to the copy in service. Where one is that is still to be checked only its maker knows, so
it enters service by its maker's `commit` alone, and one whose maker was killed not at all.
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
# In a copy: the folders that it holds, one a line; the files of other places, under their whole paths.
LIST, FILES = ".snapshot", ".files"
# /run is memory, and for a moment two copies are in it. Bytes of one; files and folders; bytes of a file without code.
MOST_BYTES, MOST_ENTRIES, MOST_DATA = 4 << 20, 4000, 64 << 10


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content, for owner and group: the container's uid may change. Raises OSError."""
    descriptor = os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o660)
    with open(source, "rb") as original, open(descriptor, "wb") as copy:
        shutil.copyfileobj(original, copy)


class TooLarge(Exception):
    """A mounted folder exceeds what is copied."""


class Copy:
    """The copying of one mounted folder, within its bounds."""

    def __init__(self) -> None:
        self.bytes = self.entries = 0

    def folder(self, source: Path, target: Path) -> bool:
        """Copy a folder if there are modules in it or below; whether there are. Raises TooLarge, OSError."""
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
                # Removed since it was listed, as certbot's temporary files beside the settings are.
                (target / entry.name).unlink(missing_ok=True)
        if not (found or here):
            shutil.rmtree(target)
        return found or here

    def entries_of(self, folder: Path) -> "list[os.DirEntry[str]]":
        """What a folder holds; nothing where it was removed since it was listed. Raises OSError."""
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
        # /run is mounted noexec: no library could be loaded from it.
        small = size <= MOST_DATA and beside_modules and not entry.name.endswith(".so")
        if not (entry.name.endswith(".py") or small) or not os.access(entry.path, os.R_OK):
            target.symlink_to(entry.path)
            return
        self.bytes += size
        if self.bytes > MOST_BYTES:
            raise TooLarge(f"more than {MOST_BYTES >> 20} MiB of modules")
        copy_file(Path(entry.path), target)


class Snapshot:
    """One copy: where it is and what it holds."""

    def __init__(self, root: Path) -> None:
        self.root = f"{root}/"
        self.folders = tuple(f"{line}/" for line in (root / LIST).read_text().splitlines())

    def place(self, path: str) -> str:
        """The place in the copy of a path that is in it; the path itself elsewhere."""
        if f"{path}/".startswith(self.folders):
            return self.root + path[len(f"{APP}/") :]
        return path

    def file(self, path: str) -> str:
        """As `place`, also for a file of another place than /app."""
        copy = f"{self.root}{FILES}{path}"
        return copy if os.path.exists(copy) else self.place(path)  # noqa: PTH110

    def original(self, path: str) -> str:
        """The path of which `path` is the copy; itself where it is none."""
        return f"{APP}/{path[len(self.root) :]}" if path.startswith(self.root) else path


class Loader(SourceFileLoader):
    """Loads a copied module; its code names the original file."""

    def source_to_code(self, data: bytes, path: str, *more: object, **options: object):  # type: ignore[no-untyped-def,override]
        """Compile it under the original path."""
        return super().source_to_code(data, str(original(path)), *more, **options)  # type: ignore[arg-type]

    def path_stats(self, path: str) -> dict[str, object]:
        """No bytecode is kept: it would name the copy."""
        raise OSError


class Finder:
    """Finds modules in the copy that `link` leads to; each process stays with the one it began with."""

    def __init__(self) -> None:
        self.link: Path | None = None
        self.pid = 0
        self.kept: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The copy of this process, None where there is no snapshot."""
        if self.pid != os.getpid():
            self.pid, self.kept = os.getpid(), None
            with contextlib.suppress(FileNotFoundError):
                if self.link:
                    self.kept = Snapshot(self.link.resolve(strict=True))
        return self.kept

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec, where it is in the copy."""
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
    """From now on this process and its children import what `link` leads to; without a call, what is mounted."""
    finder.link, finder.pid = link, 0
    if finder not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), finder)
    importlib.invalidate_caches()


def original(path: str | Path) -> Path:
    """The mounted file of which `path` is the copy in use; for messages."""
    return Path(finder.snapshot.original(str(path))) if finder.snapshot else Path(path)


def copy_of(path: Path) -> Path:
    """The copy in use of a mounted file, or the file itself; for reading."""
    return Path(finder.snapshot.file(str(path.absolute()))) if finder.snapshot else path


def mounts(table: str) -> list[Path]:
    """The folders at and below /app that are mounts of their own, by /proc/self/mountinfo's text; parents first."""
    # The kernel writes a space in a path as \040.
    words = (line.split(" ")[4] for line in table.splitlines())
    places = {re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), word) for word in words}
    return sorted(Path(place) for place in places if f"{place}/".startswith(f"{APP}/") and Path(place).is_dir())


def place() -> Path:
    """Where the next copy goes; no other has ever been there, also none that is being made or loaded still."""
    return SNAPSHOT / str(time.monotonic_ns())


def make(root: Path) -> dict[Path, str]:
    """Make the copy `root`. Returns what is used in its place, without one: folder to reason. Raises OSError."""
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
            left[folder] = getattr(reason, "strerror", None) or str(reason)
            shutil.rmtree(target, ignore_errors=True)
        target.mkdir() if target == root else target.symlink_to(folder)
    copy_files(root / FILES)
    (root / LIST).write_text("".join(f"{folder}\n" for folder in folders))
    return left


def copy_files(target: Path) -> None:
    """Copy the small files that settings may be read from and that lie elsewhere. Raises OSError without room."""
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
            # Half a file would be taken for the whole; one that cannot be read is for who needs it to say.
            if reason.errno == errno.ENOSPC:
                raise
            copy.unlink(missing_ok=True)


def lead_to(folder: Path, root: Path) -> None:
    """Make the folders above `folder` in the copy; what they hold are links to the originals."""
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
    """Put a copy that has been checked into service, for the processes that begin from now on. Raises OSError."""
    link = SNAPSHOT / "next"
    link.unlink(missing_ok=True)
    link.symlink_to(root.name)
    link.rename(CURRENT)


def discard(*, older: bool = False) -> None:
    """Remove the copies that never entered service: only for who knows that nobody else makes one.

    With `older` also those that were in service before: only where no process uses them any more.
    """
    name = CURRENT.resolve().name
    in_service = int(name) if name.isdigit() else 0
    for copy in SNAPSHOT.glob("[0-9]*"):
        number = int(copy.name)
        if number > in_service or (older and number < in_service):
            shutil.rmtree(copy, ignore_errors=True)
