"""Metadata: which values a measurement and a dataset get, and where each one comes from."""
