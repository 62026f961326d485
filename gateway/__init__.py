"""The gateway daemon: ``python -m gateway``. It is started as a process and never imported by the engine."""
