"""Upload to DCOR: drafts, transfer, verification, activation, and the proof of it."""
