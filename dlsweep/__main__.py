"""``python -m dlsweep``."""

from dlsweep.cli.main import main

if __name__ == "__main__":
    main()
