"""The coordinator's state machines: leases, retries, journal, receipt. They take events and a clock, and do no I/O."""
