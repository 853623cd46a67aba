"""SIGKILL under real Kafka clients that run on: `scripts/kafka-kill`.

| part | does |
|---|---|
| `__main__` | options, and the result as an exit code |
| `rounds` | kills and restarts the broker, and says what has to hold meanwhile |
| `group_rounds` | the same with idempotent producers and groups, whose members come and go meanwhile |
| `ledger` | decides whether what clients were told and given is true; knows no client |
| `records` | what is sent, derived from the seed, in Python as in `node/kill_producer.mjs` |
| `producers`, `consumers` | the clients, each in a thread or process of its own for the whole run |
| `commits` | decides whether what a group's members read and committed can be; knows no client |
| `member` | one member of a group, a process that tells what happens to it |
| `members` | starts, kills, stops and hears the members |
| `report` | the summary at the end |
"""
