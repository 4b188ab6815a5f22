"""The command `partnerface`, with one subcommand per file.

A subcommand parses options, calls the other packages and prints. It may import everything, and imports heavy modules
only when it runs.
"""
