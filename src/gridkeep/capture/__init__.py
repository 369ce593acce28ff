"""What a process tree writes, seen from outside: no root, no change to the program, any language.

`session.Session(folder).start(launch)` executes a command under capture; its `records` are the journal, its `end` the record of the
run. The shim behind it knows no store and no catalog. Other ways to see (a C shim, watching folders) write the same journal.
"""

from __future__ import annotations
