"""How long a user waits before anything happens."""

import subprocess
import sys


class Start:
    """A fresh interpreter each time."""

    params = ["pass", "import daml", "from daml.cli import main"]
    param_names = ["statement"]

    def time_interpreter(self, statement):
        subprocess.run([sys.executable, "-c", statement], check=True)

    def time_help(self, statement):
        if statement != "pass":
            raise NotImplementedError
        subprocess.run([sys.executable, "-m", "daml", "--help"], check=True, capture_output=True)
