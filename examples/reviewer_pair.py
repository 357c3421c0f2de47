"""A solver and its critic: once handing over state, once text."""

from __future__ import annotations

from agentmem_client import Client, RunResult

CONTEXT = "Alice's badge is cedar-42. Omar's badge is raven-17. Alice's street is willow. Omar's street is orchid."
QUESTION = "What is Omar's badge?"


def main(client: Client) -> dict[str, RunResult]:
    results = {
        medium: client.run(
            QUESTION, primitive="review", medium=medium, context=CONTEXT, rounds=1, max_tokens=60, latent_steps=5
        )
        for medium in ("latent", "text")
    }
    for medium, result in results.items():
        print(f"{medium}: {result.text.strip()}")
        for role in result.roles:
            print(
                f"  {role.role}: {role.generated_tokens} tokens written, {role.latent_steps} latent steps, "
                f"{role.prefill_tokens} tokens read, {role.saved_tokens} remembered, {role.seconds:.2f} s"
            )
        for note in result.notes:
            print(f"  {note}")
    return results


if __name__ == "__main__":
    with Client() as client:
        main(client)
