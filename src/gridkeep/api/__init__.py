"""The REST API: HTTP in front of `runs`. A top layer beside `cli`; what needs the extra `gridkeep[server]` is here only."""
