# SPDX-License-Identifier: MIT
"""The stacks that faults.c writes, with names."""

import os
import re
import subprocess

CALLS = 2  # of those that were made to fail
FRAMES = 14
FRAME = re.compile(r"(.*)\((\S*?)\+(0x[0-9a-f]+)\)\[0x")


def names_of(program, addresses):
    """Function and place of each address of the program, without what inlining hides."""
    done = subprocess.run(["addr2line", "-f", "-s", "-e", program, *addresses], stdout=subprocess.PIPE, text=True,
                          check=False)
    lines = done.stdout.splitlines()
    return ["%s %s" % pair for pair in zip(lines[::2], lines[1::2])] or addresses


def read(path, program):
    """The first calls in the file, a text, or None. The file is removed."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
        os.unlink(path)
    except OSError:
        return None
    shown = []
    for call in re.split(r"^(?=\w+, call )", text, flags=re.M)[1:CALLS + 1]:
        title, *frames = call.splitlines()
        found = [FRAME.match(frame) for frame in frames[2:FRAMES]]
        own = [match[3] for match in found if match and match[1].endswith(program) and not match[2]]
        names = iter(names_of(program, own) if own else [])
        shown.append(title + " fails in " + ", ".join(
            next(names, "?") if match[1].endswith(program) and not match[2]
            else match[2] or os.path.basename(match[1]) for match in found if match))
    return "\n    ".join(shown) or None
