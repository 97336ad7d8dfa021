"""The kinds of entries that the journal gets, each with the identity that its explanation is found by.

`journalctl MESSAGE_ID=...` finds all entries of a kind; `journalctl -x` explains them from usbbackup.catalog.
"""

import logging
from enum import StrEnum

from usbbackup.outcome import Outcome


class Message(StrEnum):
    """MESSAGE_ID (systemd.journal-fields(7)); never changed once it was given out."""

    READY = "6c951a40b0f44fa49e9415d4f68ae099"
    GIVES_UP = "02409afcfcc2478cb56a846c5b322f7a"
    NO_LANDLOCK = "8cfc10f0348d4595b3e2381002132ee5"
    CONFIGURATION_TAKEN = "f0d66b9b00d346d7b604ada3284d99ab"
    CONFIGURATION_REFUSED = "7ee171784a98469abe9a66e2249c4855"
    HISTORY_TROUBLE = "8aafa3a60fa244ca925fd622761d52a2"
    LOG_TROUBLE = "dd58f7edc21a43c2b9779713d92d6149"
    DRIVE_READY = "33fc9f4e507e4bb3ac89e3e92375e4a8"
    DRIVE_NOT_READY = "f2805b51d5684fa9a91d565398cabb43"
    DRIVE_GONE = "330d4f50078f4eb59ddc4fff05b39bd8"
    RUN_BEGINS = "598146213c38444f8389b11389578c97"
    RUN_SUCCEEDED = "dd44140c672448bfbdfb0204a862aaf6"
    RUN_WARNED = "ce7e22593fd445e8bc59655b5ad9a230"
    RUN_FAILED = "59d07ac206a949e093763950071c75fc"
    RUN_INTERRUPTED = "69a2d12d8ef940aa8176718ce41213f1"
    RUN_CANCELLED = "4a7003d397694bb6bcfbb99b839af5fe"
    RUN_SKIPPED = "72d227368bec44c4be86ac706e2e94f7"
    RUN_OUTPUT = "cdc7af0e0e5e41678c7c760ee380646b"


# How loud the end of a run is (the levels of `logging`), and what kind of entry.
OF_OUTCOME = {
    Outcome.SUCCESS: (logging.INFO, Message.RUN_SUCCEEDED),
    Outcome.WARNING: (logging.WARNING, Message.RUN_WARNED),
    Outcome.FAILED: (logging.ERROR, Message.RUN_FAILED),
    Outcome.INTERRUPTED: (logging.WARNING, Message.RUN_INTERRUPTED),
    Outcome.CANCELLED: (logging.INFO, Message.RUN_CANCELLED),
    Outcome.SKIPPED: (logging.INFO, Message.RUN_SKIPPED),
}
