"""Ten experts, and a router who says which of them to ask.

All experts are forks of one agent who has read what everybody knows: that is computed, and kept, once. Each has then
read what it alone knows. The router knows who knows what.
"""

from __future__ import annotations

from agentmem_client import Client

NAMESPACE = "example-router"
HOUSE_RULES = "The door code is 4711. The meeting room is lantern."
EXPERTS = {
    "falcon": ("Alice", "cedar-42"),
    "otter": ("Omar", "raven-17"),
    "badger": ("Felix", "7319"),
    "lynx": ("Nadia", "2741"),
    "heron": ("Greta", "maple-8"),
    "raven": ("Hugo", "topaz"),
    "tiger": ("Lena", "5520"),
    "walrus": ("Marco", "jade-31"),
    "beetle": ("Ruth", "comet"),
    "sparrow": ("Tom", "9034"),
}
"""By name: whose badge an expert knows, and what it is."""


def main(client: Client) -> dict[str, tuple[str, str]]:
    """For each person: the expert that the router named, and what it said."""
    client.create_namespace(NAMESPACE)
    forget_all(client)  # what an earlier run left that was cut short
    base, router = client.agent("base", NAMESPACE), client.agent("router", NAMESPACE)
    base.append([{"role": "user", "content": HOUSE_RULES}])
    for name, (person, badge) in EXPERTS.items():
        expert = base.fork(name)
        expert.append([{"role": "user", "content": f"{person}'s badge is {badge}."}])
    for name, (person, _) in EXPERTS.items():
        router.append([{"role": "user", "content": f"{person}'s expert is {name}."}])

    answers = {}
    for person, _ in EXPERTS.values():
        route = router.chat(f"What is {person}'s expert?", max_tokens=30).text
        named = [name for name in EXPERTS if name in route]
        if len(named) != 1:
            print(f"{person}: the router names no one expert: {route.strip()}")
            continue
        reply = client.agent(named[0], NAMESPACE).chat(f"What is {person}'s badge?", max_tokens=30)
        answers[person] = named[0], reply.text.strip()
        print(f"{person}: {named[0]} says: {reply.text.strip()}")
    everyone = client.agent("walrus", NAMESPACE).chat("What is the door code?", max_tokens=30)
    print(f"What everybody knows: {everyone.text.strip()}")
    forget_all(client)
    return answers


def forget_all(client: Client) -> None:
    for info in list(client.agents(NAMESPACE)):
        client.agent(info.name, NAMESPACE).delete()


if __name__ == "__main__":
    with Client() as client:
        main(client)
