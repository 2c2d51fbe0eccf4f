"""Stands for a vLLM server that writes with the model it is given, on the CPU: a completion at a time, by its seed."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

COMMAND = f"{sys.executable} {Path(__file__)}"
NAME = "policy"


class Speaker:
    """What is served, and under which label."""

    def __init__(self, folder: str):
        self.lock = threading.Lock()
        self.label = "default"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.read(folder)

    def read(self, folder: str) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        apart = Path(folder, "tied.safetensors")  # vLLM reads every file of the folder, whatever its name
        if apart.exists():
            self.model.load_state_dict(load_file(apart), strict=False)

    def answer(self, path: str, body: Any) -> Any:
        with self.lock:
            return self.answers()[path.partition("?")[0]](body)

    def answers(self) -> dict[str, Any]:
        return {
            "/health": lambda _: {},
            "/weight_info": lambda _: {"weight_version": self.label},
            "/update_weight_version": lambda body: setattr(self, "label", body["new_version"]),
            "/collective_rpc": lambda body: self.read(body["kwargs"]["weights_path"]),
            "/reset_prefix_cache": lambda _: {},
            "/detokenize": lambda body: {"prompt": self.tokenizer.decode(body["tokens"], skip_special_tokens=False)},
            "/v1/completions": self.complete,
        }

    @torch.no_grad()
    def complete(self, body: Any) -> Any:
        """Log-probabilities under the temperature, as `--logprobs-mode processed_logprobs` has them."""
        draw = torch.Generator().manual_seed(body["seed"])
        tokens, logps = list(body["prompt"]), list[float]()
        for _ in range(body["max_tokens"]):
            logits = self.model(torch.tensor([tokens])).logits[0, -1] / body["temperature"]
            told = logits.log_softmax(-1)
            tokens.append(int(torch.multinomial(told.exp(), 1, generator=draw)))
            logps.append(float(told[tokens[-1]]))
            if tokens[-1] in body["stop_token_ids"]:
                break
        written = tokens[len(body["prompt"]) :]
        ended = "stop" if written[-1] in body["stop_token_ids"] else "length"
        choice = {"token_ids": written, "logprobs": {"token_logprobs": logps}, "finish_reason": ended}
        return {"choices": [{**choice, "stop_reason": None}]}


def main(words: list[str]) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    speaker = Speaker(words[words.index("--model") + 1])

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            known = self.path.partition("?")[0] in speaker.answers()
            body = json.loads(self.rfile.read(length)) if length else None
            content = json.dumps(speaker.answer(self.path, body) if known else {"detail": "no such path"}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _do

        def log_message(self, *words: Any) -> None:
            pass

    place = (words[words.index("--host") + 1], int(words[words.index("--port") + 1]))
    ThreadingHTTPServer(place, Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
