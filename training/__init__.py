"""The recipe that trained agentmem's embedded model (extra ``[train]``). See README.md in this folder."""
