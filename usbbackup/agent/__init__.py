"""The daemon: who is alive, which jobs run, and what is told to systemd and to the command line."""
