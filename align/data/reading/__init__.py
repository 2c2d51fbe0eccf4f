"""Files become typed rows, whatever their columns are called.

Read `sources` first, then `rows`; `pairs`, `columns`, `messages`, `texts`, `calls` and `notation` are the forms that
cells come in.
"""
