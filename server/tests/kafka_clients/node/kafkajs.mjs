// kafkajs, with the codecs that it leaves to other packages.

import { unpacked } from './bytes.mjs'

const TOPIC = 2

export async function connect(address, load) {
  const kafkajs = load('kafkajs')
  const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs
  const Lz4 = load('@2l/kafkajs-lz4')
  const zstd = load('@bokuweb/zstd-wasm')
  await zstd.init()
  CompressionCodecs[CompressionTypes.Snappy] = load('kafkajs-snappy')
  CompressionCodecs[CompressionTypes.LZ4] = new Lz4().codec
  // The package that kafkajs names for zstd does not build with any Node of today.
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async encoder => Buffer.from(zstd.compress(encoder.buffer, 3)),
    decompress: async buffer => Buffer.from(zstd.decompress(buffer))
  })
  const codecs = {
    none: CompressionTypes.None,
    gzip: CompressionTypes.GZIP,
    snappy: CompressionTypes.Snappy,
    lz4: CompressionTypes.LZ4,
    zstd: CompressionTypes.ZSTD
  }

  const kafka = new Kafka({
    clientId: 'interop',
    brokers: [address],
    logLevel: logLevel.NOTHING,
    retry: { retries: 3, initialRetryTime: 50 },
    requestTimeout: 20_000
  })
  const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
  const admin = kafka.admin()
  await producer.connect()
  await admin.connect()

  const partitionOf = (found, partition) => found.find(entry => entry.partition === partition)

  // Repeated keys are a list under one name, which keeps their order.
  const headersOf = pairs => {
    const headers = {}
    for (const [key, value] of pairs) {
      headers[key] = key in headers ? [headers[key], unpacked(value)].flat() : unpacked(value)
    }
    return headers
  }

  const calls = {
    codecs: async () => Object.keys(codecs),

    async produce({ topic, records, codec, acks }) {
      const told = await producer.send({
        topic,
        acks: Number(acks),
        compression: codecs[codec],
        messages: records.map(record => ({
          key: unpacked(record.key),
          value: unpacked(record.value),
          headers: headersOf(record.headers),
          partition: record.partition,
          timestamp: record.timestamp == null ? undefined : String(record.timestamp)
        }))
      })
      if (Number(acks) === 0) return null
      return Object.fromEntries(told.map(entry => [entry.partition, Number(entry.baseOffset)]))
    },

    async createTopic({ name, partitions, replication, configs, validateOnly }) {
      const made = await admin.createTopics({
        validateOnly,
        waitForLeaders: !validateOnly,
        topics: [
          {
            topic: name,
            numPartitions: partitions,
            replicationFactor: replication,
            configEntries: Object.entries(configs).map(([key, value]) => ({ name: key, value }))
          }
        ]
      })
      // Its way of telling that one is there already.
      if (!made) throw Object.assign(new Error('not made'), { type: 'TOPIC_ALREADY_EXISTS', code: 36 })
    },

    deleteTopic: ({ name }) => admin.deleteTopics({ topics: [name] }),

    createPartitions: ({ name, total, validateOnly }) =>
      admin.createPartitions({ validateOnly, topicPartitions: [{ topic: name, count: total }] }),

    async topicConfigs({ name }) {
      const found = await admin.describeConfigs({
        includeSynonyms: true,
        resources: [{ type: TOPIC, name }]
      })
      const entries = found.resources[0].configEntries
      return Object.fromEntries(entries.map(entry => [entry.configName, entry.configValue]))
    },

    alterConfigs: ({ name, configs }) =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [
          {
            type: TOPIC,
            name,
            configEntries: Object.entries(configs).map(([key, value]) => ({ name: key, value }))
          }
        ]
      }),

    async deleteRecords({ topic, partition, before }) {
      // It looks for the leader among the topics that it was asked about before.
      await admin.fetchTopicOffsets(topic)
      await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
      // It does not tell the low watermark that the broker answered with.
      return Number(partitionOf(await admin.fetchTopicOffsets(topic), partition).low)
    },

    async cluster() {
      const found = await admin.describeCluster()
      return {
        id: found.clusterId,
        controller: found.controller,
        brokers: found.brokers.map(broker => [broker.nodeId, broker.host, broker.port])
      }
    },

    topics: () => admin.listTopics(),

    async partitions({ topic }) {
      const found = await admin.fetchTopicMetadata({ topics: [topic] })
      return Object.fromEntries(found.topics[0].partitions.map(p => [p.partitionId, p.leader]))
    },

    async offsetForTime({ topic, partition, timestamp }) {
      const found = await admin.fetchTopicOffsetsByTimestamp(topic, timestamp)
      const offset = Number(partitionOf(found, partition).offset)
      // Where nothing is as late it tells the end, and not that there is nothing.
      const end = Number(partitionOf(await admin.fetchTopicOffsets(topic), partition).high)
      return offset === end ? null : offset
    },

    async watermarks({ topic, partition }) {
      const found = partitionOf(await admin.fetchTopicOffsets(topic), partition)
      return [Number(found.low), Number(found.high)]
    },

    reassign: ({ topic, partition, nodes }) =>
      admin.alterPartitionReassignments({
        topics: [{ topic, partitionAssignment: [{ partition, replicas: nodes }] }]
      }),

    async reassignments() {
      return (await admin.listPartitionReassignments({})).topics
    },

    async groups() {
      return (await admin.listGroups()).groups.map(it => it.groupId)
    },

    async groupState({ group }) {
      return (await admin.describeGroups([group])).groups[0].state
    },

    async deleteGroup({ group }) {
      try {
        await admin.deleteGroups([group])
      } catch (error) {
        // The groups' errors are beside its own.
        throw error.groups?.[0]?.error ?? error
      }
    },

    async groupOffsets({ group, topic }) {
      const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
      const known = found.partitions.filter(it => Number(it.offset) >= 0)
      return Object.fromEntries(known.map(it => [it.partition, Number(it.offset)]))
    },

    setGroupOffset: ({ group, topic, partition, offset }) =>
      admin.setOffsets({ groupId: group, topic, partitions: [{ partition, offset: String(offset) }] }),

    // What needs a producer id.

    async idempotent({ topic, turns }) {
      const careful = kafka.producer({
        idempotent: true,
        createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
        maxInFlightRequests: 1,
        retry: { retries: 20, initialRetryTime: 20, maxRetryTime: 100 }
      })
      try {
        await careful.connect()
        for (const messages of turns) await careful.send({ topic, messages })
      } finally {
        await careful.disconnect()
      }
    },

    async transaction({ topic }) {
      const careful = kafka.producer({
        transactionalId: 'interop',
        idempotent: true,
        maxInFlightRequests: 1,
        createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
        retry: { retries: 1 }
      })
      try {
        await careful.connect()
        const transaction = await careful.transaction()
        await transaction.send({ topic, messages: [{ value: 'once' }] })
        await transaction.commit()
      } finally {
        await careful.disconnect()
      }
    }
  }

  // The one that the broker sent may be wrapped: in the errors of several topics, or in what was retried.
  const failure = error => {
    const inner = error.errors?.[0] ?? error
    for (let at = inner; at; at = at.cause) {
      if (at.code > 0) return { code: at.code, text: `${at.type}: ${at.message}` }
    }
    return { code: null, text: `${inner.name}: ${inner.message}` }
  }

  return { calls, failure }
}
