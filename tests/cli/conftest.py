"""The homes of all tests of commands."""

from tests.cli.house import home, house, living

__all__ = ["home", "house", "living"]
