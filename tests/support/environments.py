"""Settings folders that a test writes."""

from collections.abc import Mapping
from pathlib import Path

from tests.support.docker import ROOT
from tests.support.stack import mounted_environment

EXAMPLE = (ROOT / "project/settings/example/settings.py").read_text()
# Settings of a test that needs no secrets.json begin with this.
LOCAL = "from project.settings.local.settings import *\n"
MODULE = "project.settings.prod.settings"


def settings_folder(place: Path, files: Mapping[str, str]) -> list[str]:
    """Make the environment `prod` in `place`: the example's settings.py, and `files` by their paths; its mounts."""
    for name, content in {"settings.py": EXAMPLE, **files}.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return mounted_environment(place, "prod")


def app_with_migration(operations: str) -> dict[str, str]:
    """Files of an environment whose app `late` has one migration more than the image."""
    migration = (
        "import sys, time\n"
        "from django.db import migrations\n\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('accounts', '0001_initial')]\n"
        f"    operations = [{operations}]\n"
    )
    return {
        "settings.py": f"{LOCAL}INSTALLED_APPS = [*INSTALLED_APPS, 'project.settings.prod.late']\n",
        "late/__init__.py": "",
        "late/migrations/__init__.py": "",
        "late/migrations/0001_late.py": migration,
    }
