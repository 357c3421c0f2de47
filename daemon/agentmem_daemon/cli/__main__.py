"""`python -m agentmem_daemon.cli` is the `agentmem` command."""

from agentmem_daemon.cli import main

main()
