"""The site's pages that are read off the code, and the build of it: `python -m docs.generate`.

Read `hooks` first: mkdocs calls it for each page. `methods`, `settings` and `commands` make what stands in the places
of a page that are marked by `<!-- made: NAME -->`, `files` takes parts of other documents, `mathematics` sets formulas,
`comments` reads what a field means off the line where it is declared.
"""
