"""A shell has what it starts in the background ignore Ctrl-C; what tests start must not inherit that."""

import signal

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
