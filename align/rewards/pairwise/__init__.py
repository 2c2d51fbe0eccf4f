"""Rewards that ask who beats whom among the completions of a prompt.

Read `win_rate` first, the reward; `oracle` has what can say who wins, and what holds it to adding up.
"""
