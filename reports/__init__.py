"""The report a base files: one data object from the figures' views; docx, xlsx, pdf, html and json made from it."""
