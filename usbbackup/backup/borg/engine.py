"""The borg engine: one repository for each job on each drive, one archive for each run."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from usbbackup.backup import secret
from usbbackup.backup.borg import commands, memory, repository, reserve
from usbbackup.backup.borg.archive import Archive
from usbbackup.backup.borg.log import Moved
from usbbackup.backup.borg.relay import END
from usbbackup.backup.borg.session import Answer, Session
from usbbackup.backup.borg.trouble import DAMAGED, OLDER, WRONG_PASSPHRASE, Trouble
from usbbackup.backup.engine import Copied, Over, Work, failed
from usbbackup.backup.manifest import Manifest, Recorder
from usbbackup.backup.opened import Snapshot
from usbbackup.backup.proof import Proof, drill, verify_archives
from usbbackup.backup.prune import BorgShelf, Shelf
from usbbackup.backup.secret import NO_SECRET, Secret, WaitingForSecret
from usbbackup.backup.walk import Unread
from usbbackup.errors import UsbbackupError
from usbbackup.offload import in_thread
from usbbackup.outcome import Outcome, Phase, Result, Stop
from usbbackup.programs import POLITELY
from usbbackup.running import FIRMLY, Feed, Steps

_CHECK_SECONDS = 600  # of each slice of a check
DEFAULT_ENCRYPTION = "repokey-blake2"

# The first SIGINT asks borg for a checkpoint of what it has so far, the second one ends it.
_WITH_A_CHECKPOINT: Steps = ((signal.SIGINT, 5.0), (signal.SIGINT, 25.0), *FIRMLY)


_OLD_COPY = (
    "the borg repository was older than last time, because the last run did not end well; "
    "it was checked, and the backup went on"
)


class Failed(Over):
    """The run ends because borg failed."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(Result(Outcome.FAILED, *trouble))
        self.trouble = trouble


