"""What the paper's figures and tables show as numbers, and why ours may differ; shown beside results, never used."""
