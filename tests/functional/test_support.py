# SPDX-License-Identifier: MIT
"""The fixtures' own tests (../support/exedtest/selftest.py), run with the suite."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest.selftest import *  # noqa: E402,F401,F403
