"""Private text: find it in everything that would be published, and replace it."""
