"""`specbatch why`: one verdict on a Job, with the remedy.

gather reads everything once, the rules (a module for each family of causes) judge what was read, judge makes one verdict of it.
"""
