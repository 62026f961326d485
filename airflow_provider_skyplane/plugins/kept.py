"""The report that a task has left in its XCom, as a page."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from skyplane_core.errors import UsageError
from skyplane_core.report.page import CONTENT_SECURITY_POLICY, notice, render
from skyplane_core.report.value import decode

HEADERS = {
    "Content-Security-Policy": f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Page(NamedTuple):
    """An answer of the web server."""

    status: int
    html: str


def page_of(value: object) -> Page:
    """The page for the value of a report's XCom; None where the task has left none."""
    if value is None:
        return Page(
            HTTPStatus.NOT_FOUND,
            notice(
                "This task has left no report. Its transfer has not started yet or still runs; or the task failed "
                "before it could start one, or was killed: look into its log."
            ),
        )
    try:
        return Page(HTTPStatus.OK, render(*decode(str(value))))
    except UsageError:
        # Any task may push an XCom of this name.
        return Page(HTTPStatus.UNPROCESSABLE_ENTITY, notice("What this task has left is no report of a transfer."))
