"""Values, rules and ports that every other package shares."""
