"""The test runner, and what the tests of several apps share."""

from typing import Any

from django.conf import settings
from django.test import override_settings
from django.test.runner import DiscoverRunner

# For tests outside of the image, where collectstatic has not been run.
uncollected_static = override_settings(
    STORAGES=settings.STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
)


class ProjectTestRunner(DiscoverRunner):
    """By default runs the tests in project/ only: those in tests/ are for pytest."""

    def build_suite(self, test_labels: list[str] | None = None, **kwargs: Any) -> Any:
        """Search project/ instead of the current folder if no labels are given."""
        return super().build_suite(test_labels or ["project"], **kwargs)
