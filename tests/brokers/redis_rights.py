"""The least that a user of Redis needs to carry hints and budgets: what docs/brokers.md tells an operator to set."""

KEYS = ("v1.*", "_kombu.binding.*", "unacked*", "notifier:*")
COMMANDS = (
    # a connection
    *("ping", "client|setinfo", "select"),
    # queues, and messages that are in a worker's hands
    *("lpush", "rpush", "brpop", "llen", "exists", "hset", "hget", "hdel", "zadd", "zrem", "zrevrangebyscore"),
    *("sadd", "smembers", "multi", "exec", "watch", "unwatch", "set", "get", "del"),
    # budgets, and the lock with which Celery gives back what nobody has acknowledged
    *("evalsha", "script|load", "time", "hmget", "pexpire"),
    # the gauge of its memory
    "info",
)


def rule(user: str, password: str) -> str:
    """As `ACL SETUSER` and an ACL file take it."""
    keys = " ".join(f"~{key}" for key in KEYS)
    commands = " ".join(f"+{command}" for command in COMMANDS)
    return f"{user} on >{password} resetkeys {keys} resetchannels -@all {commands}"
