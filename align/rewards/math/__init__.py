"""Whether a final answer is right, be it a word, a number or a formula.

Read `math_answer` first, the reward; `answers` finds what was answered, `numerals` and `formulas` compare it.
"""
