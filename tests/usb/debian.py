"""The Debian 12 that the virtual machines of `make test-vm` boot: a tree that is made once and kept."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "dbus-user-session", "libpam-systemd", "udisks2", "polkitd"),
    *("linux-image-amd64", "kmod", "login", "passwd", "util-linux", "procps", "attr", "keyutils"),
    *("e2fsprogs", "btrfs-progs", "dosfstools", "exfatprogs", "cryptsetup-bin", "libblockdev-crypto2"),
    *("rsync", "borgbackup", "python3", "python3-cryptography", "ecryptfs-utils"),
)
_LEFT_OUT = (  # half of the tree, for hardware that no such machine has
    *(f"/lib/modules/*/kernel/drivers/{kind}/*" for kind in ("gpu", "infiniband", "iio", "media", "net")),
    *("/lib/modules/*/kernel/sound/*", "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"),
)
# Loads fast where everything is emulated: only what it takes to mount the disk.
_INITRD = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"',
    'echo MODULES=list >"$1/etc/initramfs-tools/conf.d/usbbackup"',
    'printf "%s\\n" virtio_pci virtio_blk ext4 >"$1/usr/share/initramfs-tools/modules.d/usbbackup"',
)
# david is logged in without a password; emma has one, which her encrypted home is opened with
_PEOPLE = (
    *(f'chroot "$1" useradd --create-home --shell /bin/bash {user}' for user in ("david", "emma")),
    'chroot "$1" passwd --quiet --delete david',
    'echo emma:open-sesame | chroot "$1" chpasswd',
)


# What guards a processor that is real costs much where it is emulated.
SWITCHES = "root=/dev/vda quiet mitigations=off nokaslr"
_MAKE = (
    *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
    *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT),
    *(f"--essential-hook={' && '.join(_INITRD)}", f"--customize-hook={' && '.join(_PEOPLE)}", "bookworm"),
)


@contextmanager
def tree(folder: Path) -> Iterator[Path]:
    """Debian, below `folder`, for one to change at a time; made anew where it was made in another way."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _made(folder):
            _make(folder)
        yield folder / "root"


def _made(folder: Path) -> bool:
    noted = folder / "made-by"
    return noted.exists() and noted.read_text() == "\n".join(_MAKE)


def _make(folder: Path) -> None:
    print(f"Making a Debian tree in {folder} (some minutes, once)", flush=True)
    root, new, noted = folder / "root", folder / "root.new", folder / "made-by"
    noted.unlink(missing_ok=True)
    for old in (root, new):
        subprocess.run(["rm", "-rf", "--one-file-system", old], check=True)
    subprocess.run([*_MAKE, new], check=True, stdin=subprocess.DEVNULL)
    new.rename(root)
    noted.write_text("\n".join(_MAKE))


def disk(root: Path, image: Path, mib: int = 3072) -> None:
    """An ext4 file system with all of a tree in it; a file with holes."""
    with image.open("wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1", "-d", root, image], check=True)


if __name__ == "__main__":
    with tree(Path(sys.argv[1])):
        pass
