"""Evaluation: did it help, and how sure is that."""
