"""Compress and repack one measurement: body, tail, history."""
