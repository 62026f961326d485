"""``python -I -m gateway``: one gateway, told on standard input what it is."""

import gc
import logging
import os

# Nothing is garbage while all that happens is imports, and looking for it takes a tenth of their time. Each process
# turns the collector on once it has imported what it needs.
gc.disable()

from gateway.daemon import main  # noqa: E402 - see above

status = main()
logging.shutdown()
# Not sys.exit: there is nothing left to be tidied up, and taking the interpreter apart takes longer than the rest.
os._exit(status)
