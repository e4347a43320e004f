"""`python -m railstream.cli` is `railstream`."""

import sys

from railstream.cli.app import main

sys.exit(main())
