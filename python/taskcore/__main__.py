"""`python -m taskcore` is the `taskcore` command."""

from taskcore.cli import main

if __name__ == "__main__":
    main(prog_name="python -m taskcore")
