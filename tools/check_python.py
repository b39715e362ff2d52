"""Say in one line what is missing before an environment is made."""

import importlib.util
import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit(
        f"Speechmill needs Python 3.11 or 3.12, this is {sys.version.split()[0]}; try `make env PYTHON=python3.12`."
    )
if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
    sys.exit("This Python cannot make environments; on Debian or Ubuntu: sudo apt-get install python3-venv")
