"""A program for borg's own Python: adds archives to a repository whose entries no borg would make.

`python3 forged_archive.py REPOSITORY < archives.json`, where the JSON is `{"home@2001-...": [entry, ...]}`;
an entry has a `path`, and may have a `target` (symbolic link), a `source` (hard link), a `data` or a `kind`.
"""

import json
import os
import stat
import sys

sys.path.append("/usr/lib/python3/dist-packages")
from borg.archive import Archive  # type: ignore[import-not-found]
from borg.cache import Cache  # type: ignore[import-not-found]
from borg.helpers import Manifest  # type: ignore[import-not-found]
from borg.item import Item  # type: ignore[import-not-found]
from borg.logger import setup_logging  # type: ignore[import-not-found]
from borg.repository import Repository  # type: ignore[import-not-found]

KINDS = {"directory": stat.S_IFDIR | 0o755, "file": stat.S_IFREG | 0o4755, "fifo": stat.S_IFIFO | 0o644}


def main(place: str) -> None:
    with Repository(place, exclusive=True) as repository:
        manifest, key = Manifest.load(repository, Manifest.NO_OPERATION_CHECK)
        with Cache(repository, key, manifest, warn_if_unencrypted=False) as cache:
            for name, entries in json.load(sys.stdin).items():
                archive = Archive(repository, key, manifest, name, cache=cache, create=True)
                for entry in entries:
                    archive.add_item(item(entry, archive, cache, key))
                archive.save()


def item(entry: dict[str, str], archive: "Archive", cache: "Cache", key: object) -> "Item":
    made = Item(uid=0, gid=0, user="root", group="root", mtime=10**18, mode=KINDS[entry.get("kind", "file")])
    fields = {"path": entry["path"]}
    if "target" in entry:
        made.mode = stat.S_IFLNK | 0o777
        fields["source"] = entry["target"]
    elif "source" in entry:
        fields["source"] = entry["source"]
    elif stat.S_ISREG(made.mode):
        data = entry.get("data", "forged\n").encode()
        made.chunks = [cache.add_chunk(key.id_hash(data), data, archive.stats)]  # type: ignore[attr-defined]
        made.hardlink_master = True
    made._dict.update(fields)  # past borg's own look at paths
    return made


if __name__ == "__main__":
    setup_logging(level="error")
    main(os.path.realpath(sys.argv[1]))
