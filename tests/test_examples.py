"""The examples run on the model that ships with agentmem, and its answers are right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agentmem_client import Client

from examples import interrogation, planner, reviewer_pair, router, vote
from tests.helpers.forked import ForkedDaemon


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    daemon = ForkedDaemon(tmp_path_factory.mktemp("examples"))
    with daemon.start() as client:
        yield client
        assert not list(client.agents())
    daemon.stop()


def test_five_phases_compute_nothing_again(client: Client) -> None:
    phases = interrogation.main(client)
    assert len(phases) == 5
    assert [phase.again for phase in phases] == [0] * 5
    for phase, value in zip(phases, ("cedar-42", "orchid", "raven-17", "willow", "raven-17"), strict=True):
        assert value in phase.answer
        assert phase.read < 40 < phase.remembered
    assert not list(client.agents(interrogation.NAMESPACE))


@pytest.mark.slow
def test_reviewer_pair(client: Client) -> None:
    results = reviewer_pair.main(client)
    assert all("raven-17" in result.text for result in results.values())
    assert results["latent"].generated_tokens < results["text"].generated_tokens
    assert (results["latent"].latent_steps, results["text"].latent_steps) == (10, 0)


@pytest.mark.slow
def test_vote(client: Client) -> None:
    assert "2741" in vote.main(client).text


@pytest.mark.slow
def test_planner(client: Client) -> None:
    result = planner.main(client)
    assert "willow" in result.text
    assert [role.agents for role in result.roles][:2] == [1, 3]


@pytest.mark.slow
def test_router(client: Client) -> None:
    answers = router.main(client)
    assert {person: name for person, (name, _) in answers.items()} == {
        person: name for name, (person, _) in router.EXPERTS.items()
    }
    assert all(router.EXPERTS[name][1] in said for name, said in answers.values())
    assert not list(client.agents(router.NAMESPACE))
