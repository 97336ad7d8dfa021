"""What borg remembers at home of a repository, and how that gives way to a repository that is older.

borg refuses a repository older than it remembers (`Cache.RepositoryReplay`; of unencrypted ones
`Cache.RepositoryIDNotUnique`): somebody may have put an old copy in its place. But a power cut, too, takes
back what borg had counted on. It remembers the newest time in its cache, and in its security directory.
"""

import os
import shutil
from pathlib import Path

from usbbackup.files import write_atomically

_NEWEST = "manifest-timestamp"


def set_aside(identity: str, cache: Path, config: Path, time: str) -> list[Path]:
    """Let borg forget how new a repository was; what it knew stays beside, under names that are returned.

    The rest of its security directory stays in use: the kind of encryption, by which borg knows a repository
    that was swapped, and the nonces it has used, which must never be used again.
    """
    newest = config / "security" / identity / _NEWEST
    moved = [_copied_aside(newest, time)] if newest.exists() else []
    if (known := cache / identity).exists():
        moved.append(known.rename(_beside(known, time)))
    return moved


def _copied_aside(newest: Path, time: str) -> Path:
    aside = _beside(newest, time)
    shutil.copy2(newest, aside)
    write_atomically(newest, b"")  # borg reads it as: older than any; without the file it knows no repository
    return aside


def _beside(path: Path, time: str) -> Path:
    return path.with_name(f"{path.name}.aside-{time}-{os.urandom(2).hex()}")
