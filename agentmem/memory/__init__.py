"""Agents and their timelines: what is remembered, where it is, and how a turn is added to it."""
