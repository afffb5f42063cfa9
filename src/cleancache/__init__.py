"""One bounded pool of spare RAM between slow storage and everything that reads it again.

`cleancache.open(url)` opens a file through the cache, `cleancache.connect(stack)` gives a pool to put pages into. Everything else is
loaded at first use, so that `import cleancache` stays cheap.
"""

from __future__ import annotations

__version__ = "0.1.0"