class Borg:
    """The engine of one run (engine.Engine); made anew for each, and the passphrase forgotten with it."""

    def __init__(self) -> None:
        self._secret = NO_SECRET
        self._unknown: str | None = None  # id of a repository that was there and is used for the first time
        self._saved = False
        self._recorder: Recorder | None = None

    async def stage(self, work: Work) -> None:
        """Get the passphrase, and make the repository at its first use."""
        if work.request.job.passcommand is not None:
            self._secret = await _passphrase(work, work.request.job.passcommand)
        if repository.exists(work.job_fd):
            _trust(work)
            if work.request.repository is None:
                self._unknown = repository.identity(work.job_fd)
        else:
            await self._make_repository(work)
        if not await work.blocking(reserve.keep, work.job_fd):
            work.request.log("the drive is too full to keep a reserve for borg on it")

    async def transfer(self, work: Work) -> Copied:
        """Make the archive."""
        try:
            return await self._copied(work)
        except Failed as failure:
            if failure.trouble is not OLDER:
                raise
            await self._forgive(work)
        copied = await self._copied(work)
        return replace(copied, notes=(_OLD_COPY, *copied.notes))

    async def _copied(self, work: Work) -> Copied:
        unfit, recorder = Unread(), Recorder(int(work.request.clock.now() * 1e9))
        self._recorder = recorder

        def feed(out: BinaryIO) -> None:
            unfit.lines.clear()
            work.scan.write(Fit(out, unfit), b"/", recorder.add)
            out.write(END + b"\0")

        argv = commands.create(work.snapshot, work.request.job.compression)
        answer = await self._ask(work, argv, feed, _WITH_A_CHECKPOINT)
        self._saved = True
        size, files = answer.counts
        return Copied(size, files, (*unfit.lines, *answer.account.unread), tuple(answer.account.notes))

    async def publish(self, work: Work) -> None:
        """Prove that the archive is there: by saving it borg made it a snapshot."""
        answer = await self._ask(work, commands.info(work.snapshot))
        if answer.archives != [work.snapshot]:
            raise failed("borg does not find the new snapshot", "do not rely on it; start the job again")
        if self._unknown is not None:
            work.request.on_repository(self._unknown)

    def seen(self) -> Manifest | None:
        """What the walk has noted."""
        return Manifest(self._recorder.flush()) if self._recorder is not None else None

    def shelf(self, work: Work) -> Shelf:
        """Its archives."""
        return BorgShelf(work.request.job.name, work.job_fd, lambda argv: self._ask(work, argv))

    async def prove(self, work: Work, sample: int | None) -> Proof | None:
        """Check a slice of the repository, restore, and compare with the originals."""
        if sample is None:
            return None
        request, session = work.request, self._session(work)
        archive = Archive(Snapshot(work.snapshot, request.job.name, "borg", None, None), session)
        checked = await verify_archives(session, [archive], request.stop, _CHECK_SECONDS)
        work.check()
        proof = await drill(archive, sample, work.drill, work.check, stop=request.stop)
        return Proof(proof.files, proof.bytes, 0, [*checked.flaws, *proof.flaws])

    async def tidy(self, work: Work) -> None:
        """Nothing: borg leaves nothing behind."""

    async def set_aside(self, work: Work) -> None:
        """Delete an archive that is not to be relied on; what is not saved yet borg takes back by itself."""
        if self._saved:
            await self._ask(work, commands.delete(work.snapshot))

    async def rehearse(self, work: Work) -> Copied:
        """Count what would be copied."""

        def walk() -> None:
            for _ in work.scan.batches():
                pass

        await in_thread(walk)
        return Copied(files=work.scan.files)

    async def _make_repository(self, work: Work) -> None:
        """Under another name until it is whole and its key is kept: half a repository is never met again."""
        await in_thread(repository.remove_unfinished, work.job_fd)
        encryption = work.request.job.encryption or DEFAULT_ENCRYPTION
        await self._ask(work, commands.init(encryption))
        await self._ask(work, commands.small_segments())
        if encryption != "none":
            key = await self._ask(work, commands.export_key())
            await in_thread(repository.keep_key, _key_file(work), key.stdout)
        work.check()
        await in_thread(repository.put_in_place, work.job_fd)
        if (made := repository.identity(work.job_fd)) is not None:
            work.request.on_repository(made)
        work.request.log(f"a new borg repository was made, encryption {encryption}")

    async def _forgive(self, work: Work) -> None:
        """Have borg go on with an older repository, where a run that was cut off is why; else `Over`."""
        work.enter(Phase.STAGE)  # a run that is refused here has not written, and is told by that
        request, identity = work.request, repository.identity(work.job_fd)
        accepted = request.repository is None  # the drive was enrolled since
        if identity is None or not (accepted or await self._was_cut_off(work)):
            raise _older(work)
        request.log("the repository is older than borg remembers: it is checked before anything is written")
        if (await self._ask(work, commands.check())).ended.code != 0:
            raise Failed(DAMAGED)
        session = self._session(work)
        moved = await in_thread(memory.set_aside, identity, session.cache, session.config, work.time)
        request.log(f"what borg remembered of it was set aside: {', '.join(map(str, moved))}")
        work.enter(Phase.TRANSFER)

    async def _was_cut_off(self, work: Work) -> bool:
        """Did the last run not end well, and is all there that was there before it?"""
        request = work.request
        if request.last_ended_well is not False:
            return False
        if request.last_snapshot is None:
            return True
        argv = commands.list_archives(*request.last_snapshot.split("@", 1))
        return (await self._ask(work, argv, as_new=True)).archives == [request.last_snapshot]

    def _session(self, work: Work) -> Session:
        request = work.request
        return Session(
            *(work.job_fd, request.programs, request.paths, self._secret),
            log=request.log,
            on_start=request.on_start,
            check=work.check,
        )

    async def _ask(
        self,
        work: Work,
        argv: tuple[str, ...],
        feed: Feed | None = None,
        stopping: Steps = POLITELY,
        *,
        as_new: bool = False,
    ) -> Answer:
        """Run borg; `Over` unless it did what it should, and the drive is still there."""

        def moved(moved: Moved) -> None:
            work.report(Phase.TRANSFER, bytes=moved.bytes, files=moved.files)

        answer = await self._session(work).attempt(
            argv, work.request.stop, feed=feed, stopping=stopping, moved=moved, as_new=as_new
        )
        if isinstance(answer, Trouble):
            raise Failed(answer)
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


class NoPassphraseError(UsbbackupError):
    """The passphrase does not open the repository, or there is none."""


async def snapshots(session: Session, job: str) -> list[str]:
    """The names of a job's snapshots as they were made, no incomplete ones among them.

    Raises UsbbackupError where borg cannot tell.
    """
    if not repository.exists(session.job_fd):
        return []
    stop = Stop()
    answer = await session.ask(commands.list_archives(job), stop, as_new=True)
    if not answer.good:
        trouble = await session.trouble(answer, stop)
        raise (NoPassphraseError if trouble is WRONG_PASSPHRASE else UsbbackupError)(*trouble)
    return answer.archives


def _trust(work: Work) -> None:
    """borg itself knows a repository only by what it wrote at home; this holds where that was lost, too."""
    found, known = repository.identity(work.job_fd), work.request.repository
    if known is not None and found != known:
        raise failed(
            "the borg repository on the drive is not the one that this job has used: somebody replaced it",
            f"look at it; {_accepting(work)}",
        )
    wanted = work.request.job.encryption or DEFAULT_ENCRYPTION
    if found is not None and wanted.startswith("repokey") and not repository.holds_key(work.job_fd):
        raise failed(
            f"the borg repository on the drive holds no key: it is not encrypted as it should be ({wanted})",
            "nothing was sent to it; somebody may have replaced it, or `encryption` was changed since",
        )


def _older(work: Work) -> Over:
    return failed(
        "the borg repository on the drive is older than last time",
        f"an old copy may have been put in its place, nothing was written to it; {_accepting(work)}",
    )


def _accepting(work: Work) -> str:
    uuid = work.request.target.facts.uuid
    return f"if it is right, enrol the drive again: usbbackup drives enrol {uuid}"


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
