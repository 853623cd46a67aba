// The kafkajs producer of `scripts/kafka-kill`: sends with acks -1 until its standard input ends, however
// often the broker goes away. Each line of standard output is one batch that was acknowledged,
// `{"partition": …, "baseOffset": …, "numbers": [the records in it, in order]}`, or one send that kafkajs
// gave up, `{"failed": why, "records": how many}`.
//   node kill_producer.mjs FOLDER-OF-MODULES ADDRESS TOPIC PRODUCER SEED PARTITIONS

import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import path from 'node:path'

const [modules, address, topic, producerName, seed, partitions] = process.argv.slice(2)
const load = createRequire(path.join(modules, 'driver.cjs'))
const { Kafka, logLevel, Partitioners } = load('kafkajs')

// Sends under way at a time; each has a few records for any partitions.
const SENDERS = 4
const MOST_RECORDS = 12
const MOST_PAUSE_MS = 20

// What `kill/records.py` derives: the same bytes from the same seed, name and number.
const drawn = (name, size) => createHash('shake128', { outputLength: size }).update(name).digest()
function record(number) {
  const name = `${seed}/${producerName}/${number}`
  const head = drawn(name, 4)
  const size = head.readUInt16BE(0) % (head[3] > 253 ? 60_000 : head[3] > 230 ? 4_000 : 300)
  return {
    key: `${producerName}:${number}`,
    value: drawn(name, 4 + size).subarray(4),
    partition: head[2] % Number(partitions)
  }
}

const kafka = new Kafka({
  clientId: 'kill',
  brokers: [address],
  logLevel: logLevel.NOTHING,
  // Its own five tries are given up after nine seconds, which a start after a crash may take.
  retry: { retries: 20, maxRetryTime: 2_000 }
})
const producer = kafka.producer({
  createPartitioner: Partitioners.DefaultPartitioner,
  idempotent: false,
  allowAutoTopicCreation: false
})

let stopping = false
let next = 0
let draws = 0
const draw = most =>
  (drawn(`${seed}/${producerName}/draw ${draws++}`, 4).readUInt32BE(0) / 2 ** 32) * most
const print = line => process.stdout.write(JSON.stringify(line) + '\n')

async function sendOnce() {
  const numbers = Array.from({ length: 1 + Math.floor(draw(MOST_RECORDS)) }, () => next++)
  const messages = numbers.map(record)
  let told
  try {
    told = await producer.send({ topic, acks: -1, messages })
  } catch (error) {
    print({ failed: String(error.message ?? error), records: numbers.length })
    return
  }
  // After it has found its broker anew, what kafkajs tells can begin with an answer that never came.
  for (const { partition, baseOffset } of told.filter(Boolean)) {
    print({
      partition,
      baseOffset,
      numbers: numbers.filter((_, place) => messages[place].partition === partition)
    })
  }
}

async function sender() {
  while (!stopping) {
    await sendOnce()
    await new Promise(resolve => setTimeout(resolve, draw(MOST_PAUSE_MS)))
  }
}

// Without a listener a client's failure in the background would end the process.
process.on('unhandledRejection', error => console.error('kafkajs, unhandled:', error))
process.stdin.on('end', () => (stopping = true)).resume()
await producer.connect()
await Promise.all(Array.from({ length: SENDERS }, sender))
await producer.disconnect()
process.stdin.destroy()
