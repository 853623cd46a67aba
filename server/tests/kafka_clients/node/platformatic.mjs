// @platformatic/kafka.

import { packed, unpacked } from './bytes.mjs'

const TOPIC = 2
const SET = 0
const DELETE = 1
const FIRST_FETCH_WITH_TOPIC_IDS = 13

export async function connect(address, load) {
  const { Admin, Consumer, Producer, compressionsAlgorithms } = load('@platformatic/kafka')
  const common = {
    clientId: 'interop',
    bootstrapBrokers: [address],
    timeout: 20_000,
    retries: 2,
    retryDelay: 100
  }
  const producer = new Producer(common)
  const admin = new Admin(common)
  // Its group is never joined: `fetch` and the offset calls need none.
  const consumer = new Consumer({ ...common, groupId: 'none' })

  const metadata = topic => admin.metadata({ topics: [topic], forceUpdate: true })

  const offsetAt = async (topic, partition, timestamp) => {
    const found = await admin.listOffsets({
      topics: [{ name: topic, partitions: [{ partitionIndex: partition, timestamp: BigInt(timestamp) }] }]
    })
    return Number(found[0].partitions[0].offset)
  }

  async function fetchOnce(topic, partition, offset, maxWait) {
    const { topics } = await consumer.metadata({ topics: [topic] })
    const apis = await consumer.listApis()
    const newest = apis.find(api => api.name === 'Fetch').maxVersion
    return consumer.fetch({
      node: topics.get(topic).partitions[partition].leader,
      maxWaitTime: maxWait,
      minBytes: 1,
      topics: [
        {
          // Until that version the broker reads a name here, and the library sends what it is given.
          topicId: newest < FIRST_FETCH_WITH_TOPIC_IDS ? topic : topics.get(topic).id,
          partitions: [
            {
              partition,
              currentLeaderEpoch: -1,
              fetchOffset: BigInt(offset),
              lastFetchedEpoch: -1,
              partitionMaxBytes: 4_000_000
            }
          ]
        }
      ]
    })
  }

  function* recordsOf(response, from) {
    for (const batch of response.responses[0]?.partitions[0].records ?? []) {
      for (const record of batch.records) {
        const offset = Number(batch.firstOffset) + record.offsetDelta
        // Whole batches come; what lies before the asked offset is the reader's to leave out.
        if (offset < from) continue
        yield {
          offset,
          key: packed(record.key),
          value: packed(record.value),
          headers: record.headers.map(([key, value]) => [key.toString(), packed(value)]),
          timestamp: Number(batch.firstTimestamp + record.timestampDelta)
        }
      }
    }
  }

  const calls = {
    codecs: async () =>
      Object.entries(compressionsAlgorithms)
        .filter(([, algorithm]) => algorithm.available)
        .map(([name]) => name),

    async produce({ topic, records, codec, acks }) {
      const told = await producer.send({
        acks: Number(acks),
        compression: codec,
        messages: records.map(record => ({
          topic,
          key: unpacked(record.key) ?? undefined,
          value: unpacked(record.value) ?? undefined,
          headers: new Map(record.headers.map(([key, value]) => [Buffer.from(key), unpacked(value)])),
          partition: record.partition,
          timestamp: record.timestamp == null ? undefined : BigInt(record.timestamp)
        }))
      })
      if (Number(acks) === 0) return null
      return Object.fromEntries(told.offsets.map(entry => [entry.partition, Number(entry.offset)]))
    },

    async read({ topic, partition, start, count, reset, maxWait, patience }) {
      const named = { earliest: -2, latest: -1 }
      let at = start in named ? await offsetAt(topic, partition, named[start]) : start
      const end = Date.now() + patience
      const received = []
      while (received.length < count) {
        if (Date.now() > end) return null
        try {
          const response = await fetchOnce(topic, partition, at, maxWait)
          received.push(...recordsOf(response, at))
        } catch (error) {
          // Starting anew where the offset is not there is its streams' work, not that of `fetch`.
          if (!error.findBy?.('apiCode', 1) || !(reset in named)) throw error
          at = await offsetAt(topic, partition, named[reset])
        }
        at = received.at(-1)?.offset + 1 || at
      }
      return received.slice(0, count)
    },

    async createTopic({ name, partitions, replication, configs }) {
      await admin.createTopics({
        topics: [name],
        partitions,
        replicas: replication,
        configs: Object.entries(configs).map(([key, value]) => ({ name: key, value }))
      })
    },

    deleteTopic: ({ name }) => admin.deleteTopics({ topics: [name] }),

    createPartitions: ({ name, total, validateOnly }) =>
      admin.createPartitions({ validateOnly, topics: [{ name, count: total }] }),

    async topicConfigs({ name }) {
      const found = await admin.describeConfigs({
        resources: [{ resourceType: TOPIC, resourceName: name, configurationKeys: null }]
      })
      return Object.fromEntries(found[0].configs.map(entry => [entry.name, entry.value]))
    },

    alterConfigs: ({ name, configs }) =>
      admin.alterConfigs({
        resources: [
          {
            resourceType: TOPIC,
            resourceName: name,
            configs: Object.entries(configs).map(([key, value]) => ({ name: key, value }))
          }
        ]
      }),

    incrementalAlterConfigs: ({ name, setTo, backToDefault, validateOnly }) =>
      admin.incrementalAlterConfigs({
        validateOnly,
        resources: [
          {
            resourceType: TOPIC,
            resourceName: name,
            configs: [
              ...Object.entries(setTo).map(([key, value]) => ({ name: key, configOperation: SET, value })),
              ...backToDefault.map(key => ({ name: key, configOperation: DELETE, value: null }))
            ]
          }
        ]
      }),

    async deleteRecords({ topic, partition, before }) {
      const found = await admin.deleteRecords({
        topics: [{ name: topic, partitions: [{ partition, offset: BigInt(before) }] }]
      })
      return Number(found[0].partitions[0].lowWatermark)
    },

    async cluster() {
      const found = await admin.metadata({ topics: [] })
      return {
        id: found.id,
        controller: found.controllerId ?? null,
        brokers: [...found.brokers].map(([id, broker]) => [id, broker.host, broker.port])
      }
    },

    topics: () => admin.listTopics(),

    async partitions({ topic }) {
      const found = (await metadata(topic)).topics.get(topic)
      return Object.fromEntries(found.partitions.map((partition, index) => [index, partition.leader]))
    },

    async logDirs({ topic }) {
      const partitions = (await metadata(topic)).topics.get(topic).partitions.map((_, index) => index)
      const found = await admin.describeLogDirs({ topics: [{ name: topic, partitions }] })
      const sizes = {}
      for (const folder of found.flatMap(broker => broker.results)) {
        for (const entry of folder.topics) {
          for (const partition of entry.partitions) {
            sizes[partition.partitionIndex] = Number(partition.partitionSize)
          }
        }
      }
      return sizes
    },

    async offsetForTime({ topic, partition, timestamp }) {
      const offset = await offsetAt(topic, partition, timestamp)
      return offset < 0 ? null : offset
    },

    async watermarks({ topic, partition }) {
      return [await offsetAt(topic, partition, -2), await offsetAt(topic, partition, -1)]
    },

    async groups() {
      return [...(await admin.listGroups()).keys()]
    },

    async groupState({ group }) {
      return (await admin.describeGroups({ groups: [group] })).get(group).state
    },

    deleteGroup: ({ group }) => admin.deleteGroups({ groups: [group] }),

    async groupOffsets({ group, topic }) {
      const found = await admin.listConsumerGroupOffsets({ groups: [group] })
      const partitions = found[0].topics.filter(it => it.name === topic).flatMap(it => it.partitions)
      return Object.fromEntries(partitions.map(it => [it.partitionIndex, Number(it.committedOffset)]))
    },

    setGroupOffset: ({ group, topic, partition, offset }) =>
      admin.alterConsumerGroupOffsets({
        groupId: group,
        topics: [{ name: topic, partitionOffsets: [{ partition, offset: BigInt(offset) }] }]
      }),

    // What needs a producer id.

    async idempotent({ topic, turns }) {
      const careful = new Producer({ ...common, idempotent: true, retries: 20, retryDelay: 20 })
      const message = ({ value, partition }) => ({ topic, value: Buffer.from(value), partition })
      try {
        for (const records of turns) await careful.send({ messages: records.map(message) })
      } finally {
        await careful.close()
      }
    },

    async transaction({ topic }) {
      const careful = new Producer({ ...common, idempotent: true, transactionalId: 'interop', retries: 2 })
      try {
        const transaction = await careful.beginTransaction()
        await transaction.send({ messages: [{ topic, value: Buffer.from('once'), partition: 0 }] })
        await transaction.commit()
      } finally {
        await careful.close()
      }
    }
  }

  // What the broker sent lies under the error of the call, and under that of its retries.
  const codeOf = error => {
    if (!error) return null
    if (error.apiCode > 0) return error.apiCode
    for (const inner of [...(error.errors ?? []), error.cause]) {
      const code = codeOf(inner)
      if (code) return code
    }
    return null
  }
  const textOf = error =>
    [error.message, ...(error.errors ?? []).map(textOf), error.serverErrorMessage].filter(Boolean).join(': ')

  return { calls, failure: error => ({ code: codeOf(error), text: textOf(error) }) }
}
