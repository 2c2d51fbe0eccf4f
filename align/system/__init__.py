"""The machine beneath: files, sums, the terminal.

Read `files` first (the one way to write), `sums`, `terminal` (the one way to print what is not ours); `machine` and
`trees` put what goes wrong into words, `origins` finds the files that code from outside is made of,
`coroutines` awaits what it returns, `orphans` are processes that end with who has started them, and `yaml12` reads and
writes YAML.
"""
