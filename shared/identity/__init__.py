"""Which ids of a project are one thing: the edge log, the policy, and what follows from both."""
