"""Runs inside the machine: makes eCryptfs trees by the kernel, and notes what the kernel shows in them.

Argument: the directory to leave everything in. With `usbbackup` beside this file, a large tree is made too.
Each tree becomes NAME/.Private (what the disk holds) and NAME/.ecryptfs (wrapped passphrase, signatures);
`plain.json` holds, for each tree and path, what was read through the file system after it was mounted anew.
"""

import hashlib
import json
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LOGIN, MOUNT = "correct horse", "0123456789abcdef0123456789abcdef"
SALT, FNEK_SALT = bytes.fromhex("0011223344556677"), bytes.fromhex("9988776655443322")
SIZES = (0, 1, 4095, 4096, 4097, 8191, 8192, 8193)
FEW = (0, 1, 4097)
LONGEST = "l" * 143  # ENC_NAME_MAX_BLOCKLEN_8_OR_16 of fs/ecryptfs/crypto.c
NEW_YEAR = 1_325_376_000

# name: key bytes, cipher, names are encrypted, more mount options, sizes
TREES = {
    "aes128": (16, "aes", True, "", SIZES),
    "aes192": (24, "aes", True, "", FEW),
    "aes256": (32, "aes", True, "", FEW),
    "xattr": (16, "aes", True, ",ecryptfs_xattr_metadata", FEW),
    "names-not-encrypted": (16, "aes", False, ",ecryptfs_passthrough", FEW),
    "blowfish": (16, "blowfish", True, "", (1,)),
}
LARGE = (16, "aes", True, "", ())
BIG = 32 << 20  # bytes


def sh(*argv: str, stdin: str = "") -> str:
    return subprocess.run(argv, check=True, input=stdin, text=True, stdout=subprocess.PIPE).stdout


def signatures() -> tuple[str, str]:
    """Put both keys into the keyring; their signatures."""
    said = sh("ecryptfs-add-passphrase", "--fnek", "-", stdin=MOUNT)
    content, names = (line.partition("[")[2].partition("]")[0] for line in said.splitlines() if "[" in line)
    return content, names


def mount(lower: Path, upper: Path, tree: str) -> None:
    size, cipher, encrypted, more, _ = TREES.get(tree, LARGE)
    content, names = signatures()
    options = f"ecryptfs_sig={content},ecryptfs_cipher={cipher},ecryptfs_key_bytes={size}{more}"
    if encrypted:
        options += f",ecryptfs_fnek_sig={names}"
    sh("mount", "-i", "-t", "ecryptfs", str(lower), str(upper), "-o", options)


def fill(top: Path, sizes: tuple[int, ...], dice: random.Random) -> None:
    for size in sizes:
        (top / f"size {size}").write_bytes(dice.randbytes(size))
    (top / "Grüße, 世界 😀").mkdir()
    (top / "link").symlink_to("Grüße, 世界 😀/nowhere")


def fill_more(top: Path) -> None:
    """All else that may be found in a home."""
    (top / LONGEST).touch()
    below = top / "folder" / "deeper"
    below.mkdir(parents=True)
    (below / "secret").write_text("only for me\n")
    (below / "secret").chmod(0o600)
    os.setxattr(below / "secret", "user.note", b"kept")
    (top / "one name").write_text("two names\n")
    (below / "other name").hardlink_to(top / "one name")
    (top / "dangling").symlink_to("../" + "far/" * 50 + "away")
    (top / "empty folder").mkdir(mode=0o750)
    os.mkfifo(top / "pipe", 0o640)
    with (top / "with a hole").open("wb") as file:
        file.write(b"first")
        file.seek(2 * 4096 + 100)
        file.write(b"last")
    (top / "folder").chmod(0o555)


def date(top: Path) -> None:
    """Times that no clock of the machine has made."""
    paths = sorted((path for path in top.rglob("*")), key=lambda path: -len(path.parts))
    for number, path in enumerate(paths):
        when = NEW_YEAR * 10**9 + number * 1_000_000_007
        os.utime(path, ns=(when, when), follow_symlinks=False)


