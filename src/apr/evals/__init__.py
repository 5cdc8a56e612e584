"""Scores of a model: one task a file, by the name that a user types. Machinery starts with an underscore.

A task's file has `OPTIONS`, the options of `apr eval` that mean something to it, and `run`. Nothing is imported here: the
processes that run a model's code import this room, and must start in a blink.
"""
