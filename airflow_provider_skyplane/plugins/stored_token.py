"""How a browser gets at a report on Airflow 3.0, whose user interface keeps a user's token in the browser's storage.

Later ones send it as a cookie with every request, so that a link is enough.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow.api_fastapi.core_api import security
from fastapi import HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, Response

from airflow_provider_skyplane.plugins.kept import HEADERS
from skyplane_core.report.page import CONTENT_SECURITY_POLICY

if TYPE_CHECKING:
    from fastapi import FastAPI

_SCRIPT = """
const token = localStorage.getItem("token");
if (token) {
  fetch(location.href, {headers: {Authorization: "Bearer " + token, Accept: "*/*"}}).then(async (answer) => {
    if (!answer.ok && !(answer.headers.get("Content-Type") || "").startsWith("text/html")) return;
    const page = await answer.text();
    document.open();
    document.write(page);
    document.close();
  });
}
"""
_SUM = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
# The page that is fetched is shown under this policy, too, and so can run nothing else.
_PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Transfer report</title></head>
<body><p>Only who has logged in to Airflow can see this report.</p><script>{_SCRIPT}</script></body></html>
"""
_POLICY = f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'; script-src 'sha256-{_SUM}'; connect-src 'self'"


def is_needed() -> bool:
    """Whether this Airflow looks for a token in the request's header alone."""
    return "request" not in inspect.signature(security.get_user).parameters


def fetch_with_stored_token(app: FastAPI) -> None:
    """Answer a browser that has sent no token with a page that fetches the same address with the one it has stored."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        by_browser = "text/html" in request.headers.get("Accept", "")
        if error.status_code != HTTPStatus.UNAUTHORIZED or not by_browser:
            return await http_exception_handler(request, error)
        return HTMLResponse(_PAGE, error.status_code, {**HEADERS, "Content-Security-Policy": _POLICY})
