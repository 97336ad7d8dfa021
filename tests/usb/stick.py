"""The image of a USB stick."""

import subprocess
from pathlib import Path


class Stick:
    """One file system on the whole of it; `luks` is for the machine to make."""

    def __init__(
        self, image: Path, fs_type: str = "ext4", *, label: str = "backup", owner: int = 1000
    ) -> None:
        self.name, self.image, self.fs_type = image.stem, image, fs_type
        with image.open("wb") as file:
            file.truncate(160 << 20)
        make = {
            "ext4": ("mkfs.ext4", "-q", "-F", "-L", label, "-E", f"root_owner={owner}:{owner}"),
            "btrfs": ("mkfs.btrfs", "-q", "-L", label),
            "vfat": ("mkfs.vfat", "-n", label.upper()),
            "exfat": ("mkfs.exfat", "-L", label),
        }
        if fs_type in make:
            subprocess.run([*make[fs_type], image], check=True, capture_output=True)
