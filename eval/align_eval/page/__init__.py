"""The page of an evaluation: one self-contained HTML file.

Read `write` first (what goes into the template), then `sections` with `parts`, `headline` and `matrix`; `strips`,
`scatter` and `lengths` draw; `browser` puts the items into the page, and `templates/page.js` reads them. Frame,
style and what all pages of ours are made of stand in `report/parts`.
"""
