"""Members of consumer groups, each in a process of its own, so that one can be killed without a word
to its group.

| part | does |
|---|---|
| `member` | starts a process and knows what it said |
| `run` | that process, for the clients in Python |
| `../node/member.mjs` | the same for those in Node |

A member reads its topic from the first record that its group has not committed, commits after every
few records, and says one thing a line: `{"assigned": [partitions]}`, all that it has now, or
`{"committed": [[partition, offset, value], …]}`, records that it was given and that are committed.
`leave` on its standard input makes it leave the group and end.
"""

from .member import Member

__all__ = ["Member"]
