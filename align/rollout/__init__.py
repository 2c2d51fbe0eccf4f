"""What writes completions.

Read `engine` first (what is asked and answered), then `writer` (a share of the prompts on every rank, judged, told to
the others), `jobs` (what is written beside or instead of first completions) and `log` (what is kept on disk). `turns`
are dialogues with an environment, `steps` cut a completion into steps of reasoning. `local` writes with the model in
training, `vllm` with a server; `folder` writes texts with a saved model.
"""
