"""What all tests begin with: signals as a shell's user has them, and no example that fails for being slow."""

import signal

from hypothesis import settings

# A shell has what it starts in the background ignore Ctrl-C; what tests start must not inherit that.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

settings.register_profile("any machine", deadline=None)  # timings belong into bench/
settings.load_profile("any machine")
