"""The user model."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """The project's own user model from the first migration on: changing to one later is hard."""
