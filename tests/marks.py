"""Why a test cannot run everywhere: one mark a reason."""

import os
import signal
import sys

import pytest

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals, sessions and inherited files of POSIX")
needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
needs_file_limits = pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited there")
