"""Files and data of an earlier version on a host work with the current image, unchanged and without a new order.

tests/archives/make.py makes the archives and says what is in them.
"""

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import find_compose
from tests.support.docker import ROOT
from tests.support.installation import Installation
from tests.support.tree import copy_tree
from tests.support.wait import wait_until

ARCHIVES = sorted(ROOT.glob("tests/archives/*.tar.gz"))
assert ARCHIVES
# The name of the archives' authority leads to a port without a listener.
NO_AUTHORITY = {"services": {"web": {"extra_hosts": ["pebble:127.0.0.1"]}}}


def read(archive: Path, name: str) -> str:
    with tarfile.open(archive) as packed:
        file = packed.extractfile(name)
        assert file
        return file.read().decode()


def changed(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of an earlier version that are not there any more or have another value in one of its columns."""
    found = {row["id"]: row for row in now}
    return [row for row in then if not row.items() <= found.get(row["id"], {}).items()]


@pytest.mark.parametrize("version", ["1.29", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name.removesuffix(".tar.gz"))
def test_what_an_earlier_version_left_starts_and_serves_as_it_did(
    archive: Path, version: str, tmp_path: Path, new_stack: Callable[[Installation], Installation]
) -> None:
    facts = json.loads(read(archive, "facts.json"))
    folder = copy_tree(tmp_path / "tree") / "project/settings/prod"
    site = new_stack(Installation(find_compose(version), folder, facts["names"], NO_AUTHORITY))

    def serial() -> str:
        return f"{site.served().serial_number:x}"

    site.unpack(archive)
    site.up()
    assert serial() == facts["serial"]

    now = site.rows(facts["tables"])
    for table, then in facts["tables"].items():
        assert changed(then, now[table]) == [], table
    for path, digest in facts["uploads"].items():
        assert hashlib.sha256(site.get(path).content).hexdigest() == digest
    assert site.get("/").status_code == 200

    # Before the login: it may store the password's hash anew, which ends the user's other sessions.
    assert site.get("/admin/", Cookie=facts["cookie"]).status_code == 200
    browser = site.browser()
    credentials = {"username": facts["user"], "password": facts["password"]}
    assert browser.submit("/admin/login/?next=/admin/", credentials).status_code == 302
    assert browser.get("/admin/").status_code == 200

    assert site.run_cron_line(read(archive, "crontab")) == 0
    status = wait_until(lambda: None if (found := site.status())["next_attempt"] else found, 20)
    assert (status["state"], status["stored"]["serial"], serial()) == ("ok", facts["serial"], facts["serial"])
    assert "accepting requests" in "".join(site.syslog.received)
