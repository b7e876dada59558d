"""Another name of `omib_bench`, which depends on this package and never the reverse."""

import sys
from importlib import import_module

sys.modules[__name__] = import_module("omib_bench")
