"""Stage collectors; see docs/architecture.md."""
