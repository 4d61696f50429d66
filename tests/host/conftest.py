"""Applies the fixture that finds leftovers to all tests here, which use the engine."""

from tests.support.leftovers import nothing_left_behind

__all__ = ["nothing_left_behind"]
