"""Plug in a drive labelled `backup`, and the backup happens."""

__version__ = "0.1.0"
