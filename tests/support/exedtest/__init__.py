# SPDX-License-Identifier: MIT
"""What the functional tests are made of: a private sshd, the simulated fleet, redis and exed itself.

Put tests/support into sys.path and `import exedtest`. Everything listens on 127.0.0.0/8 only, lives in a
directory from mktemp, ends by its pid, and ends with the test process even when that is killed.
../README.md has examples.
"""

from . import openapi
from .exed import Answer, Exed, KeyTwice
from .fleet import Fleet
from .procs import (BUILD, ROOT, Child, LeakCheck, alive, children_of, cpu_seconds, free_port,
                    status_kb, wait_until, with_marker)
from .redis import Redis
from .sshd import Host, Sshd

__all__ = ["Answer", "BUILD", "Child", "Exed", "Fleet", "Host", "KeyTwice", "LeakCheck", "ROOT", "Redis",
           "Sshd", "alive", "children_of", "cpu_seconds", "free_port", "openapi", "status_kb", "wait_until", "with_marker"]
