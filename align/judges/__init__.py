"""Judges of answers: whoever says how good an answer is, or which of two is better.

Read `base` first: what a judge is asked, and what it says.
"""
