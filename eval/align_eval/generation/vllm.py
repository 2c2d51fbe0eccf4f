"""Placeholder of a server that is started for a model."""

from __future__ import annotations

from align.errors import UserError
from align_eval.generation.local import Local


class Served(Local):
    def __init__(self, *_: object):
        raise UserError("engine=vllm: does not write here yet")
