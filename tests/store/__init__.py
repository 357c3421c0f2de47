"""Tests of agentmem.store, on real files."""
