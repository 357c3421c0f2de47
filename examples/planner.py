"""A planner and three executors. The planner alone has read the context; the others go on from its state."""

from __future__ import annotations

from agentmem_client import Client, RunResult

CONTEXT = "Alice's badge is cedar-42. Omar's badge is raven-17. Alice's street is willow. Omar's street is orchid."
QUESTION = "What is Alice's street?"


def main(client: Client) -> RunResult:
    result = client.run(QUESTION, primitive="plan_execute", executors=3, context=CONTEXT, max_tokens=60, latent_steps=5)
    print(result.text.strip())
    for role in result.roles:
        print(
            f"{role.agents} {role.role}: {role.generated_tokens} tokens written, {role.latent_steps} latent steps, "
            f"{role.prefill_tokens} tokens read, {role.saved_tokens} remembered, {role.seconds:.2f} s"
        )
    for note in result.notes:
        print(note)
    return result


if __name__ == "__main__":
    with Client() as client:
        main(client)
