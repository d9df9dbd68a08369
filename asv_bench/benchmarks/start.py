"""How long a user waits before anything happens."""

import subprocess
import sys

WORDS = {
    "bare interpreter": ["-c", "pass"],
    "import daml": ["-c", "import daml"],
    "daml --help": ["-m", "daml", "--help"],
}


class Start:
    """A fresh interpreter each time."""

    params = list(WORDS)
    param_names = ["what"]

    def time_start(self, what):
        subprocess.run([sys.executable, *WORDS[what]], check=True, capture_output=True)
