"""The command line as a test uses it."""

import json
from typing import Any

from typer.testing import CliRunner

from hil.cli import app


def hil(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object that it printed last ({} if it printed nothing), and what it said beside."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    return done.exit_code, json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}, done.stderr
