"""Stage simulators; see docs/architecture.md."""
