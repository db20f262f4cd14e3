"""Diagnosis: rules over what the cluster says, for `why`, `doctor` and the checks of `submit`.

evidence reads each part of the cluster once, when a rule asks for it; rules/ has the rules, table their order; why makes one verdict of
what they find.
"""
