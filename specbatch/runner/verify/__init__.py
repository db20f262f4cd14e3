"""`specbatch verify`: a sample of rows replayed with the target alone."""
