"""The words every stage shares: catalogue, quantities, quality, wire format, settings, database, errors, command line."""

__version__ = "0.1.0"
