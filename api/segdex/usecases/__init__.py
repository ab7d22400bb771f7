"""Use cases: functions over ports, which every interface calls through ``Library``."""
