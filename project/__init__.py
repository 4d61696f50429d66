"""The Django project that this image runs."""
