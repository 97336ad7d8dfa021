"""The borg engine: one repository for each job on each drive, one archive for each run."""

import signal
from pathlib import Path
from typing import BinaryIO

from usbbackup.backup import borg_commands, borg_repository, secret
from usbbackup.backup.borg_log import Moved
from usbbackup.backup.borg_relay import END
from usbbackup.backup.borg_session import Answer, Session
from usbbackup.backup.engine import Copied, Over, Work, failed
from usbbackup.backup.secret import NO_SECRET, Secret, WaitingForSecret
from usbbackup.backup.walk import Unread
from usbbackup.errors import UsbbackupError
from usbbackup.offload import in_thread
from usbbackup.outcome import Phase, Stop
from usbbackup.programs import POLITELY
from usbbackup.running import FIRMLY, Feed, Steps

DEFAULT_ENCRYPTION = "repokey-blake2"

# The first SIGINT asks borg for a checkpoint of what it has so far, the second one ends it.
_WITH_A_CHECKPOINT: Steps = ((signal.SIGINT, 5.0), (signal.SIGINT, 25.0), *FIRMLY)


class Borg:
    """The engine of one run (engine.Engine); made anew for each, and the passphrase forgotten with it."""

    def __init__(self) -> None:
        self._secret = NO_SECRET
        self._saved = False

    async def stage(self, work: Work) -> None:
        """Get the passphrase, and make the repository at its first use."""
        if work.request.job.passcommand is not None:
            self._secret = await _passphrase(work, work.request.job.passcommand)
        if borg_repository.exists(work.job_fd):
            _same_repository(work)
        else:
            await self._make_repository(work)

    async def transfer(self, work: Work) -> Copied:
        """Make the archive."""
        unfit = Unread()

        def feed(out: BinaryIO) -> None:
            work.scan.write(Fit(out, unfit), b"/")
            out.write(END + b"\0")

        argv = borg_commands.create(work.snapshot, work.request.job.compression)
        answer = await self._ask(work, argv, feed, _WITH_A_CHECKPOINT)
        self._saved = True
        size, files = answer.counts
        return Copied(size, files, (*unfit.lines, *answer.account.unread), tuple(answer.account.notes))

    async def publish(self, work: Work) -> None:
        """Prove that the archive is there: by saving it borg made it a snapshot."""
        answer = await self._ask(work, borg_commands.info(work.snapshot))
        if answer.archives != [work.snapshot]:
            raise failed("borg does not find the new snapshot", "do not rely on it; start the job again")

    async def tidy(self, work: Work) -> None:
        """Nothing: borg leaves nothing behind."""

    async def set_aside(self, work: Work) -> None:
        """Delete an archive that is not to be relied on; what is not saved yet borg takes back by itself."""
        if self._saved:
            await self._ask(work, borg_commands.delete(work.snapshot))

    async def rehearse(self, work: Work) -> Copied:
        """Count what would be copied."""

        def walk() -> None:
            for _ in work.scan.batches():
                pass

        await in_thread(walk)
        return Copied(files=work.scan.files)

    async def _make_repository(self, work: Work) -> None:
        """Under another name until it is whole and its key is kept: half a repository is never met again."""
        await in_thread(borg_repository.remove_unfinished, work.job_fd)
        encryption = work.request.job.encryption or DEFAULT_ENCRYPTION
        await self._ask(work, borg_commands.init(encryption))
        if encryption != "none":
            key = await self._ask(work, borg_commands.export_key())
            await in_thread(borg_repository.keep_key, _key_file(work), key.stdout)
        work.check()
        await in_thread(borg_repository.put_in_place, work.job_fd)
        if (made := borg_repository.identity(work.job_fd)) is not None:
            work.request.on_repository(made)
        work.request.log(f"a new borg repository was made, encryption {encryption}")

    async def _ask(
        self, work: Work, argv: tuple[str, ...], feed: Feed | None = None, stopping: Steps = POLITELY
    ) -> Answer:
        """Run borg; `Over` unless it did what it should, and the drive is still there."""
        work.check()
        request = work.request
        session = Session(
            work.job_fd, request.programs, request.paths, self._secret, request.log, request.on_start
        )

        def moved(moved: Moved) -> None:
            work.report(Phase.TRANSFER, bytes=moved.bytes, files=moved.files)

        answer = await session.ask(argv, request.stop, feed=feed, stopping=stopping, moved=moved)
        work.check()
        if not answer.good:
            raise failed(*await session.trouble(answer, request.stop))
        return answer


class Fit:
    """The list on its way to borg, without the names that borg cannot be given.

    It reads its list with universal newlines (1.2 and 1.4): a carriage return would reach it as a newline,
    and name another file, or none.
    """

    def __init__(self, out: BinaryIO, unfit: Unread) -> None:
        self._out = out
        self._unfit = unfit

    def write(self, records: bytes) -> None:
        """Take whole records, each ended by a NUL."""
        if b"\r" in records:
            records = b"".join(record + b"\0" for record in records.split(b"\0")[:-1] if self._is_fit(record))
        self._out.write(records)

    def _is_fit(self, path: bytes) -> bool:
        if b"\r" in path:
            self._unfit.add(path, "borg cannot be given a name with a carriage return")
        return b"\r" not in path


async def snapshots(session: Session, job: str) -> list[str]:
    """The names of a job's snapshots as they were made, no incomplete ones among them.

    Raises UsbbackupError where borg cannot tell.
    """
    if not borg_repository.exists(session.job_fd):
        return []
    stop = Stop()
    answer = await session.ask(borg_commands.list_archives(job), stop)
    if not answer.good:
        raise UsbbackupError(*await session.trouble(answer, stop))
    return answer.archives


def _same_repository(work: Work) -> None:
    """borg itself knows a repository only by what it wrote at home; this holds where that was lost, too."""
    found, known = borg_repository.identity(work.job_fd), work.request.repository
    if known is not None and found != known:
        raise failed(
            "the borg repository on the drive is not the one that this job has used: somebody replaced it",
            "look at it; if it is right, enrol the drive again: "
            f"usbbackup drives enrol {work.request.target.facts.uuid}",
        )
    if known is None and found is not None:
        work.request.on_repository(found)


async def _passphrase(work: Work, passcommand: tuple[str, ...]) -> Secret:
    request = work.request
    answer = await secret.ask(passcommand, request.programs, request.clock, request.stop, request.on_start)
    work.check()
    if isinstance(answer, WaitingForSecret):
        raise Over(answer)
    return answer


def _key_file(work: Work) -> Path:
    """Where the key of the repository is kept: the name says which drive and job."""
    uuid = work.request.target.facts.uuid.replace("/", "_")
    return work.request.paths.keys / f"{uuid}-{work.request.job.name}.key"
