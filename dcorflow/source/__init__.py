"""The source tree: what lies in it, whether it can be used, and who is who between runs."""
