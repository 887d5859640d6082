"""Stage grafana; see docs/architecture.md."""
