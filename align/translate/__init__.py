"""Configs and command lines of other projects, as recipes: every key of the original is accounted for.

Read `words` first (the one table of other projects' words, in tables/, which messages of `align check` take theirs from
too), then `draft` (a recipe in the making, and what became of each key) and `whole` (from a file to a draft, in order).
`command` reads command lines, `origin` knows whose a file is, `rules` are what no single key says, `written` makes the
recipe's text.
"""
