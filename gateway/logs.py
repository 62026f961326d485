"""A gateway's log: one JSON object a line, from all its processes into one file.

Log with the standard library: ``logger.info("peer connected", extra={"peer": "gw-1"})``. The message is the event's
name and does not vary; what varies goes into ``extra`` and comes out as ``fields``. Neither ever holds a key, a token
or a request body.
"""

from __future__ import annotations

import datetime
import logging
import sys
import traceback

import msgspec

_MAX_LINE = 32 * 1024
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, gateway, process, event, logger, fields, error."""

    def __init__(self, gateway_id: str, process: str) -> None:
        super().__init__()
        self._gateway = gateway_id
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "gateway": self._gateway,
            "process": self._process,
            "event": record.getMessage(),
            "logger": record.name,
        }
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if fields:
            line["fields"] = fields
        if record.exc_info:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))[-_MAX_LINE:]
        return msgspec.json.encode(line, enc_hook=repr).decode()


def configure(gateway_id: str, process: str, level: int = logging.INFO) -> None:
    """Send this process's log records to standard error as JSON lines. Call once in each process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(gateway_id, process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # At DEBUG and INFO these log URLs, which can be presigned, and the likes of request headers.
    for chatty in ("aiohttp", "asyncio", "awscrt", "httpcore", "httpx", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
