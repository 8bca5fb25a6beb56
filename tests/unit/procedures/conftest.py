"""Makes the formula backend of the tests of ``hil.learn`` reachable here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "learn"))
