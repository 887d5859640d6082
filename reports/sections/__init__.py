"""One module a section of the report; each turns a context into a section of the data object."""
