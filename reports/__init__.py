"""Stage reports; see docs/architecture.md."""
