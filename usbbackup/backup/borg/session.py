"""borg commands on one repository, run in their sandbox, and what came of them."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from usbbackup.backup.borg import commands, reserve
from usbbackup.backup.borg.log import Account, Moved, Said, understand
from usbbackup.backup.borg.repository import lock_holders, stand_in
from usbbackup.backup.borg.trouble import LOCKED, PIPE, Trouble, good, is_full, trouble, unknown
from usbbackup.backup.engine import unless
from usbbackup.backup.secret import NO_SECRET, Secret
from usbbackup.folders import closing
from usbbackup.offload import in_thread
from usbbackup.outcome import Stop
from usbbackup.paths import Paths
from usbbackup.programs import POLITELY, Ended, Lines, Program, Programs
from usbbackup.running import Feed, Sink, Steps
from usbbackup.sandbox import Sandbox


@dataclass(frozen=True)
class Answer:
    """What one borg command came to."""

    ended: Ended
    account: Account
    stdout: bytes

    @property
    def good(self) -> bool:
        """Did borg do what it should, perhaps with warnings?"""
        return good(self.ended.code)

    @property
    def archives(self) -> list[str]:
        """The names of the archives that it tells of."""
        match self._json:
            case {"archives": list(archives)}:
                names = [archive.get("name") for archive in archives if isinstance(archive, dict)]
                return [name for name in names if isinstance(name, str)]
        return []

    @property
    def counts(self) -> tuple[int | None, int | None]:
        """Bytes and files of the archive that was made."""
        match self._json:
            case {"archive": {"stats": {"original_size": int(size), "nfiles": int(files)}}}:
                return size, files
        return None, None

    @property
    def _json(self) -> object:
        try:
            return json.loads(self.stdout)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Session:
    """Everything that the borg commands of one job on one drive have in common.

    The drive's identity is proven, by whoever opened `job_fd`: a repository that is mounted elsewhere than
    last time is therefore welcome.
    """

    job_fd: int
    programs: Programs
    paths: Paths
    secret: Secret = NO_SECRET
    log: Callable[[str], None] = lambda _: None
    on_start: Callable[[int, int], None] | None = None
    check: Callable[[], None] = lambda: None  # raises where the drive is no longer the one that was proven
    locking: bool = True  # False: nothing is written to the repository, not even a lock

    @property
    def elsewhere(self) -> str:
        """The repository as a program finds it that runs in another directory, and was given `job_fd`."""
        return f"/proc/self/fd/{self.job_fd}/{commands.REPOSITORY}"

    @property
    def cache(self) -> Path:
        """borg's cache, which is ours."""
        return self.paths.cache / "borg"

    @property
    def config(self) -> Path:
        """borg's configuration and memory, which are the user's own."""
        return self.paths.config.parent / "borg"

    async def ask(
        self,
        argv: tuple[str | bytes, ...],
        stop: Stop,
        *,
        feed: Feed | None = None,
        stopping: Steps = POLITELY,
        moved: Callable[[Moved], None] = lambda _: None,
        as_new: bool = False,
        on_stdout: Sink | None = None,
        into: int | None = None,
    ) -> Answer:
        """Run one command. Raises UsbbackupError where there is no borg, OSError where home is full.

        `as_new`: borg shall know nothing of the repository, and learn nothing; only to read from it.
        `on_stdout` takes what it prints, which the answer then lacks. `into`: an open directory that it runs
        in and may write to; the repository is then `elsewhere`.
        """
        account, stdout = Account(), bytearray()

        def hear(line: bytes) -> None:
            event = understand(line)
            account.hear(event)
            match event:
                case Moved():
                    moved(event)
                case Said(level, text):
                    self.log(
                        f"borg: {text}" if level in ("TEXT", "INFO") else f"borg: {level.lower()}: {text}"
                    )

        with self._program(argv, feed, stopping, as_new, into) as program:
            ended = await self.programs.run(
                program,
                stop=stop,
                on_stdout=on_stdout or stdout.extend,
                on_stderr=Lines(hear),
                on_start=self.on_start,
            )
        account.close()
        return Answer(ended, account, bytes(stdout))

    async def attempt(
        self,
        argv: tuple[str, ...],
        stop: Stop,
        *,
        feed: Feed | None = None,
        stopping: Steps = POLITELY,
        moved: Callable[[Moved], None] = lambda _: None,
        as_new: bool = False,
    ) -> Answer | Trouble:
        """As `ask`, for a good answer from the drive that was proven, looked at before and after.

        On a full drive borg gets the reserve, and tries once more.
        """
        self.check()
        answer = await self.ask(argv, stop, feed=feed, stopping=stopping, moved=moved, as_new=as_new)
        self.check()
        if answer.good:
            return answer
        found = await self.trouble(answer, stop)
        if not is_full(found) or not await unless(stop, in_thread(reserve.give_back, self.job_fd)):
            return found
        self.log("the drive is full: borg gets the room that was kept for it, and tries once more")
        return await self.attempt(argv, stop, feed=feed, stopping=stopping, moved=moved, as_new=as_new)

    async def trouble(self, answer: Answer, stop: Stop) -> Trouble:
        """What a command that is not good means."""
        if answer.ended.waited:
            return PIPE
        found = trouble(answer.ended.code, answer.account)
        if found is LOCKED and (holders := lock_holders(self.job_fd)):
            return Trouble(f"{LOCKED.message} by {', '.join(holders)}", LOCKED.hint)
        if found is None and answer.account.msgid is None and answer.ended.code == 2:
            found = await self._wrong_borg(stop)  # as a borg answers that does not know our options
        return found or unknown(answer.ended.how, answer.account)

    async def _wrong_borg(self, stop: Stop) -> Trouble | None:
        answer = await self.ask(commands.version(), stop)
        version = answer.stdout.decode(errors="replace").strip()
        return (
            None
            if commands.is_supported(version)
            else Trouble(
                f"'{version}' is installed, and usbbackup works with borg 1.2 to 1.4", "nothing was changed"
            )
        )

    @contextlib.contextmanager
    def _program(
        self,
        argv: tuple[str | bytes, ...],
        feed: Feed | None,
        stopping: Steps,
        as_new: bool,
        into: int | None,
    ) -> Iterator[Program]:
        cache, config = self.cache, self.config
        with contextlib.ExitStack() as opened:
            passphrase = opened.enter_context(self.secret.readable())
            places = [opened.enter_context(closing(_own(directory))) for directory in (cache, config)]
            (cache / "tmp").mkdir(mode=0o700, exist_ok=True)
            env = commands.environment(cache, config, passphrase, relocated_ok=True)
            if as_new:
                memory = opened.enter_context(tempfile.TemporaryDirectory(dir=cache / "tmp"))
                env |= commands.strangers(Path(memory))
            where = self.job_fd
            if not self.locking:
                place = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=cache / "tmp")))
                where = opened.enter_context(closing(_own(stand_in(self.job_fd, place))))
                argv = tuple(_instead(word, self.elsewhere, place) for word in argv)
            yield Program(
                argv,
                env=env,
                package=commands.PACKAGE,
                cwd_fd=where if into is None else into,
                pass_fds=(passphrase, self.job_fd),
                stdin=feed,
                sandbox=Sandbox((where, *places, *(() if into is None else (into,)))),
                gentle=True,
                stopping=stopping,
                opens_pipes=False,
            )


def _instead(word: str | bytes, repository: str, place: Path) -> str | bytes:
    """The word of an argument list, of another repository."""
    return word.replace(repository, f"{place}/{commands.REPOSITORY}") if isinstance(word, str) else word


def _own(directory: Path) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
