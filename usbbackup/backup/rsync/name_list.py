"""The list of names that rsync copies, and what each line of it means.

- each has `/` before it: names that begin with `#` or `;` are dropped otherwise, even with --from0;
- it is relative to the directory that all sources have in common: rsync opens every path part by part, and
  reads its list byte by byte, so that short names save a quarter of its time;
- a directory of which everything is wanted has `/` after it: rsync then lists it by itself, one level. This
  is only safe where none of its files is there: in links rsync would change what older snapshots share.
"""


def whole(directory: bytes, start: int) -> bytes:
    """The line for a directory and what is in it, one level; `start` characters of its path are left out."""
    own = directory[start:]
    return b"/%b/" % own if own else b"./"


def single(path: bytes, start: int) -> bytes | None:
    """The line for one entry; None for `base` itself and what is above, which rsync cannot be given alone."""
    own = path[start:]
    return b"/" + own if own else None
