"""Models behind OpenAI-compatible endpoints.

Read `completions` first: what is asked and what comes back, many side by side. `endpoint` is the HTTP below it, and
`speaker` is a model there that judges.
"""
