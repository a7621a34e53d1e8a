"""Discover: from source tree and settings to inventory, batches and plans."""
