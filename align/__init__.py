"""A hub of alignment methods: preference data, demonstrations, prompts and rewards in, an aligned model out."""

__version__ = "0.1.0"
