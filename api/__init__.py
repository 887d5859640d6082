"""Stage api; see docs/architecture.md."""
