"""``python -m vds``: the same as ``vds``."""

from vds.cli import main

if __name__ == "__main__":
    main()
