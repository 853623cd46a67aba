// One member of a consumer group: `node member.mjs CLIENT FOLDER-OF-MODULES OPTIONS`. `members` says what
// it does and what it says.

import { createRequire } from 'node:module'
import path from 'node:path'
import readline from 'node:readline'

const [client, modules, text] = process.argv.slice(2)
const load = createRequire(path.join(modules, 'member.cjs'))
const options = JSON.parse(text)
const HEARTBEATS = 6

const write = line => process.stdout.write(JSON.stringify(line) + '\n')
// Neither a failure in the background nor a library's talk may end the process or mix into its lines.
console.log = console.info = console.error
process.on('unhandledRejection', error => console.error('unhandled:', error))

const say = {
  assigned: partitions => write({ assigned: [...partitions].sort((a, b) => a - b) }),
  committed: records => write({ committed: records })
}

// Each begins to read and gives what makes it leave.
const clients = {
  async kafkajs() {
    const { Kafka, logLevel } = load('kafkajs')
    const kafka = new Kafka({
      clientId: 'member',
      brokers: [options.address],
      logLevel: logLevel.NOTHING,
      retry: { retries: 20, maxRetryTime: 1_000, initialRetryTime: 50 }
    })
    const consumer = kafka.consumer({
      groupId: options.group,
      sessionTimeout: options.session_ms,
      heartbeatInterval: Math.floor(options.session_ms / HEARTBEATS),
      rebalanceTimeout: 10_000,
      maxWaitTimeInMs: 200,
      retry: { retries: 20, maxRetryTime: 1_000, initialRetryTime: 50 }
    })
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
      say.assigned(payload.memberAssignment[options.topic] ?? [])
    )
    await consumer.connect()
    await consumer.subscribe({ topics: [options.topic], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch, resolveOffset }) => {
        const { topic, partition } = batch
        const end = BigInt(batch.lastOffset()) + 1n
        await consumer.commitOffsets([{ topic, partition, offset: String(end) }])
        resolveOffset(batch.lastOffset())
        say.committed(batch.messages.map(it => [partition, Number(it.offset), it.value.toString()]))
      }
    })
    return () => consumer.disconnect()
  },

  async platformatic() {
    const { Consumer } = load('@platformatic/kafka')
    const consumer = new Consumer({
      clientId: 'member',
      bootstrapBrokers: [options.address],
      groupId: options.group,
      ...(options.instance ? { groupInstanceId: options.instance } : {}),
      sessionTimeout: options.session_ms,
      heartbeatInterval: Math.floor(options.session_ms / HEARTBEATS),
      // It takes none below the session's.
      rebalanceTimeout: Math.max(10_000, options.session_ms),
      timeout: 20_000,
      retries: 50,
      retryDelay: 200
    })
    // The partitions, each with where it goes on; null: where the group has come to.
    let owned = new Map()
    consumer.on('consumer:group:join', ({ assignments }) => {
      const own = (assignments ?? []).filter(it => it.topic === options.topic)
      owned = new Map(own.flatMap(it => it.partitions).map(partition => [partition, null]))
      say.assigned(owned.keys())
    })
    consumer.topics.track(options.topic)
    await consumer.joinGroup({})
    // Its streams name topics in Fetch by their ids, which this broker does not read yet; so it fetches as
    // the driver does, and commits by hand.
    let leaving = false
    const reading = (async () => {
      while (!leaving) {
        const now = owned
        for (const partition of now.keys()) await readOne(consumer, now, partition)
        await new Promise(resolve => setTimeout(resolve, 50))
      }
    })()
    return async () => {
      leaving = true
      await reading
      await consumer.leaveGroup()
      await consumer.close(true)
    }
  }
}

// Reads on in a partition of @platformatic/kafka's, and commits what it has read.
async function readOne(consumer, owned, partition) {
  const { topic } = options
  try {
    if (owned.get(partition) === null) {
      const known = await consumer.listCommittedOffsets({ topics: [{ topic, partitions: [partition] }] })
      const offset = known.get(topic)[partition] ?? known.get(topic).at(-1)
      owned.set(partition, offset < 0n ? 0n : offset)
    }
    const from = owned.get(partition)
    const { topics } = await consumer.metadata({ topics: [topic] })
    const response = await consumer.fetch({
      node: topics.get(topic).partitions[partition].leader,
      maxWaitTime: 50,
      minBytes: 1,
      topics: [
        {
          topicId: topic,
          partitions: [
            {
              partition,
              currentLeaderEpoch: -1,
              fetchOffset: from,
              lastFetchedEpoch: -1,
              partitionMaxBytes: 1_000_000
            }
          ]
        }
      ]
    })
    const batches = response.responses[0]?.partitions[0].records ?? []
    const records = batches
      .flatMap(batch => batch.records.map(it => [batch.firstOffset + BigInt(it.offsetDelta), it.value]))
      .filter(([offset]) => offset >= from)
    if (records.length === 0) return
    const end = records.at(-1)[0] + 1n
    await consumer.commit({ offsets: [{ topic, partition, offset: end, leaderEpoch: -1 }] })
    owned.set(partition, end)
    say.committed(records.map(([offset, value]) => [partition, Number(offset), value.toString()]))
  } catch (error) {
    // It reads on from where it was, or where the group has come to by then.
    console.error('not read or not committed:', String(error))
  }
}

const leave = await clients[client]()
for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line === 'leave') break
}
await leave()
process.exit(0)
