"""The use cases, once: functions over ports that ``Library`` and, through it, every surface calls."""
