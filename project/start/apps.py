"""Configuration of the app."""

from django.apps import AppConfig


class StartConfig(AppConfig):
    """Start page and documents."""

    name = "project.start"
