"""PostgreSQL, the truth: the only room that knows SQL or a table name.

In come values of `notifier.domain`, out go rows as small dataclasses. Statements are set-based
(`unnest`, `= ANY`), named, and stand beside the function that runs them. Nothing here knows a
provider, a queue or HTTP, and no transaction stays open while anybody outside is asked.
"""
