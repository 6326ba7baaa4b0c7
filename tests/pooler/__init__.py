"""The whole service behind a real PgBouncer in transaction mode (`make pooler`)."""
