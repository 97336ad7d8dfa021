"""`python -m usbbackup` is the command line."""

from usbbackup.cli.main import entry

entry()