def seen(top: Path) -> dict[str, dict[str, object]]:
    """Every entry as the mounted file system shows it."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        entry: dict[str, object] = {
            "mode": stat.filemode(status.st_mode),
            "mtime_ns": status.st_mtime_ns,
            "links": status.st_nlink if not stat.S_ISDIR(status.st_mode) else None,
        }
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if stat.S_ISLNK(status.st_mode):
            entry["target"] = str(path.readlink())
        found[str(path.relative_to(top))] = entry
    return found


def made_anew(folder: Path, tree: str) -> dict[str, dict[str, object]]:
    """Fill a tree through the kernel, mount it anew, and tell what is in it."""
    lower, upper = folder / ".Private", Path("/tmp/upper")
    upper.mkdir(exist_ok=True)
    lower.mkdir(parents=True, mode=0o700)
    mount(lower, upper, tree)
    fill(upper, TREES[tree][-1], random.Random(tree))  # noqa: S311 - to be the same each time
    if tree == "aes128":
        fill_more(upper)
    date(upper)
    if tree == "names-not-encrypted":
        (lower / "passed through").write_text("this was never encrypted\n")
    sh("umount", str(upper))
    Path("/proc/sys/vm/drop_caches").write_text("3")
    mount(lower, upper, tree)
    told = seen(upper)
    sh("umount", str(upper))
    return told


def keys(folder: Path, *, encrypted: bool) -> None:
    """What ecryptfs-setup-private leaves: the wrapped passphrase, by the real program, and the signatures."""
    folder.mkdir()
    wrapped = folder / "wrapped-passphrase"
    sh("ecryptfs-wrap-passphrase", str(wrapped), "-", stdin=f"{MOUNT}\n{LOGIN}")
    content, names = signatures()
    (folder / "Private.sig").write_text(f"{content}\n{names}\n" if encrypted else f"{content}\n")


def version_1(path: Path) -> None:
    """A wrapped passphrase as eCryptfs-utils before 106 wrote it; the real program must be able to read it.

    That needs no more than what key_management.c says: sixteen hexadecimal digits, then AES-128-ECB.
    """
    key = hashlib.sha512(SALT + LOGIN.encode()).digest()
    for _ in range(65535):
        key = hashlib.sha512(key).digest()
    encryptor = Cipher(algorithms.AES(key[:16]), modes.ECB()).encryptor()  # noqa: S305 - the format's
    wrapped = encryptor.update(MOUNT.encode())
    path.write_bytes(hashlib.sha512(key).digest()[:8].hex().encode() + wrapped)
    assert sh("ecryptfs-unwrap-passphrase", str(path), "-", stdin=LOGIN).strip() == MOUNT


def many(top: Path, count: int) -> None:
    for number in range(count):
        below = top / f"folder {number // 100}"
        below.mkdir(exist_ok=True)
        (below / f"file {number}").write_bytes(b"%d\n" % number * (number % 7))


def large(made: Path) -> dict[str, dict[str, object]]:
    """10,000 files, and one large file."""
    lower, upper = made / "large/.Private", Path("/tmp/upper")
    lower.mkdir(parents=True)
    mount(lower, upper, "large")
    many(upper, 10_000)
    (upper / "big").write_bytes(random.Random(1).randbytes(BIG))  # noqa: S311 - as above
    sh("umount", str(upper))
    mount(lower, upper, "large")
    told = seen(upper)
    sh("umount", str(upper))
    keys(made / "large/.ecryptfs", encrypted=True)
    return told


def race(lower: Path) -> dict[str, float]:
    """Seconds to read the large file: by this kernel, and by usbbackup, which lies beside this file."""
    from usbbackup.ecryptfs.contents import plain_text
    from usbbackup.ecryptfs.home import EncryptedHome

    upper = Path("/tmp/upper")
    mount(lower, upper, "large")
    inode = (upper / "big").stat().st_ino
    began = time.perf_counter()
    with (upper / "big").open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    kernel = time.perf_counter() - began
    sh("umount", str(upper))
    keys = EncryptedHome(lower).unlocked(MOUNT.encode(), mount=True)
    with next(path for path in lower.iterdir() if path.stat().st_ino == inode).open("rb") as file:
        began = time.perf_counter()
        for _ in plain_text(file.fileno(), keys, encrypted=True).pieces:
            pass
    return {"megabytes": BIG / 1e6, "kernel": kernel, "usbbackup": time.perf_counter() - began}


def main(made: Path) -> None:
    told = {}
    for tree, (_, _, encrypted, _, _) in TREES.items():
        told[tree] = made_anew(made / tree, tree)
        keys(made / tree / ".ecryptfs", encrypted=encrypted)
    version_1(made / "aes128/.ecryptfs/wrapped-passphrase")
    about = {"login": LOGIN, "mount": MOUNT, "kernel": os.uname().release, "trees": told}
    if Path(__file__).with_name("usbbackup").exists():
        told["large"] = large(made)
        about["race"] = race(made / "large/.Private")
    (made / "plain.json").write_text(json.dumps(about, indent=1, ensure_ascii=False))
    print("made", sum(len(tree) for tree in told.values()), "entries", about.get("race", ""))


main(Path(sys.argv[1]))
