"""The peers beside us: full and incremental backups of one tree to one file system, in one run.

Beside our rsync engine those that keep plain directories: rsync --link-dest, rsnapshot, rdiff-backup and Back
In Time; beside our borg engine bare borg and borgmatic. Each round changes one file of a hundred. What is
missing is installed, from the distribution. Needs root and loop devices.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import _common
from _common import Figure, figure
from overhead import RSYNC, Ours, a_tree, change

from demo import loop_drive
from demo.loop_drive import LoopDrive

# The program of each peer, and the package of the distribution that has it.
PACKAGES = {
    "rsnapshot": "rsnapshot",
    "rdiff-backup": "rdiff-backup",
    "backintime": "backintime-common",
    "borgmatic": "borgmatic",
    "rsync": "rsync",
    "borg": "borgbackup",
}
PATIENCE = 1800.0  # seconds for one backup; a peer that needs more is left out


@dataclass
class Peer:
    """One way to back up; `run` makes one backup, `folder` is where it writes."""

    name: str
    kind: str  # rsync | borg
    run: Callable[[], None]
    seconds: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)  # bytes that reached the device
    trouble: str | None = None

    def turn(self, drive: Path) -> None:
        """One backup, until all of it is on the drive."""
        if self.trouble is not None:
            return
        before, start = sectors(drive), time.monotonic()
        try:
            self.run()
        except (subprocess.SubprocessError, SystemExit) as error:
            self.trouble = said(error)
            return
        os.sync()
        self.seconds.append(time.monotonic() - start)
        self.written.append((sectors(drive) - before) * 512)


def said(error: BaseException) -> str:
    """What is wrong, as it said last."""
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or b""
    lines = output.decode(errors="replace").strip().splitlines()
    return " / ".join(lines[-3:]) or str(error)


def sectors(device: Path) -> int:
    """How many sectors were written to a block device since it is there."""
    return int(Path(f"/sys/class/block/{device.name}/stat").read_text().split()[6])


def install() -> None:
    """Install the programs that are not there."""
    found = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    packages = [package for program, package in PACKAGES.items() if shutil.which(program, path=found) is None]
    if not packages:
        return
    print(f"installing {', '.join(packages)}", file=sys.stderr)
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    subprocess.run(
        command,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.DEVNULL,
        check=False,
    )


@dataclass(frozen=True)
class Place:
    """What each of them is given."""

    here: Path  # for its own files
    drive: Path  # to write to
    source: Path
    env: dict[str, str]

    def do(self, *command: str | Path, **more: str) -> None:
        """Run a program, quietly."""
        subprocess.run(
            list(map(str, command)),
            env=self.env | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )

    def folder(self, name: str) -> Path:
        """A directory on the drive."""
        made = self.drive / name
        made.mkdir()
        return made


def ours(place: Place, engine: str) -> Peer:
    """A run of usbbackup, from the open drive to the result."""
    run = Ours(engine, place.drive, place.source, place.env).run
    return Peer(f"usbbackup ({engine})", engine, lambda: run() and None)


def link_dest(place: Place) -> Peer:
    """rsync by hand: new directory, --link-dest, rename."""
    folder = place.folder("link-dest")

    def run() -> None:
        number = len(list(folder.iterdir()))
        last = [f"--link-dest={folder / str(number - 1)}"] if number else []
        place.do(*RSYNC, *last, f"{place.source}/", f"{folder}/new/")
        place.do("sync", "-f", folder)
        (folder / "new").rename(folder / str(number))

    return Peer("rsync --link-dest", "rsync", run)


def rsnapshot(place: Place) -> Peer:
    """With link_dest on, and hard links, attributes and access control lists kept."""
    config = place.here / "rsnapshot.conf"
    lines = (
        ("config_version", "1.2"),
        ("snapshot_root", f"{place.folder('rsnapshot')}/"),
        ("cmd_rsync", shutil.which("rsync")),
        ("cmd_cp", shutil.which("cp")),
        ("link_dest", "1"),
        ("rsync_short_args", "-aHAX"),
        ("rsync_long_args", "--delete --numeric-ids --relative --delete-excluded"),
        ("retain", "alpha", "20"),
        ("backup", f"{place.source}/", "here/"),
    )
    config.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return Peer("rsnapshot", "rsync", lambda: place.do("rsnapshot", "-c", config, "alpha"))


def rdiff_backup(place: Place) -> Peer:
    """As it comes."""
    folder = place.folder("rdiff-backup")
    command = ("rdiff-backup", "--api-version", "201", "backup", place.source, folder)
    return Peer("rdiff-backup", "rsync", lambda: place.do(*command))


def back_in_time(place: Place) -> Peer:
    """One profile, without a schedule, with the system's own Python, whose modules it needs."""
    folder, config = place.folder("backintime"), place.here / "backintime.conf"
    settings = {
        "config.version": "6",
        "profiles": "1",
        "profiles.version": "1",
        "profile1.name": "bench",
        "profile1.snapshots.mode": "local",
        "profile1.snapshots.path": folder,
        "profile1.snapshots.path.host": "host",
        "profile1.snapshots.path.user": "user",
        "profile1.snapshots.path.profile": "1",
        "profile1.snapshots.include.1.value": place.source,
        "profile1.snapshots.include.1.type": "0",
        "profile1.snapshots.include.size": "1",
        "profile1.snapshots.exclude.size": "0",
        "profile1.snapshots.no_on_battery": "false",
        "profile1.snapshots.notify.enabled": "false",
        "profile1.snapshots.preserve_acl": "true",
        "profile1.snapshots.preserve_xattr": "true",
        "profile1.snapshots.take_snapshot_regardless_of_changes": "true",
        "profile1.snapshots.min_free_space.enabled": "false",
        "profile1.snapshots.min_free_inodes.enabled": "false",
        "profile1.snapshots.remove_old_snapshots.enabled": "false",
        "profile1.schedule.mode": "0",
    }
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (folder / "backintime/host/user/1").mkdir(parents=True)
    program = Path("/usr/share/backintime/common/backintime.py")
    before = set(folder.glob("backintime/host/user/1/2*"))

    def run() -> None:
        time.sleep(
            max(0.0, 1.0 - time.time() % 1.0) if before else 0.0
        )  # its snapshots are named by the second
        place.do("/usr/bin/python3", "-Es", program, "--config", config, "backup")
        now = set(folder.glob("backintime/host/user/1/2*"))
        if now == before:
            raise SystemExit("it made no snapshot")
        before.update(now)

    return Peer("Back In Time", "rsync", run)


