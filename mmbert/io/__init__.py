"""Downloads, the cache on disk, atomic writes."""
