"""Writing with vLLM servers.

Read `engine` first, then `fleet` (who of several is asked), `client` (their HTTP), `server` (one that a run starts),
`placed` (in a place of its job's, where `keeper` stands), `connect` (one that runs already), `servers` (all of a run)
and `weights` (how they get the policy's).
"""
