"""Three solvers with seeds of their own, and a selector. The question is read, and thought about, once."""

from __future__ import annotations

from agentmem_client import Client, RunResult

CONTEXT = "Felix's sensor is 7319. Nadia's sensor is 2741. Felix's island is Tuesday. Nadia's island is Friday."
QUESTION = "What is Nadia's sensor?"


def main(client: Client) -> RunResult:
    with client.run(
        QUESTION, primitive="vote", solvers=3, context=CONTEXT, max_tokens=60, latent_steps=5, seed=1, stream=True
    ) as run:
        said: dict[str, str] = {}
        for progress in run:
            said[progress.agent] = said.get(progress.agent, "") + progress.text
    for agent, text in said.items():
        if text:
            print(f"{agent}: {text.strip()}")
    solvers = next(role for role in run.result.roles if role.role == "solver")
    print(f"The solvers remembered {solvers.saved_tokens} tokens, and read {solvers.prefill_tokens}.")
    for note in run.result.notes:
        print(note)
    return run.result


if __name__ == "__main__":
    with Client() as client:
        main(client)
