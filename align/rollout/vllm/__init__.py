"""Writing with a vLLM server.

Read `engine` first, then `client` (its HTTP), `server` (one that a run starts), `connect` (one that runs already) and
`weights` (how it gets the policy's).
"""
