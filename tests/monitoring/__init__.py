"""Rules, alerts, dashboards and runbooks against the service itself and against each other.

promtool evaluates the rules; metrics, settings and commands that they name must exist here.
"""
