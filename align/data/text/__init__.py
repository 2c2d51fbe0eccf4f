"""Typed rows become text, and text becomes tokens with a mask.

Read `script` first (what is prompt, what is learned), then `tokens`, `template`, `special`; `describe` shows a row to
a reader.
"""
