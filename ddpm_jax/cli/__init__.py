"""The command line: flags, modes, exit status."""
