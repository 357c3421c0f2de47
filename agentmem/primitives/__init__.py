"""Ways for agents to work together, and how one is chosen.

`answer`, `review`, `vote` and `plan_execute` are the flows, over the agents of a `crew`; `plan` describes a composition
of them, and `runner` runs it. `organizer` chooses one: `knowledge` keeps which suited which tasks, and a model may be
asked (`composing`). `pte` weighs what they cost, by a `ratio` measured on the device.
"""
