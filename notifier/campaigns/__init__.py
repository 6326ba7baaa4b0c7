"""A template and an audience come in; the deliveries of one chunk after another go out.

`schedule` accepts a campaign and changes it, `walk` makes its deliveries at its pace, `read` and
`estimate` tell what came of it and what would. From there its deliveries travel like all others in
`notifier.delivery`. This room never calls a provider, and never holds a campaign in memory: the row
says how far it has come, so that any walker can go on where another was killed.
"""
