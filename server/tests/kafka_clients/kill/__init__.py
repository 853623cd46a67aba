"""SIGKILL under real Kafka clients that run on: `scripts/kafka-kill`.

| part | does |
|---|---|
| `__main__` | options, and the result as an exit code |
| `rounds` | kills and restarts the broker, and says what has to hold meanwhile |
| `ledger` | decides whether what clients were told and given is true; knows no client |
| `records` | what is sent, derived from the seed, in Python as in `node/kill_producer.mjs` |
| `producers`, `consumers` | the clients, each in a thread or process of its own for the whole run |
| `report` | the summary at the end |
"""
