"""Numbers with their uncertainty.

Read `estimate` first: every number that is told has an interval, or says why it has none.
"""
