"""The command line: `railstream up`, `gateway`, `worker` and the commands around them."""

from railstream.cli.app import main

__all__ = ["main"]
