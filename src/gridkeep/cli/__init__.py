"""The command line: `main` maps names to commands, one file for each; a command parses, calls `runs`, prints."""
