"""``python -m dlsweep``."""

from dlsweep.cli import main

if __name__ == "__main__":
    main()
