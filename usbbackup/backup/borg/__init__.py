"""Backing up with borg: what it is asked, what it says, and what is kept of it on the drive and at home."""
