"""``python -m vdc`` is the command ``vdc``."""

from vdc.cli import main

if __name__ == "__main__":
    main(prog_name="vdc")
