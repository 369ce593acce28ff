"""What people ask for: submit, look, collect, verify, stop, delete. The CLI, the API and the pages call these and
nothing below."""
