"""`python -m cogstyle`: the command line."""

import sys

from cogstyle.cli.main import main

sys.exit(main())
