"""``python -I -m gateway``: one gateway, told on standard input what it is."""

import gc
import sys

# Nothing is garbage while all that happens is imports, and looking for it takes a tenth of their time. Each process
# turns the collector on once it has imported what it needs.
gc.disable()

from gateway.daemon import main  # noqa: E402 - see above

sys.exit(main())
