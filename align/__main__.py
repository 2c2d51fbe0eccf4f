"""`python -m align` is the command `align`; launchers start it so: `accelerate launch ... -m align train RECIPE`."""

import sys

from align.cli import main

sys.exit(main())
