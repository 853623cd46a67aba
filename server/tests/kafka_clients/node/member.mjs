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
      rebalanceTimeout: 10_000,
      timeout: 20_000,
      retries: 50,
      retryDelay: 200
    })
    consumer.on('consumer:group:join', ({ assignments }) => {
      const own = (assignments ?? []).filter(it => it.topic === options.topic)
      say.assigned(own.flatMap(it => it.partitions))
    })
    const stream = await consumer.consume({
      topics: [options.topic],
      mode: 'committed',
      fallbackMode: 'earliest',
      autocommit: false,
      maxWaitTime: 200
    })
    stream.on('error', error => console.error('stream:', error))
    stream.on('data', async message => {
      try {
        await message.commit()
        say.committed([[message.partition, Number(message.offset), message.value.toString()]])
      } catch (error) {
        console.error('not committed:', error)
      }
    })
    return () => consumer.close(true)
  }
}

const leave = await clients[client]()
for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line === 'leave') break
}
await leave()
process.exit(0)
