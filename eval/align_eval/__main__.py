"""`python -m align_eval` is the command `align-eval`."""

import sys

from align_eval.cli import main

sys.exit(main())
