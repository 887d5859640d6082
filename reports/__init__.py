"""The report a base files: one data object gathered from the figures' views, and docx, xlsx, pdf, html and json made from it."""
