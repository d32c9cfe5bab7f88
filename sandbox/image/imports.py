"""Imports all of the standard library that both builds of the sandbox image have; a missing module is an ImportError."""

import importlib
import sys

NOT_ON_LINUX = "_msi _overlapped _scproxy _winapi msilib msvcrt nt winreg winsound".split()
NO_SCREEN = "_tkinter idlelib tkinter turtle turtledemo".split()
"""Removed from the build from the hub, since Debian has them in other packages."""
NOT_IMPORTED = "antigravity this".split()
"""`antigravity` opens a browser, `this` prints."""

for name in sorted(sys.stdlib_module_names.difference(NOT_ON_LINUX, NO_SCREEN, NOT_IMPORTED)):
    importlib.import_module(name)
for name in NO_SCREEN:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise ImportError(f"only one build of the image has {name}")
