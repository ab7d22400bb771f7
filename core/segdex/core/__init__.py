"""Values, ports and adapters that ingest and search share."""
