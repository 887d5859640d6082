"""Stage accounting; see docs/architecture.md."""
