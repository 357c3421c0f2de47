"""The flow of each type of node."""

from __future__ import annotations

from agentmem.primitives.answer import answer
from agentmem.primitives.flow import Flow
from agentmem.primitives.plan_execute import plan_execute
from agentmem.primitives.review import review
from agentmem.primitives.vote import vote

FLOWS: dict[str, Flow] = {"answer": answer, "review": review, "vote": vote, "plan_execute": plan_execute}
