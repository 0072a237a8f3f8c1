"""A module whose import takes until the file ``go`` is there."""

import os
import time
from pathlib import Path

Path("importing").write_text(str(os.getpid()))
while not Path("go").exists():
    time.sleep(0.05)
