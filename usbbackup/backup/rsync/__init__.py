"""Backing up with rsync: snapshots as plain directories, most of each linked from the one before."""
