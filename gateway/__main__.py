"""``python -I -m gateway``: one gateway, told on standard input what it is."""

import sys

from gateway.daemon import main

sys.exit(main())
