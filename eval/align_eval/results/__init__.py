"""What an evaluation found: results.json with a version, and its tables.

Read `document` first (what stands in results.json), then `reading` (how it is checked, written and read), `families`
(p-values that belong together), `tables`.
"""
