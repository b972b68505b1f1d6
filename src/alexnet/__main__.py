"""`python -m alexnet`."""

import sys

from alexnet.command_line import main

sys.exit(main())
