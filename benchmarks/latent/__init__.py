"""Agents that work together by state and by text: what they get right, and what it costs."""
