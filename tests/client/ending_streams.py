"""Runs commands, each in a fork whose standard streams are closed, full or without a reader."""

import json
import os
import sys
import tempfile

from segdex.cli import models
from segdex.cli.main import main


def give(descriptor: int, kind: str, noted: int) -> None:
    """Make a standard stream of a kind: ``noted`` in a file, ``closed``, ``full`` or ``unread``."""
    if kind == "closed":
        os.close(descriptor)
        return
    if kind == "unread":
        reader, target = os.pipe()
        os.close(reader)
    else:
        target = os.open("/dev/full", os.O_WRONLY) if kind == "full" else noted
    os.dup2(target, descriptor)


def ended(arguments: list[str], out: str, err: str) -> tuple[int, str, str]:
    """Return the exit code, and what was noted of standard output and error."""
    with tempfile.TemporaryFile() as of_out, tempfile.TemporaryFile() as of_err:
        child = os.fork()
        if child == 0:
            give(1, out, of_out.fileno())
            give(2, err, of_err.fileno())
            sys.stdout, sys.stderr = (
                None if kind == "closed" else open(number, "w", closefd=False)  # noqa: SIM115
                for number, kind in ((1, out), (2, err))
            )
            main(arguments)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        of_out.seek(0)
        of_err.seek(0)
        return code, of_out.read().decode(), of_err.read().decode()


COMMANDS = (models,)  # imported once, for all runs

if __name__ == "__main__":
    print(json.dumps([ended(*case) for case in json.loads(sys.argv[1])]))  # noqa: T201
