"""`specbatch submit`: everything is checked first, then the Job is found or made."""
