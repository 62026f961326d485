"""``python -m skyplane_core.testing.listserver KIND COUNT BEHIND LATENCY``: says its URL, ends with its input."""

from __future__ import annotations

import sys
import threading
import urllib.parse

from skyplane_core.testing.listserver.serve import Server


def main() -> None:
    """Serve until whoever started this closes its end, or is gone."""
    kind, count, behind, latency = sys.argv[1:]
    url = urllib.parse.urlsplit(behind)
    server = Server(kind, int(count), (url.hostname or "", url.port or 80), float(latency))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
