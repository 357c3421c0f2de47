"""Ways for agents to work together, and how one is chosen. So far, what needs no engine.

`plan` describes a composition, `knowledge` keeps which ones suited which tasks, `pte` weighs what they cost.
"""