def borg(place: Place) -> Peer:
    """borg by hand."""
    repository, more = place.drive / "borg", _borg_env(place, "borg")
    count = iter(range(1000))

    def run() -> None:
        number = next(count)
        if number == 0:
            place.do("borg", "init", "--encryption=none", repository, **more)
        place.do("borg", "create", f"{repository}::{number}", place.source, **more)
        place.do("borg", "info", f"{repository}::{number}", **more)

    return Peer("bare borg", "borg", run)


def borgmatic(place: Place) -> Peer:
    """create, without its checks and pruning."""
    config, repository = place.here / "borgmatic.yaml", place.drive / "borgmatic"
    config.write_text(
        f"location:\n  source_directories: [{place.source}]\n  repositories: [{repository}]\n"
        "storage:\n  archive_name_format: 'bench-{now:%f}'\n"
    )
    more, begun = _borg_env(place, "borgmatic"), False

    def run() -> None:
        nonlocal begun
        if not begun:
            place.do("borg", "init", "--encryption=none", repository, **more)
            begun = True
        place.do("/usr/bin/borgmatic", "--config", config, "create", **more)

    return Peer("borgmatic", "borg", run)


def _borg_env(place: Place, name: str) -> dict[str, str]:
    return {
        "BORG_BASE_DIR": str(place.here / f"{name}-home"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """A full backup with each, then rounds with few changes, everybody in turn."""
    install()
    _common.need("rsync", "borg")
    if reason := loop_drive.missing():
        _common.skip(reason)
    with ExitStack() as stack:
        here = stack.enter_context(_common.temporary())
        env = _common.a_home(here, "jobs: []\n")
        source = a_tree(here / "source", arguments.files)
        stack.enter_context(loop_drive.udevd())
        size = (512 << 20) + arguments.files * 170_000
        drive = LoopDrive(here, label="usbbackup-bench", fs_type=arguments.fs, size=size)
        stack.callback(drive.close)
        device = drive.plug()
        place = Place(here, drive.mount(), source, env)
        peers = [
            ours(place, "rsync"),
            *(make(place) for make in (link_dest, rsnapshot, rdiff_backup, back_in_time)),
        ]
        peers += [ours(place, "borg"), borg(place), borgmatic(place)]
        os.sync()
        for peer in peers:
            peer.turn(device)
        for number in range(arguments.rounds):
            change(source, arguments.files, number)
            for peer in peers if number % 2 else reversed(peers):
                peer.turn(device)
        return told(peers)


def told(peers: list[Peer]) -> list[Figure]:
    """Time and bytes of each, as a share of the peer's: below 1 we are ahead."""
    figures = []
    for what, first, last in (("full", 0, 1), ("1 % changed", 1, None)):
        for peer in peers:
            if peer.trouble is not None:
                print(f"{peer.name}: left out, it failed: {peer.trouble}", file=sys.stderr)
                continue
            us = next(one for one in peers if one.kind == peer.kind)
            for unit, ours_, theirs in (("s", us.seconds, peer.seconds), ("MB", us.written, peer.written)):
                values = [float(value) / (1 if unit == "s" else 1e6) for value in theirs[first:last]]
                mine = [float(value) / (1 if unit == "s" else 1e6) for value in ours_[first:last]]
                ratio = (
                    None
                    if peer is us
                    else figure("", unit, mine).p50 / max(figure("", unit, values).p50, 1e-9)
                )
                target = 1.0 if ratio is not None and unit == "s" else None
                figures.append(
                    figure(
                        f"{peer.name}, {what}",
                        unit,
                        values,
                        ratio=ratio,
                        of="it is what usbbackup takes",
                        target=target,
                    )
                )
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="files in the tree (100000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of backups with few changes (3)")
    parser.add_argument("--fs", default="ext4", help="file system of the drive (ext4)")
    _common.main(parser, measure)
