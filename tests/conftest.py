"""A shell has what it starts in the background ignore Ctrl-C; programs that tests interrupt must not."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
