"""Ways for agents to work together, and how one is chosen.

`answer`, `review`, `vote` and `plan_execute` are the flows, over the agents of a `crew`; `plan` describes a composition
of them, `knowledge` keeps which ones suited which tasks, `pte` weighs what they cost.
"""
