"""The page of an evaluation: one self-contained HTML file.

Read `write` first (what goes into the template), then `sections` with `parts`, `headline` and `matrix`; `strips`,
`scatter` and `lengths` draw; `browser` and `embedded` put the items into the page, and `templates/page.js` reads them.
"""
