"""A hub of alignment methods: preference data and demonstrations in, an aligned model out."""

__version__ = "0.1.0"
