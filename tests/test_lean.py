"""The agent does without OpenSSL, and whoever wants it later gets it."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def said(program: str) -> str:
    """What a Python says that begins from nothing."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_agent_is_imported_without_openssl() -> None:
    """None of its modules brings it back."""
    mapped = "any('libcrypto' in line for line in open('/proc/self/maps'))"
    lean = "from usbbackup.lean import without_openssl; without_openssl(); import usbbackup.agent.daemon"
    assert said(f"{lean}; print({mapped})") == "False"


def test_the_command_daemon_begins_so(tmp_path: Path) -> None:
    """Here it ends soon, for want of a configuration, with all modules imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "usbbackup", "daemon"],
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 78
    assert {"asyncio", "hashlib"} <= imported
    assert "_ssl" not in imported


def test_the_id_of_a_machine_is_the_same_with_and_without() -> None:
    """Or its folders on the drives would not be found again."""
    told = "from usbbackup.drives.host import host_id; print(host_id('0123456789abcdef' * 2))"
    assert said(f"from usbbackup.lean import without_openssl; without_openssl(); {told}") == said(told)


def test_openssl_can_be_had_afterwards() -> None:
    """For an address with https."""
    lean = "from usbbackup.lean import without_openssl; without_openssl()"
    assert said(f"{lean}; import urllib.request; print(urllib.request.HTTPSHandler.__name__)")
    assert said(f"{lean}; import ssl; print(ssl.create_default_context().check_hostname)") == "True"


def test_a_process_that_has_it_already_keeps_it() -> None:
    """As a test or a program that uses the package as a library."""
    lean = "from usbbackup.lean import without_openssl; without_openssl()"
    assert said(f"import ssl, _hashlib; {lean}; import sys; print(sys.modules['ssl'] is ssl)") == "True"
