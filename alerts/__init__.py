"""Stage alerts; see docs/architecture.md."""
