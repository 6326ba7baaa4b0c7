"""Logs and metrics. Used by doors, stories and tools; imports none of ours.

No personal data comes in here: logs take ids and codes, metrics take lanes and reasons.
"""
