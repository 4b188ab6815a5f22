"""The command `partnerface`, one subcommand a file.

A subcommand parses, calls and prints. It may import everything, and imports heavy modules only when it runs.
"""
