"""README.txt on a drive is enough: its commands bring files back where there is no usbbackup at all."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from people import REPOSITORY
from trees import portrait

pytestmark = pytest.mark.root
PASSPHRASE = "a quiet evening by the sea"  # noqa: S105 - of a repository that lives for a minute

# A mount namespace in which the checkout is an empty directory, and nothing of it on the path.
INSIDE = """
mount -t tmpfs none "$1"
cd "$2"
if command -v usbbackup || python3 -c 'import usbbackup' 2>/dev/null; then exit 99; fi
sh -euc "$3"
"""


def commands(readme, chapter, names):
    """The indented lines of a chapter, with its capital words replaced."""
    text = readme.split(f"\n{chapter}\n")[1].split("\n\n\n")[0]
    script = "\n".join(line.strip() for line in text.splitlines() if line.startswith("    "))
    for word, name in names.items():
        script = re.sub(rf"\b{word}\b", name, script)
    return script


def rescued(drive, home, script):
    """Run a script in a terminal opened beside README.txt, by somebody with an empty home."""
    home.mkdir()
    ended = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "slave", "sh", "-euc", INSIDE, "sh"),
            *(REPOSITORY, drive.mount_point / "usbbackup", script),
        ],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "BORG_PASSPHRASE": PASSPHRASE,  # typed, where somebody sits there
        },
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return home / "restored"


def test_files_come_back_with_nothing_but_cp_or_borg(house, stick, tmp_path):
    secret = {"encryption": "repokey-blake2", "passcommand": ["echo", PASSPHRASE]}
    house.configure(house.job("rsync"), house.job("borg", **secret))
    drive = stick()
    drive.plug()
    drive.mount()
    house.done("drives", "enrol")
    house.done("start", "--wait")
    times = {one["job"]: one["snapshot"].partition("@")[2] for one in house.snapshots()}
    readme = (drive.mount_point / "usbbackup/README.txt").read_text()
    (host,) = [path.name for path in (drive.mount_point / "usbbackup").iterdir() if path.is_dir()]
    (user,) = [path.name for path in (drive.mount_point / "usbbackup" / host).iterdir()]
    drive.unmount()
    drive.mount(options="ro")  # a rescue changes nothing

    for job, chapter, options in (
        ("rsync", "Plain files (rsync)\n-------------------", ""),
        ("borg", "A borg repository\n-----------------", " --bypass-lock"),
    ):
        names = {"HOST-ID": host, "JOB": job, "TIME": times[job]}
        script = commands(readme, chapter, names)
        script = script.replace("home/USER/Documents", f'"{str(house.documents)[1:]}"')
        script = re.sub(r"\bUSER\b", user, script)
        for verb in ("list", "extract"):
            script = script.replace(f"borg {verb}", f"borg {verb}{options}")
        found = rescued(drive, tmp_path / job, script)
        (top,) = [Path(path) for path, names, _ in os.walk(found) if "letters" in names]
        assert portrait(top) == portrait(house.documents), job
