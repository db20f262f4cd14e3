"""How a run stands, from its small files."""
