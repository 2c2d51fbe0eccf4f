"""Symbols that many formulas share: each page lists those that its own have, and does not explain itself."""

from __future__ import annotations

import re

BLOCK = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
EARNED = "what a completion earned: the sum of the reward functions, after `reward.shape`"
SYMBOLS: dict[str, tuple[str, str]] = {  # the symbol -> how a formula has it, what it means
    r"\pi": (
        r"\\pi(?=\(|\\left)",
        "the policy as it is now. Of a token it is the probability after the prompt and all tokens before; of a whole "
        "answer the product over its tokens",
    ),
    r"\pi_\mathrm{old}": (
        r"\\pi_\\mathrm\{old\}",
        "the policy that wrote, as it was before the steps on this experience",
    ),
    r"\pi_\mathrm{ref}": (r"\\pi_\\mathrm\{ref\}", "the frozen reference"),
    "y_w": ("y_w", "the chosen answer of a pair"),
    "y_l": ("y_l", "the rejected answer of a pair"),
    "y_{i,t}": (r"y_\{i,[ts]\}", "token $t$ of the completion or demonstration of row $i$ of the step"),
    "y_i": (r"y_i\b", "the completion of row $i$ of the step"),
    "j": (r"[yR]_j\b", "a completion of the same prompt as $i$"),
    "|y|": (r"\|y(_i)?\|", "the number of tokens of the answer"),
    r"\mathrm{reward}": (r"\\mathrm\{reward\}_i", EARNED),
    "R": (r"\bR(_|\b)", EARNED),
    r"\mathrm{mean}(R)": (r"\\mathrm\{mean\}\(R\)", "the mean of $R$ over all completions of the same prompt"),
    r"\mathrm{std}(R)": (
        r"\\mathrm\{std\}\(R\)",
        "their standard deviation: the squares are divided by the number of completions less 1",
    ),
    r"\mathrm{mean}(\hat{A})": (
        r"\\mathrm\{mean\}\(\\hat",
        r"the mean of $\hat{A}_t$ over all tokens of the experience",
    ),
    r"\mathrm{std}(\hat{A})": (r"\\mathrm\{std\}\(\\hat", "their standard deviation"),
    "V_t": (r"\bV_(t|\{i,t\})", "what the critic expects from token $t$ on, as it is now"),
    r"V^\mathrm{old}_t": (
        r"V\^\\mathrm\{old\}",
        "the same of the critic as it was when the completion was written; 0 after the last token",
    ),
    "N": (r"\{N\}", "the number of tokens to learn from in the whole step"),
    r"\sigma(x)": (r"\\sigma", "$1 / (1 + e^{-x})$"),
    r"\mathrm{clip}(x, a, b)": (r"\\mathrm\{clip\}", "$x$, but at least $a$ and at most $b$"),
    r"\mathrm{sg}": (r"\\mathrm\{sg\}", "what has no gradient: a number like any other in the step"),
}


def shared(page: str) -> dict[str, str]:
    """Symbol -> meaning, of those in the formulas of a page that neither its words nor its equations explain."""
    formulas, words = " ".join(BLOCK.findall(page)), BLOCK.sub("", page)

    def explained(symbol: str) -> bool:
        sign = re.escape(symbol)
        in_words = re.search(rf"\${sign}\$\s+(is|are)\b", words)
        return bool(in_words or re.search(rf"(^|quad|\n)\s*{sign}(_i)? =", formulas))

    return {s: told for s, (form, told) in SYMBOLS.items() if re.search(form, formulas) and not explained(s)}


def legend(page: str) -> str:
    """The list of them; nothing where there are none."""
    return "".join(f"- ${symbol}$: {told}.\n" for symbol, told in shared(page).items())
