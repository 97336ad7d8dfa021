"""What the kernel and udev say about drives; knows nothing of backups."""
