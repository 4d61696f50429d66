"""What the tests of several apps share, and how they are found."""

from typing import Any

from django.conf import settings
from django.test import override_settings
from django.test.runner import DiscoverRunner

# Outside of the image nobody has run collectstatic before the tests.
uncollected_static = override_settings(
    STORAGES=settings.STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
)


class ProjectTestRunner(DiscoverRunner):
    """Runs the tests of the project unless told otherwise: those in tests/ are pytest's."""

    def build_suite(self, test_labels: list[str] | None = None, **kwargs: Any) -> Any:
        """Search the folder of the project where Django would search the current one."""
        return super().build_suite(test_labels or ["project"], **kwargs)
