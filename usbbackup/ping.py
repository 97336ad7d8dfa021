"""Asks for an address, as a program of its own: the agent then carries neither HTTP nor TLS, and never waits.

The address comes on standard input, since whoever knows it can speak for this machine.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

TRIES = (0.0, 2.0, 10.0)  # seconds before each
TIME_LIMIT = 10.0  # seconds for each


def main() -> int:
    """Read `{"url", "text"}` from standard input and post the text; 1 and a line where nobody takes it."""
    wish = json.load(sys.stdin)
    refused = ask(wish["url"], wish["text"], _post)
    if refused is not None:
        print(refused, file=sys.stderr)
    return 0 if refused is None else 1


def ask(
    url: str, text: str, post: Callable[[str, bytes], None], pause: Callable[[float], None] = time.sleep
) -> str | None:
    """Try until it is taken; None, or why it was not, without the address."""
    refused = ""
    for seconds in TRIES:
        pause(seconds)
        try:
            post(url, text.encode())
        except OSError as error:  # also what urllib raises, and a server that says no
            refused = str(error if hasattr(error, "code") else getattr(error, "reason", None) or error)
        else:
            return None
    return refused.replace(url, "the address")


def _post(url: str, body: bytes) -> None:
    from urllib.request import Request, urlopen

    request: Any = Request(url, body, {"User-Agent": "usbbackup", "Content-Type": "text/plain"})  # noqa: S310 - the configuration takes http and https only
    with urlopen(request, timeout=TIME_LIMIT) as answer:  # noqa: S310 - as above
        answer.read(1)


if __name__ == "__main__":
    sys.exit(main())
