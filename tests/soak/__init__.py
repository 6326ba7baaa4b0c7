"""The whole service under load for as long as you like, while something breaks every twenty seconds.

`python -m tests.soak --minutes 20 --seed 1` (`make soak`). `load` is the product services that call it, `attacks`
what goes wrong, `report` the reckoning at the end: the database held against the providers' ledger. Nothing here
looks behind the doors before that.
"""
