"""librdkafka as the load, beside the load generator's native and Kafka protocols: `scripts/kafka-load`.

| part | does |
|---|---|
| `__main__` | options, and the result as an exit code |
| `rounds` | which load runs when, and what one learns from the other |
| `librdkafka` | kcat as producer and as consumer, and its settings |
| `generator` | `millrace-bench` with the same batches |
| `machine` | CPUs: who runs where, who used how much, what the hypervisor held back |
| `result` | one load's figures, and the medians and spreads of many |
| `report` | the table for people and the JSON for programs |

kcat is C on librdkafka and does little else, which the clients for Python do: they would be what is
measured.
"""
