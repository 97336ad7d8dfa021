"""The length of a packet, as OpenPGP and eCryptfs write it."""

from usbbackup.ecryptfs.damage import DamagedError


def body(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The body of the packet that `data` begins with, and what follows it.

    Lengths have one byte or two (RFC 4880, 4.2.2; ecryptfs_parse_packet_length). Raises DamagedError where
    the packet has another tag or is not all there.
    """
    match list(data[:3]):
        case [first, size, *_] if first == tag and size < 192:
            start, end = 2, 2 + size
        case [first, high, low] if first == tag and high < 224:
            start, end = 3, 3 + (high - 192) * 256 + low + 192
        case _:
            raise DamagedError("has no such packet as belongs there")
    if end > len(data):
        raise DamagedError("has a packet that is cut off")
    return data[start:end], data[end:]
